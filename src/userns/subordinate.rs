//! The subordinate ids that /etc/subuid and /etc/subgid grant to the user.

use super::error::NamespaceError;
use crate::core::idmap::{IdMap, IdMaps, IdRange};
use rustix::process::{getegid, geteuid};
use std::io::ErrorKind;

/// The map by which the caller is root, and all ids from 1 on are those granted in /etc/subuid and /etc/subgid; none
/// where nothing is granted.
///
/// # Errors
/// Files that cannot be read, and ranges that make no map.
pub fn subordinate_ids() -> Result<Option<IdMaps>, NamespaceError> {
    let (uid, gid) = (geteuid().as_raw(), getegid().as_raw());
    let name = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid)).ok().flatten().map(|user| user.name);
    let granted = |file: &'static str, own: u32| {
        let text = match std::fs::read_to_string(file) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(NamespaceError::Grants { file, error }),
        };
        // Groups, too, are granted to users.
        map(&text, name.as_deref(), uid, own).map_err(|error| NamespaceError::BadGrants { file, error })
    };
    let (uids, gids) = (granted("/etc/subuid", uid)?, granted("/etc/subgid", gid)?);
    Ok(uids.zip(gids).map(|(uids, gids)| IdMaps { uids, gids }))
}

/// What the lines `user:first:count` of a file grant to a user, by name or number, behind an id of their own.
fn map(text: &str, name: Option<&str>, uid: u32, own: u32) -> Result<Option<IdMap>, crate::core::idmap::IdMapError> {
    let number = uid.to_string();
    let mut ranges = vec![IdRange { inside: 0, outside: own, count: 1 }];
    let mut next: u32 = 1;
    for line in text.lines() {
        let mut fields = line.trim().split(':');
        let (Some(user), Some(first), Some(count)) = (fields.next(), fields.next(), fields.next()) else {
            continue;
        };
        let (Ok(outside), Ok(count)) = (first.parse(), count.parse::<u32>()) else {
            continue;
        };
        if (Some(user) == name || user == number) && count > 0 {
            // More than there are ids is as many as there are.
            let count = count.min(u32::MAX - next);
            ranges.push(IdRange { inside: next, outside, count });
            next += count;
        }
    }
    if ranges.len() == 1 { Ok(None) } else { IdMap::new(ranges).map(Some) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_are_by_name_and_by_number() {
        let text = "# comment\nroot:1:2\nme:100000:65536\n\nmeme:7:7\n1000:300000:10\nme:bad:1\nme:5\n";
        let map = |name, uid| map(text, name, uid, uid).unwrap().map(|map| map.to_string());
        assert_eq!(map(Some("me"), 1000).as_deref(), Some("0:1000:1,1:100000:65536,65537:300000:10"));
        assert_eq!(map(None, 1000).as_deref(), Some("0:1000:1,1:300000:10"));
        assert_eq!(map(Some("you"), 1001), None);
    }

    #[test]
    fn ranges_that_overlap_make_no_map() {
        assert!(map("me:1000:5\n", Some("me"), 1000, 1000).is_err());
    }
}
