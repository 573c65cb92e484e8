//! Selects the proxy for a server from the environment, as Go programs do (golang.org/x/net/http/httpproxy):
//! `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy`, in lower or upper case.

use std::ffi::OsString;
use std::net::IpAddr;

use ipnet::IpNet;
use percent_encoding::percent_decode_str;
use ureq::http::Uri;
use ureq::{Proxy, ProxyProtocol};

use crate::net::registry::RegistryError;
use crate::net::registry::address::is_loopback;

/// What the environment says.
#[derive(Debug)]
pub(super) struct Proxies {
    plain: Option<Setting>,
    secure: Option<Setting>,
    except: Vec<Exception>,
}

/// A variable that names a proxy.
#[derive(Debug, Clone)]
struct Setting {
    variable: &'static str,
    value: OsString,
}

/// The way to a server.
#[derive(Debug, Clone)]
pub(super) struct Way {
    pub(super) proxy: Proxy,
    /// The proxy for a person: without its password.
    pub(super) shown: String,
}

/// Whom `no_proxy` names.
#[derive(Debug, PartialEq, Eq)]
enum Exception {
    All,
    Network(IpNet),
    Address(IpAddr, Option<u16>),
    /// In small letters. With `itself`, the name is meant as well as what is in it.
    Domain {
        name: String,
        itself: bool,
        port: Option<u16>,
    },
}

impl Proxies {
    pub(super) fn of_environment() -> Self {
        Self::of(|name| std::env::var_os(name))
    }

    fn of(value: impl Fn(&str) -> Option<OsString>) -> Self {
        let said = |name: &str| value(name).filter(|value| !value.to_string_lossy().trim().is_empty());
        let find = |variables: [&'static str; 2]| {
            let mut all = variables.into_iter().chain(["all_proxy", "ALL_PROXY"]);
            all.find_map(|variable| said(variable).map(|value| Setting { variable, value }))
        };
        let except = said("no_proxy").or_else(|| said("NO_PROXY")).unwrap_or_default();
        let except = except.to_string_lossy();
        Self {
            plain: find(["http_proxy", "HTTP_PROXY"]),
            secure: find(["https_proxy", "HTTPS_PROXY"]),
            except: except.split([',', ' ', '\t', '\n']).filter_map(Exception::parse).collect(),
        }
    }

    /// The proxy for an address, if there is one.
    ///
    /// # Errors
    /// The variable that names it does not name a proxy.
    pub(super) fn way(&self, uri: &Uri) -> Result<Option<Way>, RegistryError> {
        let Some(host) = uri.host() else { return Ok(None) };
        let is_plain = uri.scheme_str() == Some("http");
        let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
        // As Go's programs have it: no proxy stands between this machine and itself.
        if is_loopback(host) || self.except.iter().any(|exception| exception.is_meant(host, port)) {
            return Ok(None);
        }
        let setting = if is_plain { &self.plain } else { &self.secure };
        setting.as_ref().map(Setting::way).transpose()
    }
}

impl Setting {
    fn way(&self) -> Result<Way, RegistryError> {
        let wrong = |problem: &str| RegistryError::Proxy { variable: self.variable, problem: problem.to_owned() };
        let text = self.value.to_str().ok_or_else(|| wrong("is not text"))?.trim();
        let (scheme, rest) = text.split_once("://").unwrap_or(("http", text));
        let protocol = match scheme.to_ascii_lowercase().as_str() {
            "http" => ProxyProtocol::Http,
            "https" => ProxyProtocol::Https,
            "socks4" => ProxyProtocol::Socks4,
            "socks4a" => ProxyProtocol::Socks4A,
            // As Go has it, the proxy finds the host by its name in both cases.
            "socks" | "socks5" | "socks5h" => ProxyProtocol::Socks5h,
            _ => return Err(wrong("is an unknown kind of proxy")),
        };
        let (user, place) = match rest.rsplit_once('@') {
            Some((user, place)) => (Some(user), place),
            None => (None, rest),
        };
        let place = place.split(['/', '?', '#']).next().unwrap_or_default();
        let (host, port) = split(place).ok_or_else(|| wrong("has no valid host and port"))?;
        if host.is_empty() || (host.contains(':') && !host.starts_with('[')) {
            return Err(wrong("has no valid host"));
        }
        let mut proxy = Proxy::builder(protocol).host(host);
        if let Some(port) = port {
            proxy = proxy.port(port);
        }
        if let Some(user) = user {
            let decoded = |text: &str| {
                let text = percent_decode_str(text).decode_utf8();
                text.map(|text| text.into_owned()).map_err(|_| wrong("has a user or password that is not UTF-8"))
            };
            let (name, password) = user.split_once(':').unwrap_or((user, ""));
            proxy = proxy.username(&decoded(name)?).password(&decoded(password)?);
        }
        let proxy = proxy.build().map_err(|_| wrong("is not a valid address"))?;
        let shown = format!("{}:{} ({})", proxy.host(), proxy.port(), self.variable);
        Ok(Way { proxy, shown })
    }
}

/// `HOST[:PORT]`, where an IPv6 address with a port has brackets; nothing if the port is not one.
fn split(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') && (host.ends_with(']') || !host.contains(':')) => (host, port),
        _ => return Some((text, None)),
    };
    match port {
        "" => Some((host, None)),
        port => port.parse().ok().filter(|port| *port != 0).map(|port| (host, Some(port))),
    }
}

fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

