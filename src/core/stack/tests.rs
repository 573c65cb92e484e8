//! Tests what each layer's directory must hold, from records alone.

use super::*;
use crate::core::record::{ChangeKind, ContentId};
use crate::core::text::Timestamp;

/// A layer in words: `D d`, `F d/a`, `L a->b`, `H b=a`, `W d/a` (whiteout), `O d` (opaque whiteout).
fn layer(words: &str) -> Record {
    let mut record = Record::default();
    for (index, word) in words.split(", ").filter(|word| !word.is_empty()).enumerate() {
        let (kind, rest) = word.split_once(' ').unwrap();
        let (name, other) = rest.split_once("->").or_else(|| rest.split_once('=')).unwrap_or((rest, ""));
        let intern = |record: &mut Record, name: &str| {
            record.names.intern_path(&LayerPath::normalise(name.as_bytes()).unwrap()).unwrap()
        };
        let name = intern(&mut record, name);
        let mtime = Timestamp { seconds: 1000 + index as i64, nanoseconds: 0 };
        let attributes = Attributes { mtime, ..Attributes::of_unnamed_directory() };
        let kind = match kind {
            "D" => ChangeKind::Directory(attributes),
            "F" => ChangeKind::File { attributes, size: 0, content: ContentId(index as u32) },
            "L" => ChangeKind::Symlink { attributes, target: other.as_bytes().into() },
            "H" => ChangeKind::HardLink { target: intern(&mut record, other) },
            "W" => ChangeKind::Whiteout,
            "O" => ChangeKind::Opaque,
            _ => panic!("{word}"),
        };
        record.changes.push(Change { name, kind });
    }
    record
}

/// The differences of a stack: `d/` a directory, `d/!` an opaque one, `a` a file, `-a` a whiteout.
///
/// They are the same whether all layers are there from the start or come one after the other.
fn differences(layers: &[&str]) -> Vec<String> {
    let records: Vec<Record> = layers.iter().map(|words| layer(words)).collect();
    let stack = Stack::replay(&records, Reading::default()).unwrap();
    let found = in_words(&stack);
    let shown = Stack::replay_shown(&records, Reading::default()).unwrap();
    assert_eq!(text(&shown, &shown.whole()), text(&stack, &stack.whole()));
    let mut growing = GrowingStack::default();
    for (number, record) in records.into_iter().enumerate() {
        growing.push(record);
        let grown = growing.replay(Reading::default(), |stack, _| in_words(stack)).unwrap();
        assert_eq!(grown, found[..=number]);
    }
    found
}

fn in_words(stack: &Stack<'_>) -> Vec<String> {
    stack.layers().iter().map(|difference| text(stack, difference)).collect()
}

fn text(stack: &Stack<'_>, difference: &Difference) -> String {
    let word = |(index, entry): (usize, &LayerEntry)| {
        let path = stack.path(difference, index).to_string();
        match entry.what {
            What::Directory { opaque: true, .. } => format!("{path}/!"),
            What::Directory { .. } if index == 0 => "/".to_owned(),
            What::Directory { .. } => format!("{path}/"),
            What::Leaf(_) => path,
            What::Whiteout => format!("-{path}"),
        }
    };
    difference.entries().iter().enumerate().map(word).collect::<Vec<_>>().join(" ")
}

fn refused(layers: &[&str]) -> Problem {
    let records: Vec<Record> = layers.iter().map(|words| layer(words)).collect();
    Stack::replay(&records, Reading::default()).unwrap_err().problem
}

fn path(name: &str) -> LayerPath {
    LayerPath::normalise(name.as_bytes()).unwrap()
}

#[test]
fn o1_whiteouts_only_where_they_hide_something() {
    assert_eq!(differences(&["D d, F d/a, F d/b", "W d/a, W d/ghost"])[1], "/ d/ -d/a");
    assert_eq!(differences(&["D d, W d/ghost, F d/c"])[0], "/ d/ d/c");
    assert_eq!(differences(&["F x", "W nope/deep/ghost"])[1], "");
}

#[test]
fn o2_opaque_only_where_the_directory_below_has_children() {
    assert_eq!(differences(&["D d, F d/old", "W d, D d, F d/new"])[1], "/ d/! d/new");
    assert_eq!(differences(&["D d", "W d, D d, F d/new"])[1], "/ d/ d/new");
    assert_eq!(differences(&["F d", "D d, F d/new"])[1], "/ d/ d/new");
    assert_eq!(differences(&["D d, F d/low", "F d, D d, F d/n"])[1], "/ d/! d/n");
    assert_eq!(differences(&["D d, F d/a, D d/s, F d/s/x", "O d, D d/s, F d/s/y"])[1], "/ d/! d/s/ d/s/y");
}

#[test]
fn o3_an_opaque_root_becomes_whiteouts_and_opaque_directories() {
    assert_eq!(differences(&["F a, D d, F d/x", "O ., F b, D d, F d/y"])[1], "/ -a b d/! d/y");
}

