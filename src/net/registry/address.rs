//! Addresses of registries, and whether two of them are the same server.

use std::net::IpAddr;

use ureq::http::Uri;

/// The host, and port, that answers for a registry. Docker Hub's goes by another name.
pub(super) fn authority(registry: &str) -> &str {
    match registry {
        "docker.io" => "registry-1.docker.io",
        same => same,
    }
}

/// Whether a server is on this machine, so that nothing that is sent to it leaves the machine.
pub(super) fn is_loopback(authority: &str) -> bool {
    let host = authority.rsplit_once(':').map_or(authority, |(host, port)| {
        // An IPv6 address without a port ends in brackets.
        if port.ends_with(']') { authority } else { host }
    });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Whether an address is on this machine.
pub(super) fn stays_here(address: &str) -> bool {
    let uri: Option<Uri> = address.parse().ok();
    uri.as_ref().and_then(Uri::host).is_some_and(is_loopback)
}

/// Whether two addresses lead to the same server in the same way: then it may be told the same secrets.
pub(super) fn same_server(one: &str, other: &str) -> bool {
    let key = |text: &str| {
        let uri: Uri = text.parse().ok()?;
        let port = uri.port_u16().or(match uri.scheme_str() {
            Some("https") => Some(443),
            Some("http") => Some(80),
            _ => None,
        });
        Some((uri.scheme_str()?.to_owned(), uri.host()?.to_ascii_lowercase(), port))
    };
    key(one).is_some_and(|one| Some(one) == key(other))
}

/// `name=value&name=value`, with all that must be escaped in a query or a form.
pub(super) fn parameters<'a>(pairs: impl IntoIterator<Item = (&'a str, &'a str)>) -> String {
    let mut text = String::new();
    for (name, value) in pairs {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' | b':' | b',' => {
                    text.push(char::from(byte));
                }
                _ => text.push_str(&format!("%{byte:02X}")),
            }
        }
    }
    text
}

/// An address with more parameters.
pub(super) fn with_parameters(address: &str, parameters: &str) -> String {
    let separator = match address {
        _ if address.ends_with(['?', '&']) => "",
        _ if address.contains('?') => "&",
        _ => "?",
    };
    format!("{address}{separator}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_told_by_its_address_alone() {
        for yes in ["localhost", "localhost:5000", "127.0.0.1:5000", "127.8.9.1", "[::1]", "[::1]:5000"] {
            assert!(is_loopback(yes), "{yes}");
        }
        for no in ["localhost.example.org", "10.0.0.1:5000", "[::2]:1", "127.0.0.1.example.org", "registry:5000"] {
            assert!(!is_loopback(no), "{no}");
        }
    }

    #[test]
    fn a_name_before_the_host_is_no_host() {
        for yes in ["http://localhost/token", "http://[::1]:5000/", "http://127.0.0.1:5000/?x"] {
            assert!(stays_here(yes), "{yes}");
        }
        for no in ["http://localhost:80@a.io/", "http://localhost@a.io/", "http://a.io/localhost", "/"] {
            assert!(!stays_here(no), "{no}");
        }
    }

    #[test]
    fn another_scheme_or_port_is_another_server() {
        assert!(same_server("https://a.io/v2/", "https://A.io:443/x?y"));
        for other in ["http://a.io/", "https://a.io:444/", "https://b.io/", "https://a.io.b/", "nonsense"] {
            assert!(!same_server("https://a.io/v2/", other), "{other}");
        }
    }

    #[test]
    fn parameters_are_escaped_and_added() {
        let more = parameters([("service", "a b&c"), ("scope", "repository:a/b:pull,push")]);
        let escaped = "service=a%20b%26c&scope=repository:a/b:pull,push";
        for (address, separator) in
            [("https://a/", "?"), ("https://a/?", ""), ("https://a/?x", "&"), ("https://a/?x&", "")]
        {
            assert_eq!(with_parameters(address, &more), format!("{address}{separator}{escaped}"));
        }
    }
}
