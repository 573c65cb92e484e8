//! A path that is not in the image: whether it ever was, and which layer deleted it.

use anyhow::anyhow;
use layflat::core::chain::Chain;
use layflat::inspect::{Action, InsideError, history};

use super::arguments::Looked;

/// Adds to an error about a path what the layers know of it. `advice` tells how to get at the file as of a layer.
pub(super) fn explained(
    error: InsideError,
    path: &[u8],
    looked: &Looked,
    advice: impl FnOnce(usize) -> String,
) -> anyhow::Error {
    if !matches!(error, InsideError::Lookup { .. }) {
        return error.into();
    }
    match history(path, &looked.image, &looked.indexes, &looked.options) {
        Ok(events) => match events.last() {
            Some(last) if last.action == Action::Hidden => {
                anyhow!("{}; deleted by layer {}: {}", Chain(&error), last.layer, advice(last.layer))
            }
            _ => error.into(),
        },
        Err(InsideError::NeverThere(_)) => anyhow!("{}; no layer has it", Chain(&error)),
        Err(_) => error.into(),
    }
}