#[test]
fn o4_a_layer_that_changes_nothing_has_nothing() {
    assert_eq!(differences(&["D d, F d/a", "F x, W x, D d", "W y"])[1..], ["/ d/ x", ""]);
    // The same attributes again, as Docker's layers repeat them for the parents of what changed.
    assert_eq!(differences(&["D d", "D d"])[1], "");
}

#[test]
fn n4_a_symlinked_parent_is_followed_in_the_view() {
    let base = "D usr, D usr/lib, F usr/lib/x, L lib->usr/lib";
    assert_eq!(differences(&[base, "F lib/foo"])[1], "/ usr/ usr/lib/ usr/lib/foo");
    assert_eq!(differences(&[base, "W lib/x"])[1], "/ usr/ usr/lib/ -usr/lib/x");
    assert_eq!(differences(&[base, "D lib, F lib/foo"])[1], "/ lib/ lib/foo");
    assert_eq!(refused(&["L a->b, L b->a, F a/x"]), Problem::TooManyLinks);
    assert_eq!(refused(&["F a, F a/b"]), Problem::ParentIsFile(path("a")));
}

#[test]
fn n4_a_parent_that_a_symlink_makes_of_a_file_is_refused() {
    let leads = |link, file| Problem::ParentLeadsToFile { link: path(link), file: path(file) };
    assert_eq!(refused(&["F f, L l->f", "F l/x"]), leads("l", "f"));
    assert_eq!(refused(&["F f, L l->m, L m->/f", "F l/x/y"]), leads("m", "f"));
    assert_eq!(refused(&["D d, F d/f, L l->d", "F l/f/x"]), leads("l", "d/f"));
    assert_eq!(differences(&["F f", "F f/x"])[1], "/ f/ f/x");
    assert_eq!(differences(&["F f, L l->f", "D l, F l/x"])[1], "/ l/ l/x");
    assert_eq!(differences(&["L l->no/where", "F l/x"])[1], "/ no/ no/where/ no/where/x");
}

#[test]
fn l2_a_link_to_what_is_below_emits_every_name() {
    assert_eq!(differences(&["D d, F d/a, H d/b=d/a", "H c=d/b"])[1], "/ c d/ d/a d/b");
    assert_eq!(differences(&["F a", "H a=a"])[1], "");
}

#[test]
fn l1_a_link_needs_a_target_that_is_a_file() {
    assert_eq!(refused(&["H b=a, F a"]), Problem::LinkTargetMissing(path("a")));
    assert_eq!(refused(&["F a", "W a, H b=a"]), Problem::LinkTargetMissing(path("a")));
    assert_eq!(refused(&["D d, H b=d"]), Problem::LinkToDirectory(path("d")));
    assert_eq!(refused(&["D d, F d/a, H d=d/a"]), Problem::LinkReplacesTarget(path("d/a")));
}

#[test]
fn m1_marks_act_on_what_is_below_wherever_they_stand() {
    assert_eq!(differences(&["D a, D a/b, F a/b/bar", "F a/b/foo, O a"])[1], "/ a/! a/b/ a/b/foo");
    assert_eq!(differences(&["F a", "F a, W a"])[1], "/ a");
    assert_eq!(differences(&["D d, F d/old", "W d, W d/old"])[1], "/ -d");
}

#[test]
fn m1_a_symlink_that_the_layer_replaces_is_not_followed_by_its_marks() {
    let base = "D t, F t/k, D t/s, F t/s/k, L l->/t";
    for (above, expected) in [
        ("D l, O l, F l/new", "/ l/ l/new"),
        ("O l, F l/new, D l", "/ l/ t/ t/new"),
        ("D l, D l/s, W l/s/k", "/ l/ l/s/"),
        ("W l, W l/k", "/ -l"),
        ("L l->x, W l/k", "/ l"),
        ("W l, O l, F l/new", "/ l/ l/new"),
        ("H l=t/k, O l", "/ l t/ t/k"),
        // Nothing is said of the link: it is followed.
        ("W l/k", "/ t/ -t/k"),
        ("O l, F l/new", "/ t/! t/new"),
    ] {
        assert_eq!(differences(&[base, above])[1], expected, "{above}");
    }
}

/// What each layer does to each path: `+` new, `~` another one, `*` other attributes, `-` gone.
fn events(layers: &[&str]) -> Vec<String> {
    let records: Vec<Record> = layers.iter().map(|words| layer(words)).collect();
    let mut lines = Vec::new();
    let mut watch = |step: &Step<'_, '_>| {
        let word = |(path, event): &(LayerPath, Event)| {
            let whiteout = match (event.before, event.now) {
                (None, _) => '+',
                (_, None) => '-',
                (Some(Node::Directory { id: one, .. }), Some(Node::Directory { id: other, .. })) if one == other => '*',
                _ => '~',
            };
            format!("{whiteout}{path}")
        };
        let mut events: Vec<_> = step.events().into_iter().map(|event| (step.place(&event), event)).collect();
        events.sort_by(|(one, _), (other, _)| one.cmp(other));
        lines.push(events.iter().map(word).collect::<Vec<_>>().join(" "));
    };
    Stack::replay_watched(&records, Reading::default(), &mut watch).unwrap();
    lines
}

