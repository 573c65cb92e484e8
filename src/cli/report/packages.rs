//! What a distribution's own database says about the packages of an image: dpkg's and apk's, which are text, and rpm's.

use std::collections::BTreeMap;

use layflat::inspect::Inside;
use serde::Serialize;

use super::super::arguments::Looked;
use super::data::text;
use super::rpm;

/// A package that one image has and the other has not, or not in the same version.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub(super) struct PackageChange {
    pub(super) name: String,
    pub(super) before: Option<String>,
    pub(super) now: Option<String>,
}

/// The databases: their path, and the fields of a package's name and version.
const DATABASES: [(&str, &str, &str); 3] = [
    ("var/lib/dpkg/status", "Package: ", "Version: "),
    ("lib/apk/db/installed", "P:", "V:"),
    ("usr/lib/apk/db/installed", "P:", "V:"),
];

/// Where rpm's database is.
const RPM: [&str; 2] = ["var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite"];

/// A database of more bytes is none.
const MOST: usize = 256 << 20;

pub(super) fn changes(first: &Looked, one: &Inside<'_>, second: &Looked, other: &Inside<'_>) -> Vec<PackageChange> {
    compare(&installed(first, one), &installed(second, other))
}

fn compare(before: &BTreeMap<String, String>, now: &BTreeMap<String, String>) -> Vec<PackageChange> {
    let names: std::collections::BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let change = |name: &String| {
        let (before, now) = (before.get(name).cloned(), now.get(name).cloned());
        (before != now).then(|| PackageChange { name: name.clone(), before, now })
    };
    names.into_iter().filter_map(change).collect()
}

fn installed(looked: &Looked, inside: &Inside<'_>) -> BTreeMap<String, String> {
    let mut packages = BTreeMap::new();
    let database = |path: &str| {
        let mut database = Limited(Vec::new());
        // An image without it has other packages, or none.
        inside.cat(path.as_bytes(), &mut database, &looked.options).is_ok().then_some(database.0)
    };
    for (path, name, version) in DATABASES {
        packages.extend(database(path).map(|database| parse(&database, name, version)).unwrap_or_default());
    }
    for path in RPM {
        packages.extend(database(path).map(|database| rpm::packages(&database)).unwrap_or_default());
    }
    packages
}

/// A paragraph a package, a line a field.
fn parse(database: &[u8], name: &str, version: &str) -> BTreeMap<String, String> {
    let mut packages = BTreeMap::new();
    let mut current = None;
    for line in database.split(|&byte| byte == b'\n') {
        if let Some(value) = line.strip_prefix(name.as_bytes()) {
            current = Some(text(value));
        } else if let Some(value) = line.strip_prefix(version.as_bytes())
            && let Some(name) = current.take()
        {
            packages.insert(name, text(value));
        } else if line.is_empty() {
            current = None;
        }
    }
    packages
}

struct Limited(Vec<u8>);

impl std::io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        if self.0.len() + bytes.len() > MOST {
            return Err(std::io::Error::other("too large to be a database of packages"));
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn databases_of_dpkg_and_apk_are_read() {
        let dpkg = b"Package: a\nStatus: install ok installed\nVersion: 1.0-1\n\nPackage: b\n\nVersion: 2\n";
        assert_eq!(parse(dpkg, "Package: ", "Version: "), [("a".to_owned(), "1.0-1".to_owned())].into());
        assert_eq!(
            parse(b"C:Q1\nP:musl\nV:1.2.5-r0\nA:x86_64\n", "P:", "V:"),
            [("musl".to_owned(), "1.2.5-r0".to_owned())].into()
        );
    }

    #[test]
    fn only_what_differs_is_told() {
        let of = |list: &[(&str, &str)]| {
            list.iter().map(|(name, version)| ((*name).to_owned(), (*version).to_owned())).collect()
        };
        let found = compare(&of(&[("a", "1"), ("b", "1"), ("c", "1")]), &of(&[("a", "1"), ("b", "2"), ("d", "1")]));
        let change = |name: &str, before: Option<&str>, now: Option<&str>| PackageChange {
            name: name.to_owned(),
            before: before.map(str::to_owned),
            now: now.map(str::to_owned),
        };
        assert_eq!(
            found,
            [change("b", Some("1"), Some("2")), change("c", Some("1"), None), change("d", None, Some("1"))]
        );
    }
}
