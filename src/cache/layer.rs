//! Unpacked layers: each in a directory of its own, `layers/<key>`, which all images share that have it above the same
//! layers. The key is its ChainID, which stands for it and all below it, and the options that change what is unpacked.
//!
//! ```text
//! layers/<key>/tree/         what overlayfs mounts; none for a layer that changes nothing
//! layers/<key>/…             what the one who unpacked it wants to know later
//! layers/<key>/layer.json    what all this was when it was unpacked; written last
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};

use super::{Lock, Of, renew};
use crate::core::digest::Digest;
use crate::core::limits::Limits;
use crate::fs::{is_writable_by_others, open_directory, openat};
use crate::lowerdirs::{Depth, Seal};

/// The directory of a cache that holds them.
pub(crate) const LAYERS: &str = "layers";
/// What overlayfs mounts.
pub(crate) const TREE: &str = "tree";
/// What all of it was.
const DESCRIPTION: &str = "layer.json";
/// The version of that file; another one is not believed.
const FORMAT: u32 = 1;

/// `layer.json`.
#[derive(Debug, Clone, serde::Serialize, serde::Deserialize)]
pub(crate) struct Description {
    format: u32,
    /// Of the layer alone.
    pub(crate) diff_id: Digest,
    /// Of the layer and all below it.
    pub(crate) chain_id: Digest,
    /// Of the tree; none for a layer that changes nothing.
    tree: Option<Seal>,
    /// Of the other files.
    files: BTreeMap<String, Digest>,
}

impl Description {
    /// Describes what was made in a layer's directory: its tree, if it has one, and these files besides, which are
    /// written.
    pub(crate) fn make(
        directory: &Path,
        (diff_id, chain_id): (Digest, Digest),
        has_tree: bool,
        files: &[(&str, Vec<u8>)],
    ) -> std::io::Result<()> {
        let mut digests = BTreeMap::new();
        for (name, bytes) in files {
            File::create_new(directory.join(name))?.write_all(bytes)?;
            digests.insert((*name).to_owned(), Digest::sha256_of(bytes));
        }
        let tree = if has_tree {
            let tree = crate::fs::open_path(&directory.join(TREE))?;
            Some(Seal::of(tree.as_fd(), Depth::Content)?)
        } else {
            None
        };
        let description = Self { format: FORMAT, diff_id, chain_id, tree, files: digests };
        File::create_new(directory.join(DESCRIPTION))?.write_all(&description.to_json())
    }

    /// Whether the layer changes anything.
    pub(crate) fn has_tree(&self) -> bool {
        self.tree.is_some()
    }

    fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec_pretty(self).unwrap_or_default();
        text.push(b'\n');
        text
    }
}

/// A layer that is there and whole. It is not removed as long as this is held.
#[derive(Debug)]
pub(crate) struct KeptLayer {
    path: PathBuf,
    description: Description,
    _lock: Lock,
}

/// What is in a place of the cache.
#[derive(Debug)]
pub(crate) enum Found<T> {
    Nothing,
    Whole(T),
    /// What is wrong with it.
    Damaged(String),
}

impl KeptLayer {
    /// The layer in a directory.
    pub(crate) fn find(of: Of, path: &Path) -> Found<Self> {
        let Some(lock) = Lock::shared_in(of, path) else {
            // Something that is not ours to lock is not a layer.
            return if path.symlink_metadata().is_ok_and(|there| !there.is_dir()) {
                Found::Damaged("it is not a directory".to_owned())
            } else {
                Found::Nothing
            };
        };
        match check(of, path, Depth::Stat) {
            Ok(description) => {
                lock.touch();
                Found::Whole(Self { path: path.to_owned(), description, _lock: lock })
            }
            Err(problem) => Found::Damaged(problem),
        }
    }

    pub(crate) fn description(&self) -> &Description {
        &self.description
    }

    /// One of the files beside the tree.
    pub(crate) fn file(&self, name: &str) -> Result<Vec<u8>, String> {
        read(&self.path, &self.description, name)
    }

    /// What overlayfs mounts.
    pub(crate) fn tree(&self) -> Option<PathBuf> {
        self.description.has_tree().then(|| self.path.join(TREE))
    }
}

/// One of the files beside a layer's tree, as it was when the layer was unpacked.
pub(crate) fn read(layer: &Path, description: &Description, name: &str) -> Result<Vec<u8>, String> {
    let bytes = std::fs::read(layer.join(name)).map_err(|error| format!("{name}: {error}"))?;
    match description.files.get(name) {
        Some(digest) if Digest::sha256_of(&bytes) == *digest => Ok(bytes),
        Some(_) => Err(format!("{name} was changed")),
        None => Err(format!("{name} is missing in {DESCRIPTION}")),
    }
}

