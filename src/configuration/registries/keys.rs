//! Keys of a `registries.conf`. Go's reader ignores case, so `Blocked` counts as `blocked`. Unknown keys have no
//! effect; they are reported.

use std::borrow::Cow;

use toml::Spanned;
use toml::de::{DeArray, DeTable, DeValue};

const REGISTRY: &str = "registry";
const MIRROR: &str = "mirror";
/// What is known, and of no interest here: nothing is pulled by a short name.
const OF_FILE: [&str; 6] =
    ["unqualified-search-registries", "short-name-mode", "credential-helpers", "aliases", "registries", REGISTRY];
const OF_REGISTRY: [&str; 7] =
    ["prefix", "location", "insecure", "blocked", "mirror-by-digest-only", "pull-from-mirror", MIRROR];
const OF_MIRROR: [&str; 3] = ["location", "insecure", "pull-from-mirror"];
/// The helper that stands for the files of `podman login`, which are read.
const AUTH_FILES: &str = "containers-auth.json";

/// Gives the keys their usual spelling, and says which ones do nothing.
pub(super) fn normalise(document: &mut DeTable<'_>) -> Vec<String> {
    let mut idle = Vec::new();
    spell(document, &OF_FILE, "", &mut idle);
    if let Some(DeValue::Array(helpers)) = value(document, "credential-helpers")
        && helpers.iter().any(|helper| helper.get_ref().as_str().is_some_and(|name| name != AUTH_FILES))
    {
        idle.push("credential-helpers".to_owned());
    }
    for registry in tables(document, REGISTRY) {
        spell(registry, &OF_REGISTRY, "[[registry]] ", &mut idle);
        for mirror in tables(registry, MIRROR) {
            spell(mirror, &OF_MIRROR, "[[registry.mirror]] ", &mut idle);
        }
    }
    idle
}

fn spell(table: &mut DeTable<'_>, known: &[&str], of: &str, idle: &mut Vec<String>) {
    for (key, value) in std::mem::take(table) {
        let lower = key.get_ref().to_ascii_lowercase();
        if known.contains(&lower.as_str()) {
            table.insert(Spanned::new(key.span(), Cow::Owned(lower)), value);
        } else {
            idle.push(format!("{of}{}", key.get_ref()));
        }
    }
}

fn value<'t, 'i>(table: &'t mut DeTable<'i>, key: &str) -> Option<&'t mut DeValue<'i>> {
    table.iter_mut().find(|(name, _)| name.get_ref() == key).map(|(_, value)| value.get_mut())
}

/// The tables of an array; what else is there is refused later.
fn tables<'t, 'i: 't>(table: &'t mut DeTable<'i>, key: &str) -> impl Iterator<Item = &'t mut DeTable<'i>> {
    let array: Option<&mut DeArray<'i>> = match value(table, key) {
        Some(DeValue::Array(array)) => Some(array),
        _ => None,
    };
    array.into_iter().flat_map(|array| array.iter_mut()).filter_map(|entry| match entry.get_mut() {
        DeValue::Table(table) => Some(table),
        _ => None,
    })
}
