//! Images that are compared without being unpacked, and how the same comparison of unpacked trees comes out.

use std::path::Path;

use layflat::compare::{CompareOptions, Side, TreeDifference, What, compare, differences};
use layflat::core::chain::Chain;
use layflat::image::Image;
use layflat::inspect::index::{Indexes, indexes};
use layflat::inspect::{Holding, Inside, ShownTree};
use layflat::tree::{Snapshot, SnapshotOptions};
use layflat::unpack::AttributeProbe;
use layflat::{NoProgress, Options};

use super::run::Scratch;

/// An image whose layers are indexed.
pub struct Indexed {
    pub image: Image,
    pub indexes: Indexes,
    pub options: Options,
}

pub fn said(error: &(dyn std::error::Error + 'static)) -> String {
    Chain(error).to_string()
}

impl Indexed {
    pub fn new(image: Image) -> Result<Self, String> {
        let options = Options { no_sync: true, ..Options::default() };
        let indexes = indexes(&image, None, &options, &NoProgress).map_err(|error| said(&error))?;
        Ok(Self { image, indexes, options })
    }

    pub fn shown(&self, holding: Holding<'_>) -> Result<ShownTree<'_>, String> {
        let inside = Inside::new(&self.image, &self.indexes, &self.options).map_err(|error| said(&error))?;
        inside.shown_tree(Path::new("image"), holding, &self.options).map_err(|error| said(&error))
    }

    /// What it would be unpacked on a file system.
    pub fn unpacked(&self, base: &Path) -> Result<ShownTree<'_>, String> {
        let scratch = Scratch::new(base);
        let mut probe = AttributeProbe::new(&scratch.0, &self.options).map_err(|error| said(&error))?;
        self.shown(Holding::AsUnpacked(&mut probe))
    }

    pub fn flatten(&self, place: &Path) -> Result<(), String> {
        layflat::flatten(&self.image, place, &self.options, &NoProgress).map(drop).map_err(|error| said(&error))
    }
}

/// The differences of two sides.
pub fn between<'a>(a: impl Into<Side<'a>>, b: impl Into<Side<'a>>) -> Result<Vec<TreeDifference>, String> {
    differences(a, b, &CompareOptions::default()).map(without_offsets).map_err(|error| said(&error))
}

/// The differences of two directories.
pub fn between_trees(a: &Path, b: &Path) -> Result<Vec<TreeDifference>, String> {
    compare(a, b, &CompareOptions::default()).map(without_offsets).map_err(|error| said(&error))
}

pub fn snapshot(tree: &Path) -> Result<Snapshot, String> {
    Snapshot::take(tree, &SnapshotOptions::default()).map_err(|error| said(&error))
}

/// Where contents differ is only known of files that are read.
fn without_offsets(mut found: Vec<TreeDifference>) -> Vec<TreeDifference> {
    for difference in &mut found {
        if let What::Content { offset } = &mut difference.what {
            *offset = None;
        }
    }
    found
}

/// Whether two images, an image and the tree of the other one, and an image and its own tree, differ as the unpacked
/// trees do.
pub fn agrees_with_unpacked_trees(a: &Image, b: &Image, base: &Path) -> Result<(), String> {
    let image = |image: &Image| Indexed::new(image.clone());
    let (a, b) = (image(a)?, image(b)?);
    let scratch = Scratch::new(base);
    let (tree_a, tree_b) = (scratch.0.join("a"), scratch.0.join("b"));
    a.flatten(&tree_a)?;
    b.flatten(&tree_b)?;
    let expected = between_trees(&tree_a, &tree_b)?;
    let stated = between(&a.shown(Holding::AsStated)?, &b.shown(Holding::AsStated)?)?;
    same("two images", &expected, &stated)?;
    let (shown_a, shown_b) = (a.unpacked(base)?, b.unpacked(base)?);
    let (snapshot_a, snapshot_b) = (snapshot(&tree_a)?, snapshot(&tree_b)?);
    same("an image and a tree", &expected, &between(&shown_a, &snapshot_b)?)?;
    same("a tree and an image", &expected, &between(&snapshot_a, &shown_b)?)?;
    same("an image and its own tree", &[], &between(&shown_a, &snapshot_a)?)
}

pub fn same(what: &str, expected: &[TreeDifference], found: &[TreeDifference]) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let lines = |list: &[TreeDifference]| list.iter().map(|one| format!("\n  {one}")).collect::<String>();
    Err(format!("{what}: expected:{}\nfound:{}", lines(expected), lines(found)))
}
