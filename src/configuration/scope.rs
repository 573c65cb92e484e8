//! The scopes of a policy that apply to an image, from the narrowest to the widest. Symbolic links are resolved before.

use std::path::PathBuf;

use crate::core::digest::Digest;
use crate::core::reference::ImageName;

/// What a policy is asked about.
#[derive(Debug, Clone)]
pub(crate) enum Subject<'a> {
    /// An image at a registry.
    Docker(&'a ImageName),
    /// An image of an engine, by its name.
    Daemon(&'a ImageName),
    /// The same, by its ID.
    Id(&'a Digest),
    /// A transport, and the real path of a file or directory of it.
    Path(&'static str, PathBuf),
    /// A transport whose images have no scope of their own.
    Alone(&'static str),
}

impl Subject<'_> {
    /// As containers/image calls where it comes from.
    pub(super) fn transport(&self) -> &'static str {
        match self {
            Self::Docker(_) => "docker",
            Self::Daemon(_) | Self::Id(_) => "docker-daemon",
            Self::Path(transport, _) | Self::Alone(transport) => transport,
        }
    }

    pub(super) fn scopes(&self) -> Vec<String> {
        match self {
            Self::Docker(name) | Self::Daemon(name) => of_name(name),
            Self::Path(_, path) => {
                // The root itself is not a scope.
                let around = path.ancestors().filter(|path| path.parent().is_some());
                around.map(|path| path.to_string_lossy().into_owned()).collect()
            }
            Self::Id(id) => vec![id.to_string()],
            Self::Alone(_) => Vec::new(),
        }
    }
}

fn of_name(name: &ImageName) -> Vec<String> {
    let complete = name.complete();
    let mut repository = format!("{}/{}", name.registry(), name.repository());
    let mut scopes = Vec::new();
    if let Some(digest) = complete.digest() {
        scopes.push(format!("{repository}@{digest}"));
    }
    if let Some(tag) = complete.tag() {
        scopes.push(format!("{repository}:{tag}"));
    }
    loop {
        scopes.push(repository.clone());
        match repository.rfind('/') {
            Some(slash) => repository.truncate(slash),
            None => break,
        }
    }
    let mut host = repository.split(':').next().unwrap_or_default();
    while let Some((_, domain)) = host.split_once('.') {
        scopes.push(format!("*.{domain}"));
        host = domain;
    }
    scopes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_in_its_repository_its_host_and_the_domains_above() {
        let name = "a.b.io:8443/ns/x:1".parse().unwrap();
        let expected = ["a.b.io:8443/ns/x:1", "a.b.io:8443/ns/x", "a.b.io:8443/ns", "a.b.io:8443", "*.b.io", "*.io"];
        assert_eq!(Subject::Docker(&name).scopes(), expected);
        let short = "alpine".parse().unwrap();
        let expected =
            ["docker.io/library/alpine:latest", "docker.io/library/alpine", "docker.io/library", "docker.io", "*.io"];
        assert_eq!(Subject::Docker(&short).scopes(), expected);
        assert_eq!(Subject::Path("oci", "/a/b".into()).scopes(), ["/a/b", "/a"]);
    }
}
