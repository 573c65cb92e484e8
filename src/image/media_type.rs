//! Media types of blobs: the image specification's (media-types.md) and Docker's.

use crate::blob::Compression;

/// What a media type stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    /// An image manifest.
    Manifest,
    /// A list of manifests.
    Index,
    /// A manifest that artifacts had before image manifests could be of anything.
    Artifact,
    /// Docker's manifests of before 2016.
    Schema1,
    /// A layer, compressed or not; which, its content tells.
    Layer,
    /// A layer that only its vendor may hand out.
    ForeignLayer,
    /// A layer that needs a key.
    EncryptedLayer,
    /// An image's configuration.
    Config,
    /// Words that say nothing of what it is, as writers use them who do not know ours: the content tells (rule D4).
    Generic,
    /// Anything else.
    Unknown,
}

impl MediaType {
    /// What an OCI manifest is called.
    pub(crate) const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
    /// What an OCI index is called.
    pub(crate) const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
    /// What an OCI configuration is called.
    pub(crate) const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";

    /// What Docker's manifest (schema 2) is called.
    pub(crate) const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
    /// What Docker's list of manifests is called.
    pub(crate) const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
    /// What Docker's configuration is called.
    pub(crate) const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
    /// What Docker's uncompressed layer is called.
    pub(crate) const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
    /// What Docker's layer compressed with gzip is called.
    pub(crate) const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";
    /// What Docker's foreign layer is called.
    pub(crate) const DOCKER_FOREIGN_LAYER: &str = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip";
    /// What an OCI layer is called.
    pub(crate) fn oci_layer(compression: Compression) -> &'static str {
        match compression {
            Compression::None => "application/vnd.oci.image.layer.v1.tar",
            Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            Compression::Xz => "application/vnd.oci.image.layer.v1.tar+xz",
            Compression::Bzip2 => "application/vnd.oci.image.layer.v1.tar+bzip2",
        }
    }

    /// Translates a Docker media type to its OCI equivalent.
    pub(crate) fn to_oci(text: &str) -> String {
        match Self::of(text) {
            Self::Manifest => Self::OCI_MANIFEST.to_owned(),
            Self::Index => Self::OCI_INDEX.to_owned(),
            Self::Config => Self::OCI_CONFIG.to_owned(),
            Self::Layer => match text.strip_prefix("application/vnd.docker.image.rootfs.diff.tar") {
                Some(compression) => {
                    format!("application/vnd.oci.image.layer.v1.tar{}", compression.replace('.', "+"))
                }
                None => text.to_owned(),
            },
            Self::ForeignLayer => match text.strip_prefix("application/vnd.docker.image.rootfs.foreign.diff.tar") {
                Some(compression) => {
                    format!("application/vnd.oci.image.layer.nondistributable.v1.tar{}", compression.replace('.', "+"))
                }
                None => text.to_owned(),
            },
            _ => text.to_owned(),
        }
    }

    pub(crate) fn of(text: &str) -> Self {
        // Parameters do not change what it is.
        let plain = text.split(';').next().unwrap_or_default().trim();
        match plain {
            Self::OCI_MANIFEST | "application/vnd.docker.distribution.manifest.v2+json" => Self::Manifest,
            Self::OCI_INDEX | "application/vnd.docker.distribution.manifest.list.v2+json" => Self::Index,
            "application/vnd.oci.artifact.manifest.v1+json" | "application/vnd.cncf.oras.artifact.manifest.v1+json" => {
                Self::Artifact
            }
            "application/vnd.docker.distribution.manifest.v1+json"
            | "application/vnd.docker.distribution.manifest.v1+prettyjws" => Self::Schema1,
            Self::OCI_CONFIG | "application/vnd.docker.container.image.v1+json" => Self::Config,
            _ if plain.ends_with("+encrypted") => Self::EncryptedLayer,
            _ if plain.contains("nondistributable") || plain.contains("rootfs.foreign") => Self::ForeignLayer,
            _ if is_layer(plain) => Self::Layer,
            _ if GENERIC.contains(&plain) => Self::Generic,
            _ => Self::Unknown,
        }
    }
}

/// What is said where nothing is known.
const GENERIC: [&str; 12] = [
    "",
    "application/octet-stream",
    "binary/octet-stream",
    "application/json",
    "text/plain",
    "application/tar",
    "application/x-tar",
    "application/tar+gzip",
    "application/x-gtar",
    "application/gzip",
    "application/x-gzip",
    "application/zstd",
];

/// A tar archive, with nothing or a compression that is known behind it. Which one it is, the content tells.
fn is_layer(text: &str) -> bool {
    let oci = text.strip_prefix("application/vnd.oci.image.layer.v1.tar").map(|rest| (rest, '+'));
    let docker = text.strip_prefix("application/vnd.docker.image.rootfs.diff.tar").map(|rest| (rest, '.'));
    oci.or(docker).is_some_and(|(rest, separator)| {
        let compression = rest.strip_prefix(separator);
        rest.is_empty() || compression.is_some_and(|name| matches!(name, "gzip" | "zstd" | "xz" | "bzip2"))
    })
}

/// The compression that a layer's media type states.
pub(crate) fn stated_compression(text: &str) -> Option<Compression> {
    let plain = text.split(';').next().unwrap_or_default().trim();
    if !is_layer(plain) {
        return None;
    }
    let name = plain.rsplit(['+', '.']).next().unwrap_or_default();
    [Compression::Gzip, Compression::Zstd, Compression::Xz, Compression::Bzip2]
        .into_iter()
        .find(|known| known.name() == name)
        .or(Some(Compression::None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layers_media_type_states_its_compression() {
        for (text, expected) in [
            ("application/vnd.oci.image.layer.v1.tar", Some(Compression::None)),
            ("application/vnd.oci.image.layer.v1.tar+zstd", Some(Compression::Zstd)),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", Some(Compression::Gzip)),
            ("application/vnd.docker.image.rootfs.diff.tar", Some(Compression::None)),
            ("application/octet-stream", None),
        ] {
            assert_eq!(stated_compression(text), expected, "{text}");
        }
    }

    #[test]
    fn media_types_of_oci_and_docker_are_known() {
        for (text, expected) in [
            ("application/vnd.oci.image.layer.v1.tar+zstd", MediaType::Layer),
            ("application/vnd.docker.image.rootfs.diff.tar.gzip", MediaType::Layer),
            ("application/vnd.docker.image.rootfs.diff.tar", MediaType::Layer),
            ("application/vnd.oci.image.layer.v1.tar+lz4", MediaType::Unknown),
            ("application/octet-stream", MediaType::Generic),
            ("", MediaType::Generic),
            ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", MediaType::EncryptedLayer),
            ("application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", MediaType::ForeignLayer),
            ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", MediaType::ForeignLayer),
            ("application/vnd.docker.distribution.manifest.v1+prettyjws", MediaType::Schema1),
            ("application/vnd.cncf.helm.chart.content.v1.tar+gzip", MediaType::Unknown),
        ] {
            assert_eq!(MediaType::of(text), expected, "{text}");
        }
    }
}