#[test]
fn events_follow_every_path_into_directories_that_come_and_go() {
    assert_eq!(events(&["D d, F d/a, D d/s, F d/s/x"]), ["+d +d/a +d/s +d/s/x"]);
    assert_eq!(events(&["D d, F d/a, D d/s, F d/s/x", "W d"])[1], "-d -d/a -d/s -d/s/x");
    assert_eq!(events(&["D d, F d/a, F d/b", "W d, D d, F d/a"])[1], "~d ~d/a -d/b");
    assert_eq!(events(&["D d, F d/a", "O d, F d/b"])[1], "-d/a +d/b");
    assert_eq!(events(&["D d, F d/a", "F d"])[1], "~d -d/a");
    assert_eq!(events(&["F x", "F x, W x"])[1], "~x");
    assert_eq!(events(&["F x, F y", "F z, D z, F z/a, W x, H y=y"])[1], "-x +z +z/a");
    // The same attributes again are no event; others are, the root's too.
    assert_eq!(events(&["D d", "D d", "F x, D d, D ."])[1..], ["", "*/ *d +x"]);
}

#[test]
fn events_are_of_paths_behind_symlinked_parents() {
    let base = "D usr, D usr/lib, F usr/lib/x, L lib->usr/lib";
    assert_eq!(events(&[base, "F lib/y", "W lib/x"])[1..], ["+usr/lib/y", "-usr/lib/x"]);
}

#[test]
fn events_of_a_replaced_symlink_are_not_of_what_it_led_to() {
    let base = "D t, F t/k, L l->/t";
    assert_eq!(events(&[base, "D l, O l, F l/new"])[1], "~l +l/new");
    assert_eq!(events(&[base, "W l, W l/k"])[1], "-l");
    assert_eq!(events(&[base, "W l/k"])[1], "-t/k");
}

#[test]
fn m1_a_mark_that_is_not_followed_is_idle_and_the_trial_leaves_nothing() {
    let base = "D t, F t/k, F t/o, L l->/t, F a, F b";
    // The trial links a and makes directories; the replay in earnest starts from the view as it was.
    let layers = [base, "H c=a, D n/e/w, H n/e/h=b, D l, W l/k, W t/o, W b, H l/a=c"];
    assert_eq!(refused(&layers), Problem::LinkTargetMissing(path("b")));
    let layers = [base, "H c=a, D n/e/w, H n/e/h=b, D l, W l/k, W t/o, H l/a=c"];
    assert_eq!(differences(&layers)[1], "/ a b c l/ l/a n/ n/e/ n/e/h n/e/w/ t/ -t/o");
    let records: Vec<Record> = layers.iter().map(|words| layer(words)).collect();
    let mut idle = Vec::new();
    let stack =
        Stack::replay_watched(&records, Reading::default(), &mut |step| idle.push(step.idle_whiteouts().to_vec()));
    assert_eq!(idle, [vec![], vec![4]]);
    assert_eq!(stack.unwrap().inodes().count(), 5);
}

#[test]
fn paths_are_resolved_as_under_chroot() {
    let records =
        [layer("D usr, D usr/lib, F usr/lib/x, L lib->usr/lib, L up->../../lib/x, L a->b, L b->a, L no->nowhere")];
    let stack = Stack::replay(&records, Reading::default()).unwrap();
    let found = |path: &str, last| stack.resolve(path.as_bytes(), last).map(|found| found.path.to_string());
    assert_eq!(found("/lib/x", Last::Keep), Ok("usr/lib/x".to_owned()));
    assert_eq!(found("up", Last::Keep), Ok("up".to_owned()));
    assert_eq!(found("up", Last::Follow), Ok("usr/lib/x".to_owned()));
    assert_eq!(found("lib", Last::Keep), Ok("lib".to_owned()));
    assert_eq!(found("lib/", Last::Keep), Ok("usr/lib".to_owned()));
    assert_eq!(found("lib/../..", Last::Keep), Ok("/".to_owned()));
    assert_eq!(found("", Last::Keep), Ok("/".to_owned()));
    assert_eq!(found("a", Last::Follow), Err(LookupError::TooManyLinks));
    assert_eq!(found("no", Last::Follow), Err(LookupError::Missing(path("nowhere"))));
    assert_eq!(found("usr/lib/x/y", Last::Keep), Err(LookupError::NotADirectory(path("usr/lib/x"))));
    assert_eq!(found("lib/z", Last::Keep), Err(LookupError::Missing(path("usr/lib/z"))));
}

#[test]
fn marks_that_hide_nothing_are_known() {
    let records = [layer("F x, D d, F d/a, D e"), layer("W x, W ghost, O d, O e, O nowhere, W d/a, W x")];
    let mut idle = Vec::new();
    Stack::replay_watched(&records, Reading::default(), &mut |step| idle.push(step.idle_whiteouts().to_vec())).unwrap();
    assert_eq!(idle, [vec![], vec![1, 3, 4]]);
}
