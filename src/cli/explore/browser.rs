//! What is chosen and shown, without a terminal: keys change it, and `draw` reads it.

use std::collections::HashSet;

use hashbrown::HashMap;

use layflat::core::reference::Platform;
use layflat::inspect::{Change, FileState, PathId, PathKind, Timeline, Totals, WastedDirectory};

use super::layers::LayerLine;

/// The part of the screen that keys go to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pane {
    Layers,
    Files,
    Details,
}

/// In which order a directory's contents are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sort {
    Size,
    Name,
}

/// One line of the tree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    pub(super) path: PathId,
    pub(super) depth: u16,
}

/// As many paths as a search lists. Nobody reads more, and to list a million takes longer than to type the next letter.
pub(super) const MOST_FOUND: usize = 10_000;

/// What lies over the panes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Overlay {
    None,
    Help,
    Waste {
        cursor: usize,
    },
    /// A line of text is typed.
    Filter,
    Extract {
        name: String,
    },
}

/// A file's content on its way, or here.
#[derive(Debug)]
pub(super) enum Preview {
    None,
    Reading(PathId),
    Text { path: PathId, lines: Vec<String>, is_cut: bool },
    Failed { path: PathId, problem: String },
}

/// All that the screen shows.
#[derive(Debug)]
pub(super) struct Browser {
    /// The names of the image, or of both.
    pub(super) names: Vec<String>,
    /// The platform that was chosen, for commands that do the same.
    pub(super) platform: Option<Platform>,
    pub(super) layers: Vec<LayerLine>,
    pub(super) waste: Vec<WastedDirectory>,
    pub(super) timeline: Timeline,
    pub(super) totals: Totals,
    /// Layers of the base image, folded into one line or not.
    pub(super) base: usize,
    pub(super) is_base_folded: bool,
    /// Two images instead of the layers of one.
    pub(super) compares_images: bool,
    /// Of two images, how what both have differs, by path.
    pub(super) changed: HashMap<Vec<u8>, Vec<String>>,
    /// Of two images, how much differs.
    pub(super) summary: Vec<String>,
    pub(super) layer: usize,
    pub(super) marked: Option<usize>,
    pub(super) pane: Pane,
    pub(super) sort: Sort,
    pub(super) changed_only: bool,
    pub(super) shows_deleted: bool,
    pub(super) filter: String,
    pub(super) rows: Vec<Row>,
    /// Whether everything that the filter finds is listed.
    pub(super) has_all: bool,
    pub(super) cursor: usize,
    pub(super) overlay: Overlay,
    pub(super) preview: Preview,
    /// Lines of a page.
    pub(super) page: isize,
    /// Lines of the details that are scrolled past.
    pub(super) scrolled: usize,
    pub(super) as_hex: bool,
    /// What the last key led to, if that is not seen otherwise.
    pub(super) message: String,
    expanded: HashSet<PathId>,
}

impl Browser {
    pub(super) fn new(
        names: Vec<String>,
        layers: Vec<LayerLine>,
        waste: Vec<WastedDirectory>,
        timeline: Timeline,
    ) -> Self {
        let layer = layers.len().saturating_sub(1);
        let mut browser = Self {
            names,
            platform: None,
            layers,
            waste,
            timeline,
            totals: Totals::default(),
            base: 0,
            is_base_folded: true,
            compares_images: false,
            changed: HashMap::new(),
            summary: Vec::new(),
            layer,
            marked: None,
            pane: Pane::Files,
            sort: Sort::Size,
            changed_only: false,
            shows_deleted: false,
            filter: String::new(),
            rows: Vec::new(),
            has_all: true,
            cursor: 0,
            overlay: Overlay::None,
            preview: Preview::None,
            page: 15,
            scrolled: 0,
            as_hex: false,
            message: String::new(),
            expanded: HashSet::new(),
        };
        browser.recount();
        browser
    }

    /// The layer that the shown one is compared with; before the first layer there is nothing.
    pub(super) fn from(&self) -> Option<usize> {
        match self.marked {
            Some(marked) => Some(marked),
            None => self.layer.checked_sub(1),
        }
    }

    pub(super) fn selected(&self) -> Option<PathId> {
        self.rows.get(self.cursor).map(|row| row.path)
    }

