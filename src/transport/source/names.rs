//! Finds images by name in an archive or a layout, where names may be abbreviated.

use crate::core::reference::ImageName;

/// `debian`, `library/debian:latest` and `docker.io/library/debian:latest` are one name. What is not a name is itself.
pub(in crate::transport) fn canonical(name: &str) -> String {
    name.parse::<ImageName>().map_or_else(|_| name.to_owned(), |name| name.complete().to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_docker_shortens_them() {
        assert_eq!(canonical("debian"), canonical("docker.io/library/debian:latest"));
        assert_eq!(canonical("host:5000/a"), "host:5000/a:latest");
        assert_ne!(canonical("quay.io/a:1"), canonical("a:1"));
        assert_eq!(canonical("No Name"), "No Name");
    }
}
