//! Finds containerd's `hosts.toml` of a registry: in a directory with one for each, by its name.

use std::path::Path;

use super::read_if_there;
use crate::configuration::ConfigurationError;
use crate::configuration::hosts::Hosts;

const FILE: &str = "hosts.toml";
/// The directory for registries that have none.
const DEFAULT: &str = "_default";

/// What the file for a registry (`HOST[:PORT]`) says; nothing if there is none.
pub(crate) fn load_hosts(directory: &Path, registry: &str) -> Result<Hosts, ConfigurationError> {
    let underlined = registry.rsplit_once(':').map(|(host, port)| format!("{host}_{port}_"));
    for name in [Some(registry), underlined.as_deref(), Some(DEFAULT)].into_iter().flatten() {
        let path = directory.join(name).join(FILE);
        if let Some(text) = read_if_there(&path)? {
            return Hosts::parse(&path, &text);
        }
    }
    Ok(Hosts::default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_of_a_registry_counts_and_else_the_default() {
        let place = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            std::fs::create_dir_all(place.path().join(name)).unwrap();
            std::fs::write(place.path().join(name).join(FILE), text).unwrap();
        };
        let found = |registry: &str| {
            let hosts = load_hosts(place.path(), registry).unwrap();
            let shown = |mirror: &crate::configuration::Mirror| {
                (mirror.address(), mirror.path.clone(), mirror.by_digest, mirror.by_tag)
            };
            let server = hosts.server.as_ref().map(shown).map(|(address, ..)| address);
            (hosts.mirrors.iter().map(shown).collect::<Vec<_>>(), server, hosts.idle)
        };
        assert_eq!(found("docker.io"), (Vec::new(), None, Vec::new()));
        write(
            "docker.io",
            r#"server = "https://registry-1.docker.io"
[host."https://b.io"]
capabilities = ["pull"]
dial_timeout = "1s"
[host."http://a.io:5000/x"]
ca = "ca.pem"
client = [["c.pem", "k.pem"]]
skip_verify = true
[host."http://a.io:5000/x".header]
x-registry = ["https://index.docker.io"]
[host."https://c.io/v3"]
override_path = true
"#,
        );
        write("_default", "[host.\"http://127.0.0.1:30020\"]");
        let mirror = |address: &str, path: &str, tag| (address.to_owned(), path.to_owned(), true, tag);
        let expected = vec![
            mirror("https://b.io", "/v2", false),
            mirror("http://a.io:5000", "/x/v2", true),
            mirror("https://c.io", "/v3", true),
        ];
        let idle = vec![r#"host."https://b.io".dial_timeout"#.to_owned()];
        assert_eq!(found("docker.io"), (expected, Some("https://registry-1.docker.io".to_owned()), idle));
        let hosts = load_hosts(place.path(), "docker.io").unwrap();
        let directory = place.path().join("docker.io");
        assert_eq!(hosts.mirrors[1].ca_certificates, [directory.join("ca.pem")]);
        assert_eq!(hosts.mirrors[1].client_certificate, Some((directory.join("c.pem"), directory.join("k.pem"))));
        assert!(hosts.mirrors[1].skip_tls_verification);
        assert_eq!(hosts.mirrors[1].headers, [("x-registry".to_owned(), "https://index.docker.io".to_owned())]);
        assert_eq!(found("ghcr.io").0, [mirror("http://127.0.0.1:30020", "/v2", true)]);
        write("quay.io", "[host.\"https://u:p@b.io\"]");
        let error = load_hosts(place.path(), "quay.io").unwrap_err();
        assert!(error.line == Some(1) && error.problem.contains("expected http://HOST"), "{error}");
    }
}
