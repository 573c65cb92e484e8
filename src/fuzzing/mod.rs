//! What `fuzz/` runs: each function takes any bytes, hands them to one reader, and panics where that breaks a promise.
//!
//! This module is there with `--cfg fuzzing`, which cargo-fuzz sets, and in tests, which replay the corpus: it is no part of the library. A
//! reader that is private to its room has its function there, in a module of the same name.

mod archive;
mod documents;
mod erofs;
mod filters;
mod layers;
mod names;

pub use archive::{archive, mended};
pub use documents::{config, descriptions, index_of_layer, manifest};
pub use erofs::erofs;
pub use filters::globs;
pub use layers::{image, layer};
pub use names::{platform, reference};

#[cfg(feature = "bundle")]
pub use crate::bundle::fuzzing::accounts;
#[cfg(feature = "registry")]
pub use crate::configuration::fuzzing::{policy, registries};
#[cfg(feature = "registry")]
pub use crate::net::registry::fuzzing::{credentials, headers};
pub use crate::pack::fuzzing::marks;

/// A function that takes any bytes.
pub type Target = fn(&[u8]);

/// All targets that need nothing but this crate, by the names of their corpora.
pub const TARGETS: &[(&str, Target)] = &[
    #[cfg(feature = "bundle")]
    ("accounts", accounts),
    ("archive", archive),
    ("config", config),
    #[cfg(feature = "registry")]
    ("credentials", credentials),
    ("descriptions", descriptions),
    ("erofs", erofs),
    ("globs", globs),
    #[cfg(feature = "registry")]
    ("headers", headers),
    ("image", image),
    ("index_of_layer", index_of_layer),
    ("layer", layer),
    ("manifest", manifest),
    ("marks", marks),
    ("platform", platform),
    #[cfg(feature = "registry")]
    ("policy", policy),
    ("reference", reference),
    #[cfg(feature = "registry")]
    ("registries", registries),
];

#[cfg(test)]
mod tests {
    use super::*;

    /// Whatever broke a promise once is in the corpus, and must not again.
    #[test]
    fn the_corpus_of_every_target_is_replayed() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
        // Packages of the crate come without it.
        if !corpus.exists() {
            return;
        }
        for (name, target) in TARGETS {
            let seeds: Vec<_> =
                std::fs::read_dir(corpus.join(name)).unwrap().map(|seed| seed.unwrap().path()).collect();
            assert!(!seeds.is_empty(), "{name} has no seeds");
            target(b"");
            for seed in seeds {
                let input = std::fs::read(&seed).unwrap();
                let result = std::panic::catch_unwind(|| target(&input));
                assert!(result.is_ok(), "{name}: {seed:?}");
            }
        }
    }
}
