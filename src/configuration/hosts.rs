//! containerd's `hosts.toml` (docs/hosts.md there): the servers that are asked before a registry, in the order of the file.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

use super::{ConfigurationError, Mirror};

/// What a file says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Hosts {
    /// Asked first, in this order.
    pub(crate) mirrors: Vec<Mirror>,
    /// Asked last, in the place of the registry itself.
    pub(crate) server: Option<Mirror>,
    /// Keys that do nothing.
    pub(crate) idle: Vec<String>,
}

/// What can be said of a server.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Table {
    capabilities: Option<Vec<String>>,
    ca: Option<OneOrMore<String>>,
    client: Option<toml::Value>,
    skip_verify: bool,
    override_path: bool,
    header: std::collections::BTreeMap<String, OneOrMore<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMore<T> {
    One(T),
    More(Vec<T>),
}

impl<T> OneOrMore<T> {
    fn all(self) -> Vec<T> {
        match self {
            Self::One(one) => vec![one],
            Self::More(more) => more,
        }
    }
}

const KNOWN: [&str; 6] = ["capabilities", "ca", "client", "skip_verify", "override_path", "header"];

impl Hosts {
    /// Reads a file.
    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, ConfigurationError> {
        let line = |offset: usize| text.as_bytes()[..offset.min(text.len())].split(|&byte| byte == b'\n').count();
        let wrong = |offset: Option<usize>, problem: String| ConfigurationError {
            line: offset.map(line),
            ..ConfigurationError::new(path, problem)
        };
        let unreadable =
            |error: toml::de::Error| wrong(error.span().map(|span| span.start), error.message().trim().to_owned());
        let mut document = DeTable::parse(text).map_err(unreadable)?;
        let mut hosts = Self::default();
        let named = take(document.get_mut(), "host");
        let server = take(document.get_mut(), "server");
        let rest = document.into_inner();
        if let Some(server) = server {
            let at = server.span().start;
            let address = server.into_inner();
            let address = address.as_str().ok_or_else(|| wrong(Some(at), "server is not text".to_owned()))?;
            hosts.server = Some(hosts.host(address, rest, path).map_err(|problem| wrong(Some(at), problem))?);
        } else {
            hosts.note_idle(&rest, "");
        }
        let Some(named) = named else { return Ok(hosts) };
        let at = named.span().start;
        let DeValue::Table(named) = named.into_inner() else {
            return Err(wrong(Some(at), "host is no table".to_owned()));
        };
        // As they stand in the file: the parser sorts them.
        let mut named: Vec<_> = named.into_iter().collect();
        named.sort_by_key(|(address, _)| address.span().start);
        for (address, table) in named {
            let at = address.span().start;
            let DeValue::Table(table) = table.into_inner() else {
                return Err(wrong(Some(at), format!("host.{:?} is no table", address.get_ref())));
            };
            let mirror = hosts.host(address.get_ref(), table, path).map_err(|problem| wrong(Some(at), problem))?;
            hosts.mirrors.push(mirror);
        }
        Ok(hosts)
    }

    fn note_idle(&mut self, table: &DeTable<'_>, of: &str) {
        let idle = table.keys().map(|key| key.get_ref().to_string()).filter(|key| !KNOWN.contains(&key.as_str()));
        self.idle.extend(idle.map(|key| format!("{of}{key}")));
    }

    fn host(&mut self, address: &str, table: DeTable<'_>, path: &Path) -> Result<Mirror, String> {
        self.note_idle(&table, &format!("host.{address:?}."));
        let table = Table::deserialize(toml::Deserializer::from(Spanned::new(0..0, table)))
            .map_err(|error| error.message().to_owned())?;
        // containerd takes what has no scheme for HTTPS.
        let address = if address.contains("://") { address.to_owned() } else { format!("https://{address}") };
        let mut mirror = Mirror::parse(&address, table.override_path).map_err(|error| error.to_string())?;
        let capabilities = table.capabilities.unwrap_or_else(|| ["pull", "resolve"].map(str::to_owned).to_vec());
        let can = |capability: &str| capabilities.iter().any(|named| named == capability);
        (mirror.by_digest, mirror.by_tag) = (can("pull"), can("resolve"));
        let directory = path.parent().unwrap_or(Path::new("/"));
        let file = |name: &str| directory.join(name);
        mirror.ca_certificates =
            table.ca.map(OneOrMore::all).unwrap_or_default().iter().map(|name| file(name)).collect();
        mirror.client_certificate = table.client.map(|client| pair(&client, &file)).transpose()?.flatten();
        mirror.skip_tls_verification = table.skip_verify;
        for (name, values) in table.header {
            mirror.headers.extend(values.all().into_iter().map(|value| (name.clone(), value)));
        }
        mirror.file = Some(path.to_owned());
        Ok(mirror)
    }
}

/// A certificate and its key: `"both.pem"`, `["both.pem"]`, or `[["cert.pem", "key.pem"]]`. Of several the first counts.
fn pair(client: &toml::Value, file: &dyn Fn(&str) -> PathBuf) -> Result<Option<(PathBuf, PathBuf)>, String> {
    let wrong = || "client is neither a file nor pairs of a certificate and its key".to_owned();
    let text = |value: &toml::Value| value.as_str().map(str::to_owned).ok_or_else(wrong);
    match client {
        toml::Value::String(both) => Ok(Some((file(both), file(both)))),
        toml::Value::Array(all) => match all.first() {
            None => Ok(None),
            Some(toml::Value::String(both)) => Ok(Some((file(both), file(both)))),
            Some(toml::Value::Array(pair)) => match pair.as_slice() {
                [certificate, key] => {
                    let key = text(key)?;
                    let certificate = text(certificate)?;
                    let key = if key.is_empty() { certificate.clone() } else { key };
                    Ok(Some((file(&certificate), file(&key))))
                }
                _ => Err(wrong()),
            },
            Some(_) => Err(wrong()),
        },
        _ => Err(wrong()),
    }
}

fn take<'t>(table: &mut DeTable<'t>, name: &str) -> Option<Spanned<DeValue<'t>>> {
    let key = table.keys().find(|key| key.get_ref() == name).cloned()?;
    let _: &Spanned<DeString<'_>> = &key;
    table.remove(&key)
}
