//! The registry itself, Debian's docker-registry, and Podman's service as the engine: children that die with the test.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::process::{Child, Command, Stdio};

use super::place::Place;
use crate::common::{tools, wait};

pub(crate) struct Registry {
    child: Child,
    pub(crate) address: SocketAddr,
}

/// A command whose process is killed when the thread that starts it ends.
pub(crate) fn mortal(program: &str) -> Command {
    tools::need(&[program]);
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", program]);
    command
}

/// Runs a tool that must succeed.
pub(crate) fn tool(program: &str, arguments: &[&str]) -> String {
    let mut command = tools::command(program);
    // Where skopeo looks for credentials otherwise, an ordinary user may not even look.
    command.args(arguments).stdin(Stdio::null()).env("XDG_RUNTIME_DIR", std::env::temp_dir());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Makes a certificate that is its own authority, `NAME.pem`, and its key, `NAME.key`.
pub(crate) fn certificate(place: &Place, name: &str, arguments: &[&str]) {
    let path = |end: &str| place.path(&format!("{name}.{end}")).display().to_string();
    let (key, certificate) = (path("key"), path("pem"));
    let make = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", &key, "-out", &certificate];
    tool("openssl", &[&make[..], arguments].concat());
}

impl Registry {
    /// Open to all, without TLS.
    pub(crate) fn open(place: &Place) -> Self {
        Self::start(place, "", "")
    }

    /// Open to all, without TLS, with more of its configuration, in YAML.
    pub(crate) fn configured(place: &Place, more: &str) -> Self {
        Self::start(place, more, "")
    }

    /// For user `me` with the password `secret`.
    pub(crate) fn with_password(place: &Place) -> Self {
        let file = place.path("htpasswd");
        fs::write(&file, tool("htpasswd", &["-Bbn", "me", "secret"])).unwrap();
        let auth = format!("auth: {{htpasswd: {{realm: test, path: {:?}}}}}", file.display().to_string());
        Self::start(place, &auth, "")
    }

    /// With TLS, by a certificate of an authority that nobody knows: its own is `ca.pem` in the place.
    pub(crate) fn with_tls(place: &Place) -> Self {
        Self::with_tls_and(place, "")
    }

    /// The same, with more to say of how it is reached.
    pub(crate) fn with_tls_and(place: &Place, more: &str) -> Self {
        let path = |name: &str| place.path(name).display().to_string();
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];
        let (ca, ca_key) = (path("ca.pem"), path("ca.key"));
        let own = ["req", "-x509", "-keyout", &ca_key, "-out", &ca, "-subj", "/CN=authority", "-days", "2"];
        tool("openssl", &[&own[..], &key].concat());
        let (request, server_key, server) = (path("server.csr"), path("server.key"), path("server.pem"));
        let ask = ["req", "-new", "-keyout", &server_key, "-out", &request, "-subj", "/CN=registry"];
        tool("openssl", &[&ask[..], &key].concat());
        fs::write(place.path("names"), "subjectAltName=IP:127.0.0.1,DNS:localhost\n").unwrap();
        let names = path("names");
        let sign = ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-out", &server];
        tool("openssl", &[&sign[..], &["-days", "2", "-extfile", &names]].concat());
        Self::start(place, "", &format!(", tls: {{certificate: {server:?}, key: {server_key:?}}}{more}"))
    }

    /// With TLS, by a certificate that nobody but itself has signed, `server.pem` in the place, made with these
    /// arguments of `openssl req`. With `client`, for those only who have a certificate by the one of that name.
    pub(crate) fn self_signed(place: &Place, arguments: &[&str], client: Option<&str>) -> Self {
        certificate(place, "server", arguments);
        Self::with_certificate(place, client)
    }

    /// The same, by a `server.pem` that is there.
    pub(crate) fn with_certificate(place: &Place, client: Option<&str>) -> Self {
        let path = |name: &str| place.path(name).display().to_string();
        let clients =
            client.map(|name| format!(", clientcas: [{:?}]", path(&format!("{name}.pem")))).unwrap_or_default();
        let tls = format!(", tls: {{certificate: {:?}, key: {:?}{clients}}}", path("server.pem"), path("server.key"));
        Self::start(place, "", &tls)
    }

    fn start(place: &Place, more: &str, http: &str) -> Self {
        // What puts images there, too: asked for before there are threads that wait for them.
        tools::need(&["docker-registry", "skopeo"]);
        let store = place.path("registry").display().to_string();
        let configuration = format!(
            "version: 0.1\nlog: {{level: info}}\nstorage: {{filesystem: {{rootdirectory: {store:?}}}}}\n\
             http: {{addr: '127.0.0.1:0'{http}}}\n{more}\n"
        );
        let file = place.path("registry.yml");
        fs::write(&file, configuration).unwrap();
        let mut child = mortal("docker-registry")
            .arg("serve")
            .arg(&file)
            .env("OTEL_TRACES_EXPORTER", "none")
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        // It says where it listens, and must be let speak for as long as it lives.
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = String::new();
        let address = lines.by_ref().map(Result::unwrap).find_map(|line| {
            said += &format!("{line}\n");
            let rest = line.split_once("listening on ")?.1;
            rest.split(['"', ',']).next()?.trim().parse().ok()
        });
        let address = address.unwrap_or_else(|| panic!("the registry ended: {said}"));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    /// `127.0.0.1:PORT/NAME`
    pub(crate) fn name(&self, name: &str) -> String {
        format!("{}/{name}", self.address)
    }

    /// `docker://127.0.0.1:PORT/NAME`
    pub(crate) fn image(&self, name: &str) -> String {
        format!("docker://{}", self.name(name))
    }

    /// Puts an image there, as it is.
    pub(crate) fn put(&self, source: &str, name: &str, more: &[&str]) {
        let to = self.image(name);
        let arguments = ["--insecure-policy", "copy", "-q", "--all", "--dest-tls-verify=false"];
        tool("skopeo", &[&arguments[..], more, &[source, &to]].concat());
    }

    /// What skopeo says the digest of an image is.
    pub(crate) fn digest(&self, name: &str) -> String {
        let format = "{{.Digest}}";
        let to = self.image(name);
        tool("skopeo", &["inspect", "--tls-verify=false", "--format", format, &to]).trim().to_owned()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Podman's service, an engine with a store of its own below `root` and `runroot` of the place.
pub(crate) struct Engine(Child);

impl Engine {
    /// It listens at `socket` in the place.
    pub(crate) fn start(place: &Place) -> Self {
        let socket = place.path("socket");
        let child = mortal("podman")
            .args(Self::store(place))
            .args(["system", "service", "--time", "0", &format!("unix://{}", socket.display())])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut engine = Self(child);
        // It answers as soon as it listens.
        wait::while_it_runs(&mut engine.0, "the engine does not listen", || UnixStream::connect(&socket).is_ok());
        engine
    }

    /// The options of podman that name its store.
    pub(crate) fn store(place: &Place) -> Vec<String> {
        let path = |name: &str| place.path(name).display().to_string();
        let options = ["--root", &path("root"), "--runroot", &path("runroot"), "--storage-driver", "vfs"];
        [&options[..], &["--cgroup-manager", "cgroupfs"]].concat().into_iter().map(str::to_owned).collect()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