    /// What the layers do to a path, as one sign.
    pub(super) fn sign(&self, path: PathId) -> char {
        match self.timeline.change(path, self.from(), self.layer) {
            Change::Added => '+',
            Change::Changed => '~',
            Change::Deleted => '-',
            Change::Same => ' ',
            // Only seen where deleted files are shown.
            Change::Absent => '×',
        }
    }

    /// What is to be shown at a path: what is there, or what was there last.
    pub(super) fn shown(&self, path: PathId) -> Option<(&FileState, Option<usize>)> {
        match self.timeline.at(path, Some(self.layer)) {
            Some(file) => Some((file, None)),
            None if self.compares_images => self.timeline.last(path, self.layer),
            None => {
                let before = self.timeline.at(path, self.from());
                let deleted_by = self.timeline.last(path, self.layer).and_then(|(_, by)| by);
                match before {
                    Some(file) => Some((file, deleted_by.or(Some(self.layer)))),
                    None => self.timeline.last(path, self.layer),
                }
            }
        }
    }

    pub(super) fn is_expanded(&self, path: PathId) -> bool {
        self.expanded.contains(&path) || !self.filter.is_empty()
    }

    /// After another layer was chosen.
    fn recount(&mut self) {
        self.totals = self.timeline.totals(self.from(), self.layer);
        self.relist();
    }

    /// After something about the list was changed; the cursor stays on its path if that is still listed.
    fn relist(&mut self) {
        let selected = self.selected();
        (self.rows, self.has_all) = self.listed();
        let same = selected.and_then(|path| self.rows.iter().position(|row| row.path == path));
        self.cursor = same.unwrap_or(self.cursor).min(self.rows.len().saturating_sub(1));
        self.scrolled = 0;
    }

    fn listed(&self) -> (Vec<Row>, bool) {
        // Whoever looks for a name wants to know, too, that it was deleted.
        let with_deleted = self.shows_deleted || !self.filter.is_empty();
        let is_shown = |path: PathId| {
            let change = self.timeline.change(path, self.from(), self.layer);
            let is_there = change != Change::Absent || (with_deleted && self.timeline.last(path, self.layer).is_some());
            is_there && (!self.changed_only || self.totals.is_touched(path))
        };
        let matching = (!self.filter.is_empty()).then(|| self.matching(&is_shown));
        let is_listed = |path: PathId| match &matching {
            Some((listed, _)) => listed[path.number() as usize],
            None => is_shown(path),
        };
        let mut rows = Vec::new();
        let mut pending = self.sorted_children(Timeline::ROOT, 0, &is_listed);
        while let Some(row) = pending.pop() {
            rows.push(row);
            if self.is_expanded(row.path) {
                pending.extend(self.sorted_children(row.path, row.depth + 1, &is_listed));
            }
        }
        (rows, matching.as_ref().is_none_or(|&(_, is_all)| is_all))
    }

    /// The last first, to be taken from the end.
    fn sorted_children(&self, directory: PathId, depth: u16, is_listed: &dyn Fn(PathId) -> bool) -> Vec<Row> {
        let mut children: Vec<PathId> = self.timeline.children(directory).filter(|&path| is_listed(path)).collect();
        if self.sort == Sort::Size {
            children.sort_by_cached_key(|&path| std::cmp::Reverse(self.size(path)));
        }
        children.into_iter().rev().map(|path| Row { path, depth }).collect()
    }

    /// Bytes of what is there and below, or of what was deleted.
    pub(super) fn size(&self, path: PathId) -> u64 {
        let was = || self.shown(path).filter(|(file, _)| file.kind == PathKind::File).map_or(0, |(file, _)| file.size);
        match self.timeline.change(path, self.from(), self.layer) {
            Change::Deleted => self.totals.deleted(path),
            Change::Absent => was(),
            _ => self.totals.size(path),
        }
    }