impl Exception {
    /// Nothing for what makes no sense, as Go has it.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim().to_ascii_lowercase();
        if text == "*" {
            return Some(Self::All);
        }
        if let Ok(network) = text.parse() {
            return Some(Self::Network(network));
        }
        let (host, port) = split(&text)?;
        if let Ok(address) = bare(host).parse() {
            return Some(Self::Address(address, port));
        }
        let inside = host.strip_prefix('*').unwrap_or(host).strip_prefix('.');
        let name = inside.unwrap_or(host).trim_end_matches('.').to_owned();
        (!name.is_empty()).then_some(Self::Domain { name, itself: inside.is_none(), port })
    }

    fn is_meant(&self, host: &str, port: u16) -> bool {
        let host = bare(host).trim_end_matches('.').to_ascii_lowercase();
        let address = || host.parse::<IpAddr>().ok();
        let here = |wanted: &Option<u16>| wanted.is_none_or(|wanted| wanted == port);
        match self {
            Self::All => true,
            Self::Network(network) => address().is_some_and(|address| network.contains(&address)),
            Self::Address(wanted, at) => here(at) && address() == Some(*wanted),
            Self::Domain { name, itself, port: at } => {
                let rest = host.strip_suffix(name.as_str());
                here(at) && rest.is_some_and(|rest| if rest.is_empty() { *itself } else { rest.ends_with('.') })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies(variables: &[(&str, &str)]) -> Proxies {
        let find = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).into());
        Proxies::of(find)
    }

    fn through(proxies: &Proxies, address: &str) -> Option<String> {
        proxies.way(&address.parse().unwrap()).unwrap().map(|way| way.shown)
    }

    #[test]
    fn each_scheme_has_its_proxy() {
        let both = proxies(&[("http_proxy", "p:1"), ("HTTPS_PROXY", "http://q:2/"), ("ALL_PROXY", "r:3")]);
        assert_eq!(through(&both, "http://a/").as_deref(), Some("p:1 (http_proxy)"));
        assert_eq!(through(&both, "https://a/").as_deref(), Some("q:2 (HTTPS_PROXY)"));
        assert_eq!(through(&both, "http://127.0.0.1:5000/"), None);
        let all = proxies(&[("http_proxy", " "), ("all_proxy", "socks5h://[::1]:9")]);
        assert_eq!(through(&all, "http://a/").as_deref(), Some("[::1]:9 (all_proxy)"));
        assert_eq!(through(&proxies(&[]), "http://a/"), None);
    }

    #[test]
    fn no_proxy_has_names_networks_and_ports() {
        let cases = [
            ("*", "http://a/", true),
            ("10.0.0.0/8", "http://10.1.2.3:5000/", true),
            ("10.0.0.0/8", "http://11.1.2.3/", false),
            ("10.0.0.0/8", "http://ten.example/", false),
            ("10.1.2.3", "http://10.1.2.3:5000/", true),
            ("10.1.2.3:5000", "http://10.1.2.3:5000/", true),
            ("10.1.2.3:5000", "http://10.1.2.3:5001/", false),
            ("fd00::/8", "http://[fd00::1]:5000/", true),
            ("fd00::1", "http://[fd00::1]/", true),
            ("[fd00::1]:80", "http://[fd00::1]/", true),
            ("[fd00::1]:81", "http://[fd00::1]/", false),
            ("Example.org", "https://example.ORG/", true),
            ("example.org", "https://a.example.org/", true),
            ("example.org", "https://anexample.org/", false),
            (".example.org", "https://a.example.org/", true),
            (".example.org", "https://example.org/", false),
            ("*.example.org", "https://a.b.example.org/", true),
            ("example.org:443", "https://example.org/", true),
            ("example.org:444", "https://example.org/", false),
            ("a, b  example.org,,", "https://example.org/", true),
            ("example.org:x", "https://example.org/", false),
        ];
        for (except, address, is_meant) in cases {
            for name in ["no_proxy", "NO_PROXY"] {
                let proxies = proxies(&[("all_proxy", "p:1"), (name, except)]);
                assert_eq!(through(&proxies, address).is_none(), is_meant, "{except} {address}");
            }
        }
    }

    #[test]
    fn a_password_may_hold_anything_and_is_not_shown() {
        for (user, password) in [("u:p%40%3a", "p@:"), ("u:p@/#w", "p@/#w"), ("u", ""), ("u:%zz", "%zz")] {
            let proxies = proxies(&[("all_proxy", &format!("HTTP://{user}@proxy:3128/"))]);
            let way = proxies.way(&"http://a/".parse().unwrap()).unwrap().unwrap();
            assert_eq!((way.proxy.username(), way.proxy.password()), (Some("u"), Some(password)));
            assert_eq!(way.shown, "proxy:3128 (all_proxy)");
        }
    }

    #[test]
    fn what_is_not_a_proxy_is_said() {
        use std::os::unix::ffi::OsStringExt;
        for nonsense in [
            "ftp://a",
            "http://",
            "http://:1",
            "http://a:99999",
            "http://a:0",
            "a:b",
            "::1",
            "http://[::1",
            "http://%ff@a b",
            "http://ä ö",
        ] {
            let error = proxies(&[("ALL_PROXY", nonsense)]).way(&"http://a/".parse().unwrap());
            let error = error.map(|way| way.map(|way| way.shown)).unwrap_err().to_string();
            assert!(error.starts_with("ALL_PROXY "), "{nonsense}: {error}");
        }
        let bytes = Proxies::of(|name| (name == "http_proxy").then(|| OsString::from_vec(vec![b'h', 0xff])));
        assert!(bytes.way(&"http://a/".parse().unwrap()).is_err());
    }
}
