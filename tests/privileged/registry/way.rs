//! The way to a registry: proxies, as the environment names them.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;

use super::place::{Images as _, Place, failed, succeeded};
use super::proxy::{Act, Proxy, answer};
use super::servers::Registry;
use crate::common::harness::Test;
use crate::common::wait;

pub(crate) const TESTS: &[Test] = &[
    ("way::a_proxy_is_asked_for_the_whole_address", false, forwarded),
    ("way::socks_works", false, socks),
    ("way::no_environment_is_too_odd", false, odd),
];

/// No such host is known to anyone but a proxy.
const ELSEWHERE: &str = "docker://registry.example.test:5000/a:1";

fn stand(place: &Place) -> Registry {
    let registry = Registry::open(place);
    registry.put(&place.image("layout", &[("file", b"x".to_vec())]), "a:1", &[]);
    registry
}

fn forwarded() {
    let place = Place::new();
    let registry = stand(&place);
    let proxy = Proxy::start(Some(registry.address), |_, _| Act::Pass);
    let mut command = place.layflat(&["ls", "--plain-http", ELSEWHERE]);
    let address = format!("http://me:pass%40word@{}", proxy.address);
    assert!(succeeded(&command.env("http_proxy", &address).output().unwrap()).contains("file"));
    let heads = proxy.heads();
    assert!(heads.len() > 2);
    for head in heads {
        assert!(head.path.starts_with("http://registry.example.test:5000/v2/"), "{head:?}");
        assert_eq!(head.header("proxy-authorization"), Some("Basic bWU6cGFzc0B3b3Jk"));
        assert_eq!(head.header("host"), Some("registry.example.test:5000"));
    }
    // What the proxy says is not the registry's.
    let wants = Proxy::start(None, |_, _| answer("407 Proxy Authentication Required", &[], ""));
    let mut command = place.layflat(&["ls", "--plain-http", "--retries", "0", "--no-cache", ELSEWHERE]);
    let message = failed(&command.env("http_proxy", wants.address.to_string()).output().unwrap());
    assert!(
        message.contains(&format!("by the proxy {} (http_proxy): it requires a login (407)", wants.address)),
        "{message}"
    );
}

/// A SOCKS5 server that leads everybody to one place, and says for which name it was asked.
fn serve_socks(to: SocketAddr) -> (SocketAddr, std::sync::mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (tell, asked) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // Who hangs up ends only that.
        let serve = |mut client: TcpStream| -> std::io::Result<()> {
            let mut take = |count: usize| -> std::io::Result<Vec<u8>> {
                let mut bytes = vec![0; count];
                client.read_exact(&mut bytes)?;
                Ok(bytes)
            };
            let methods = usize::from(take(2)?[1]);
            take(methods)?;
            client.write_all(&[5, 0])?;
            let mut head = [0; 5];
            client.read_exact(&mut head)?;
            let mut name = vec![0; usize::from(head[4]) + 2];
            client.read_exact(&mut name)?;
            name.truncate(usize::from(head[4]));
            let _ = tell.send(String::from_utf8_lossy(&name).into_owned());
            client.write_all(&[5, 0, 0, 1, 0, 0, 0, 0, 0, 0])?;
            let upstream = TcpStream::connect(to)?;
            let (mut from, mut into) = (client.try_clone()?, upstream.try_clone()?);
            std::thread::spawn(move || std::io::copy(&mut from, &mut into));
            std::thread::spawn(move || std::io::copy(&mut &upstream, &mut client));
            Ok(())
        };
        listener.incoming().flatten().for_each(|client| drop(serve(client)));
    });
    (address, asked)
}

fn socks() {
    let place = Place::new();
    let registry = stand(&place);
    let (proxy, asked) = serve_socks(registry.address);
    for (variable, scheme) in [("ALL_PROXY", "socks5h"), ("http_proxy", "socks5")] {
        let mut command = place.layflat(&["ls", "--plain-http", "--no-cache", ELSEWHERE]);
        let output = command.env(variable, format!("{scheme}://{proxy}")).output().unwrap();
        assert!(succeeded(&output).contains("file"));
        assert_eq!(wait::told(&asked), "registry.example.test");
        while asked.try_recv().is_ok() {}
    }
}

fn odd() {
    let place = Place::new();
    let odd: [&[u8]; 9] = [
        b"http://",
        b"://",
        b"http://a b",
        b"127.0.0.1:99999",
        b"http://[::1",
        b"ftp://x",
        b"h\xff",
        b"http://%",
        b"http://@",
    ];
    for value in odd {
        for (variable, more) in [("ALL_PROXY", "--tls-verify=false"), ("http_proxy", "--plain-http")] {
            let mut command = place.layflat(&["ls", "--retries", "0", more, ELSEWHERE]);
            let message = failed(&command.env(variable, std::ffi::OsStr::from_bytes(value)).output().unwrap());
            assert!(message.starts_with(&format!("cannot open {ELSEWHERE}: {variable} ")), "{message}");
        }
    }
    // An empty one is none.
    let mut command = place.layflat(&["ls", "--retries", "0", ELSEWHERE]);
    let message = failed(&command.env("ALL_PROXY", "").output().unwrap());
    assert!(message.contains("cannot reach the registry registry.example.test:5000: there is no host"), "{message}");
}