/// Whether a layer is as it was unpacked; what is wrong with it, if not (rule S8).
///
/// A tree whose stat data are others is read: a copy of a cache has the same contents and other times of change. Then what
/// is known of it is written anew.
pub(crate) fn check(of: Of, path: &Path, depth: Depth) -> Result<Description, String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let metadata = path.symlink_metadata().map_err(|error| text(&error))?;
    if is_writable_by_others(&metadata) {
        return Err("others could have changed it".to_owned());
    }
    let description = describe(path)?;
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    if !name.starts_with(&file_name(&description.chain_id)) {
        return Err(format!("{DESCRIPTION} belongs to another layer"));
    }
    if depth == Depth::Content {
        for file in description.files.keys() {
            read(path, &description, file)?;
        }
    }
    let Some(seal) = &description.tree else {
        return match path.join(TREE).symlink_metadata() {
            Ok(_) => Err(format!("{TREE} should not be there")),
            Err(_) => Ok(description),
        };
    };
    let directory = crate::fs::open_path(path).map_err(|error| text(&std::io::Error::from(error)))?;
    let tree = match open_directory(&directory, TREE.as_bytes()) {
        Ok(tree) => tree,
        // A root that its owner may not read, unless that is root: nothing is known of it, then or now.
        Err(rustix::io::Errno::ACCESS) => return Ok(description),
        Err(error) => return Err(format!("{TREE}: {}", std::io::Error::from(error))),
    };
    if depth == Depth::Stat {
        let now = Seal::of(tree.as_fd(), Depth::Stat).map_err(|error| format!("{TREE}: {error}"))?;
        if now.stat == seal.stat {
            return Ok(description);
        }
    }
    let (now, newest) = Seal::with_newest(tree.as_fd(), Depth::Content).map_err(|error| format!("{TREE}: {error}"))?;
    if now.content != seal.content {
        return Err(difference(seal, &now, &newest));
    }
    if now.stat != seal.stat {
        let renewed = Description { tree: Some(now), ..description };
        // Another user's cache may be readable and no more. Then it is read whole each time.
        if of == Of::Own {
            let _ = renew(path, DESCRIPTION, &renewed.to_json());
        }
        return Ok(renewed);
    }
    Ok(description)
}

/// What is known of a layer, whether or not that still holds.
pub(crate) fn describe(path: &Path) -> Result<Description, String> {
    let failed = |error: std::io::Error| format!("{DESCRIPTION}: {error}");
    let directory = crate::fs::open_path(path).map_err(|error| failed(error.into()))?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(&directory, DESCRIPTION, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let mut bytes = Vec::new();
    File::from(file).take(Limits::default().metadata_size).read_to_end(&mut bytes).map_err(failed)?;
    let description: Description = serde_json::from_slice(&bytes).map_err(|error| format!("{DESCRIPTION}: {error}"))?;
    if description.format != FORMAT {
        return Err(format!(
            "{DESCRIPTION} has format {}, and this version of layflat reads {FORMAT}",
            description.format
        ));
    }
    Ok(description)
}

fn difference(was: &Seal, now: &Seal, newest: &Path) -> String {
    let counted = |seal: &Seal| {
        let entries = crate::core::text::counted(seal.entries, "entry", "entries");
        format!("{entries} with {}", crate::core::text::counted(seal.size, "byte", "bytes"))
    };
    if (was.entries, was.size) == (now.entries, now.size) {
        format!("its contents were changed; {:?} was changed last", newest)
    } else {
        format!("it has {} instead of {}; {:?} was changed last", counted(now), counted(was), newest)
    }
}

/// How the name of something begins that a digest stands for.
pub(crate) fn file_name(digest: &Digest) -> String {
    format!("{}-{}", digest.algorithm().name(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    fn layer(cache: &Path) -> PathBuf {
        let id = Digest::sha256_of(b"layer");
        let path = cache.join(file_name(&id));
        std::fs::create_dir_all(path.join("tree/usr/lib")).unwrap();
        std::fs::write(path.join("tree/usr/lib/a"), "content").unwrap();
        Description::make(&path, (id.clone(), id), true, &[("notes", b"x".to_vec())]).unwrap();
        path
    }

    fn found(path: &Path) -> String {
        match KeptLayer::find(Of::Own, path) {
            Found::Nothing => "nothing".to_owned(),
            Found::Whole(_) => "whole".to_owned(),
            Found::Damaged(problem) => problem,
        }
    }

    #[test]
    fn s8_a_layer_is_believed_as_long_as_it_is_what_it_was() {
        type Damage = dyn Fn(&Path);
        let damages: [(&Damage, &str); 6] = [
            (&|layer| std::fs::write(layer.join("tree/usr/lib/a"), "").unwrap(), "5 entries"),
            (&|layer| std::fs::remove_dir_all(layer.join("tree")).unwrap(), "tree: No such file"),
            (&|layer| std::fs::write(layer.join("layer.json"), "{").unwrap(), "layer.json: EOF"),
            (&|layer| std::fs::remove_file(layer.join("layer.json")).unwrap(), "layer.json: No such file"),
            (
                &|layer| {
                    use std::os::unix::fs::PermissionsExt;
                    std::fs::set_permissions(layer, std::fs::Permissions::from_mode(0o777)).unwrap();
                },
                "others could",
            ),
            (&|layer| std::fs::remove_dir_all(layer).unwrap(), "nothing"),
        ];
        for (damage, expected) in damages {
            let cache = tempfile::tempdir().unwrap();
            let path = layer(cache.path());
            assert_eq!(found(&path), "whole");
            damage(&path);
            let expected =
                expected.replace("5 entries", "it has 4 entries with 0 bytes instead of 4 entries with 7 bytes");
            assert!(found(&path).starts_with(&expected), "{expected}: {}", found(&path));
        }
    }

    #[test]
    fn s8_a_copy_of_a_cache_is_read_once() {
        let cache = tempfile::tempdir().unwrap();
        let path = layer(cache.path());
        let copy = tempfile::tempdir().unwrap();
        let to = copy.path().join(path.file_name().unwrap());
        assert!(std::process::Command::new("cp").arg("-a").args([&path, &to]).status().unwrap().success());
        let stat = |path: &Path| describe(path).unwrap().tree.unwrap().stat;
        assert_eq!(stat(&to), stat(&path));
        assert_eq!(found(&to), "whole");
        assert_ne!(stat(&to), stat(&path));
        let before = std::fs::metadata(to.join("layer.json")).unwrap().ino();
        assert_eq!(found(&to), "whole");
        assert_eq!(std::fs::metadata(to.join("layer.json")).unwrap().ino(), before);
    }
}
