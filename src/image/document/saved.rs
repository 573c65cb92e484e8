//! `manifest.json` of an archive by `docker save`: a list of images.

use serde::{Deserialize, Serialize};

/// One image of the list.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub(crate) struct SavedImage {
    /// The file of its configuration.
    pub(crate) config: String,
    /// Its names; Docker writes null where there is none.
    pub(crate) repo_tags: Option<Vec<String>>,
    /// The files of its layers, bottom first.
    pub(crate) layers: Vec<String>,
}
