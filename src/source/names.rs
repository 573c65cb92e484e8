//! Names of images, as Docker shortens them.

/// `debian`, `library/debian:latest` and `docker.io/library/debian:latest` are one name.
pub(super) fn canonical(name: &str) -> String {
    let tagged = match name.rsplit_once(':') {
        Some((_, tag)) if !tag.contains('/') => name.to_owned(),
        _ => format!("{name}:latest"),
    };
    let tagged = tagged.strip_prefix("index.docker.io/").or(tagged.strip_prefix("docker.io/")).unwrap_or(&tagged);
    tagged.strip_prefix("library/").unwrap_or(tagged).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_docker_shortens_them() {
        assert_eq!(canonical("debian"), canonical("docker.io/library/debian:latest"));
        assert_eq!(canonical("host:5000/a"), "host:5000/a:latest");
        assert_ne!(canonical("quay.io/a:1"), canonical("a:1"));
    }
}