    /// The paths that the filter finds, with the directories on the way to them; and whether these are all.
    fn matching(&self, is_shown: &dyn Fn(PathId) -> bool) -> (Vec<bool>, bool) {
        let wanted = Wanted::new(&self.filter);
        let mut matches = vec![false; self.timeline.len()];
        let mut listed = vec![false; self.timeline.len()];
        let index = |path: PathId| path.number() as usize;
        let mut count = 0;
        for path in self.timeline.paths() {
            // What is below a path that has the words has them, too.
            let is_below = wanted.is_path() && self.timeline.parent(path).is_some_and(|parent| matches[index(parent)]);
            matches[index(path)] = is_below || wanted.is_in(&self.timeline, path);
            if !matches[index(path)] || !is_shown(path) {
                continue;
            }
            if count == MOST_FOUND {
                return (listed, false);
            }
            count += 1;
            let mut at = Some(path);
            while let Some(path) = at.filter(|&path| !std::mem::replace(&mut listed[index(path)], true)) {
                at = self.timeline.parent(path);
            }
        }
        (listed, true)
    }

    // What keys do.

    pub(super) fn choose_layer(&mut self, layer: usize) {
        if layer < self.layers.len() && layer != self.layer && !self.compares_images {
            self.layer = layer;
            self.preview = Preview::None;
            self.recount();
        }
    }

    /// One line up or down in the list of layers, in which the topmost layer comes first.
    pub(super) fn step_layer(&mut self, up: bool) {
        let lines = self.layer_lines();
        let here = lines.iter().position(|&(first, last)| (first..=last).contains(&self.layer)).unwrap_or(0);
        let there = if up { here.checked_sub(1) } else { Some(here + 1) };
        if let Some(&(_, layer)) = there.and_then(|there| lines.get(there)) {
            self.choose_layer(layer);
        }
    }

    /// The lines of the list of layers: first and last layer of each, the topmost first.
    pub(super) fn layer_lines(&self) -> Vec<(usize, usize)> {
        let folded = if self.is_base_folded { self.base } else { 0 };
        let mut lines: Vec<_> = (folded..self.layers.len()).rev().map(|layer| (layer, layer)).collect();
        if folded > 0 {
            lines.push((0, folded - 1));
        }
        lines
    }

    pub(super) fn fold_base(&mut self) {
        self.is_base_folded = !self.is_base_folded;
        if self.base == 0 {
            self.message = "no base image is known: start with --base IMAGE".to_owned();
        } else if self.is_base_folded && self.layer < self.base {
            self.choose_layer(self.base - 1);
        }
    }

    pub(super) fn mark(&mut self) {
        if self.compares_images {
            return;
        }
        self.marked = if self.marked == Some(self.layer) { None } else { Some(self.layer) };
        self.message = match self.marked {
            Some(layer) => format!("layer {layer} is marked: choose another one to see what differs; m again ends it"),
            None => String::new(),
        };
        self.recount();
    }

    pub(super) fn move_to(&mut self, row: usize) {
        let row = row.min(self.rows.len().saturating_sub(1));
        if row != self.cursor {
            self.cursor = row;
            self.scrolled = 0;
            if !matches!(self.preview, Preview::Reading(_)) {
                self.preview = Preview::None;
            }
        }
    }

    pub(super) fn move_by(&mut self, rows: isize) {
        self.move_to(self.cursor.saturating_add_signed(rows));
    }

    pub(super) fn toggle(&mut self) {
        let Some(path) = self.selected().filter(|&path| self.timeline.has_children(path)) else { return };
        if !self.expanded.remove(&path) {
            self.expanded.insert(path);
        }
        self.relist();
    }

    pub(super) fn expand(&mut self) {
        if self.selected().is_some_and(|path| self.timeline.has_children(path) && !self.expanded.contains(&path)) {
            self.toggle();
        }
    }

    /// Closes a directory, or goes to the one that a file is in.
    pub(super) fn collapse(&mut self) {
        let Some(path) = self.selected() else { return };
        if self.expanded.contains(&path) {
            return self.toggle();
        }
        let parent = self.timeline.parent(path);
        if let Some(row) = self.rows.iter().position(|row| Some(row.path) == parent) {
            self.move_to(row);
        }
    }

    pub(super) fn toggle_sort(&mut self) {
        self.sort = if self.sort == Sort::Size { Sort::Name } else { Sort::Size };
        self.relist();
    }

    pub(super) fn toggle_changed_only(&mut self) {
        self.changed_only = !self.changed_only;
        self.relist();
    }

    pub(super) fn toggle_deleted(&mut self) {
        self.shows_deleted = !self.shows_deleted;
        self.relist();
    }

