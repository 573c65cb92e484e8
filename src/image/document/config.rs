//! The image configuration (image specification, config.md).

use std::collections::{BTreeMap, BTreeSet};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use super::run::as_map;

/// What an image's configuration states, as far as layflat needs it. What is not stated is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Configuration {
    /// When it was made, as RFC 3339 has it.
    pub created: String,
    /// Who made it.
    pub author: String,
    /// As in Go's GOARCH.
    pub architecture: String,
    /// The variant of the architecture.
    pub variant: String,
    /// As in Go's GOOS.
    pub os: String,
    /// The version of the operating system that it needs; Windows has it.
    #[serde(rename = "os.version")]
    pub os_version: String,
    /// What it needs of the operating system.
    #[serde(rename = "os.features")]
    pub os_features: Vec<String>,
    /// How a container is run.
    pub config: RunConfig,
    /// The layers.
    pub rootfs: RootFs,
    /// What was done to make it, oldest first.
    pub history: Vec<History>,
}

/// How a container of an image is run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user`, `uid`, `user:group`, `uid:gid`, `uid:group` or `user:gid`.
    pub user: String,
    /// Ports that are to be reachable, like `80/tcp`.
    #[serde(deserialize_with = "keys", serialize_with = "as_map")]
    pub exposed_ports: BTreeSet<String>,
    /// Variables, each `NAME=VALUE`.
    pub env: Vec<String>,
    /// The program, and its first arguments.
    pub entrypoint: Vec<String>,
    /// The other arguments; the program, if there is no entrypoint.
    pub cmd: Vec<String>,
    /// Directories whose content is not the image's.
    #[serde(deserialize_with = "keys", serialize_with = "as_map")]
    pub volumes: BTreeSet<String>,
    /// The working directory.
    pub working_dir: String,
    /// Words about it.
    pub labels: BTreeMap<String, String>,
    /// The signal that ends it.
    pub stop_signal: String,
}

/// The layers of an image, as its configuration knows them.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// `layers`; older builders leave it out.
    #[serde(rename = "type")]
    pub kind: String,
    /// Digests of the uncompressed layers, bottom first.
    pub diff_ids: Vec<String>,
}

/// One step of how an image was made.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct History {
    /// When, as RFC 3339 has it.
    pub created: String,
    /// By which command.
    pub created_by: String,
    /// By whom.
    pub author: String,
    /// Words about it.
    pub comment: String,
    /// Whether it made no layer.
    pub empty_layer: bool,
}

/// Go's way to write a set is a map whose values say nothing.
fn keys<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<String>, D::Error> {
    Ok(BTreeMap::<String, IgnoredAny>::deserialize(deserializer)?.into_keys().collect())
}