    /// The cursor goes to the first path that is found; where the filter ends, it stays where it is.
    pub(super) fn set_filter(&mut self, filter: String) {
        let selected = self.selected();
        self.filter = filter;
        if self.filter.is_empty()
            && let Some(path) = selected
        {
            self.open_way_to(path);
            if !self.shows_deleted && self.sign(path) == '×' {
                self.shows_deleted = true;
                self.message = "deleted files stay shown: d hides them".to_owned();
            }
        }
        self.relist();
        self.preview = Preview::None;
        let wanted = Wanted::new(&self.filter);
        let first = self.rows.iter().position(|row| wanted.is_in(&self.timeline, row.path));
        if let Some(row) = first.filter(|_| !self.filter.is_empty()) {
            self.move_to(row);
        }
    }

    /// Goes to the next path that the filter finds, or to the one before, round the end of the list.
    pub(super) fn next_match(&mut self, forward: bool) {
        if self.filter.is_empty() {
            self.message = "nothing is searched for: / begins".to_owned();
            return;
        }
        let wanted = Wanted::new(&self.filter);
        let count = self.rows.len();
        let step = |steps: usize| if forward { self.cursor + steps } else { self.cursor + count - steps };
        let next = (1..=count).map(|steps| step(steps) % count);
        let next = next.into_iter().find(|&row| wanted.is_in(&self.timeline, self.rows[row].path));
        if let Some(row) = next {
            self.move_to(row);
        }
    }

    fn open_way_to(&mut self, path: PathId) {
        let mut at = self.timeline.parent(path);
        while let Some(directory) = at {
            self.expanded.insert(directory);
            at = self.timeline.parent(directory);
        }
    }

    /// Goes to a path in the layer that has it, whatever is closed on the way.
    pub(super) fn go_to(&mut self, layer: usize, path: PathId) {
        self.filter.clear();
        self.changed_only = false;
        self.open_way_to(path);
        self.choose_layer(layer);
        self.relist();
        if let Some(row) = self.rows.iter().position(|row| row.path == path) {
            self.move_to(row);
        }
        self.pane = Pane::Files;
    }
}

/// What a filter looks for, in lower case: a part of a name, or with a slash of a path.
struct Wanted(Vec<u8>);

impl Wanted {
    fn new(filter: &str) -> Self {
        Self(filter.to_ascii_lowercase().into_bytes())
    }

    fn is_path(&self) -> bool {
        self.0.contains(&b'/')
    }

    fn is_in(&self, timeline: &Timeline, path: PathId) -> bool {
        let Some(slash) = self.0.iter().rposition(|&letter| letter == b'/') else {
            return self.is_part_of(timeline.name(path));
        };
        // Only where the names on both sides of the slash fit, the whole path is worth a look.
        let (before, after) = (&self.0[..slash], &self.0[slash + 1..]);
        let starts = timeline.name(path).get(..after.len()).is_some_and(|name| name.eq_ignore_ascii_case(after));
        let before = before.rsplit(|&letter| letter == b'/').next().unwrap_or_default();
        let above = timeline.parent(path).map_or(&b""[..], |parent| timeline.name(parent));
        let ends = above.len() >= before.len() && above[above.len() - before.len()..].eq_ignore_ascii_case(before);
        starts && ends && self.is_part_of(format!("/{}", timeline.path(path)).as_bytes())
    }

    fn is_part_of(&self, name: &[u8]) -> bool {
        let Some((first, rest)) = self.0.split_first() else { return true };
        let mut from = 0;
        // Most places differ in the first letter.
        while let Some(at) = name[from..].iter().position(|letter| letter.to_ascii_lowercase() == *first) {
            let after = &name[from + at + 1..];
            if after.get(..rest.len()).is_some_and(|after| after.eq_ignore_ascii_case(rest)) {
                return true;
            }
            from += at + 1;
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_is_found_in_any_case() {
        let is_part = |wanted: &str, name: &str| Wanted::new(wanted).is_part_of(name.as_bytes());
        assert!(is_part("ssl", "OpenSSL.cnf") && is_part("aab", "aaab") && is_part("B", "ab") && is_part("", "x"));
        assert!(!is_part("ssl", "ss") && !is_part("x", "") && is_part("größe", "Dateigröße"));
    }
}
