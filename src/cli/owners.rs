//! Ownership of the created files, and the user namespace that is needed to keep their owners.

use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;
use layflat::Owners;
use layflat::core::idmap::{IdMap, IdMaps, IdRange};
use layflat::fs::is_on_path;
use layflat::userns::{enter, enter_mounts, subordinate_ids};

use super::arguments::Common;
use super::output;
use super::watchdog::alone;

/// The heading of these options.
const HEADING: &str = "Owners";

/// Ownership of the created files.
#[derive(Debug, Args)]
pub(crate) struct OwnerArgs {
    /// Map user ids as a user namespace with this map would; repeatable. Without root, it replaces the map from
    /// /etc/subuid
    #[arg(help_heading = HEADING, long = "uid-map", value_name = "IN:OUT:COUNT", conflicts_with_all = ["record_ownership", "single_owner"])]
    uid_map: Vec<IdRange>,
    /// The same for group ids [default: as --uid-map]
    #[arg(help_heading = HEADING, long = "gid-map", value_name = "IN:OUT:COUNT", requires = "uid_map")]
    gid_map: Vec<IdRange>,
    /// Own all files yourself; store real owner and mode in the xattr user.containers.override_stat, which
    /// fuse-overlayfs reads
    #[arg(help_heading = HEADING, long, conflicts_with = "single_owner")]
    record_ownership: bool,
    /// Own all files yourself, even if /etc/subuid would allow keeping owners
    #[arg(help_heading = HEADING, long)]
    single_owner: bool,
}

/// The ownership that was chosen.
#[derive(Debug)]
pub(crate) struct Settled {
    /// For unpacking.
    pub(crate) owners: Owners,
    /// The map that was asked for, or that of the user namespace which was entered.
    pub(crate) maps: Option<IdMaps>,
    /// Notes for the user if the command succeeds.
    note: Option<String>,
}

impl Settled {
    /// Prints the notes. Only after success: an error is one line alone.
    pub(crate) fn say(&self, common: &Common) {
        if let Some(note) = &self.note {
            output::say(common, format_args!("note: {note}"));
        }
    }
}

impl OwnerArgs {
    /// Decides, and enters a user namespace where an ordinary user's subordinate ids can keep the owners. To be called
    /// before the process has threads.
    pub(crate) fn settle(&self) -> anyhow::Result<Settled> {
        let settled = |owners, maps, note| Ok(Settled { owners, maps, note });
        if self.record_ownership {
            return settled(Owners::Recorded, None, None);
        }
        let asked = self.maps()?;
        if rustix::process::geteuid().is_root() {
            let owners = asked.clone().map_or(Owners::AsTheyAre, |maps| Owners::Shifted(Arc::new(maps)));
            return settled(owners, asked, None);
        }
        let granted = match asked {
            None if self.single_owner => Granted::Nothing,
            None => granted()?,
            Some(maps) => Granted::Ids(maps),
        };
        match granted {
            Granted::Ids(maps) => {
                alone(|| enter(&maps))?;
                let note = format!(
                    "owners are shifted by {}; in `layflat unshare CMD` they look as in the image, and files can be removed",
                    maps.uids
                );
                settled(Owners::AsTheyAre, Some(maps), Some(note))
            }
            Granted::NoHelper => settled(Owners::AsTheyAre, None, Some(NO_HELPER.to_owned())),
            Granted::Nothing => settled(Owners::AsTheyAre, None, None),
        }
    }

    /// Decides where no namespace may be entered, since what is made would go with it.
    pub(crate) fn without_namespace(&self) -> anyhow::Result<Owners> {
        Ok(match self.maps()? {
            _ if self.record_ownership => Owners::Recorded,
            Some(maps) => Owners::Shifted(Arc::new(maps)),
            None => Owners::AsTheyAre,
        })
    }

    /// Enters a mount namespace; an ordinary user also a user namespace, as root over all ids that are theirs. To be called
    /// before the process has threads.
    pub(crate) fn enter(&self, common: &Common) -> anyhow::Result<()> {
        match self.maps()? {
            Some(maps) => alone(|| enter(&maps))?,
            None if rustix::process::geteuid().is_root() => alone(enter_mounts)?,
            None if self.is_single() => alone(|| enter(&own()))?,
            None => match granted()? {
                Granted::Ids(maps) => alone(|| enter(&maps))?,
                Granted::Nothing => alone(|| enter(&own()))?,
                Granted::NoHelper => {
                    output::say(common, format_args!("note: {NO_HELPER}"));
                    alone(|| enter(&own()))?;
                }
            },
        }
        Ok(())
    }

    /// Whether owners are to be recorded.
    pub(crate) fn is_recorded(&self) -> bool {
        self.record_ownership
    }

    /// Whether one id is to be enough.
    pub(crate) fn is_single(&self) -> bool {
        self.record_ownership || self.single_owner
    }

    /// The maps that were asked for.
    pub(crate) fn maps(&self) -> anyhow::Result<Option<IdMaps>> {
        if self.uid_map.is_empty() {
            return Ok(None);
        }
        let uids = IdMap::new(self.uid_map.clone()).context("--uid-map")?;
        let gids = match self.gid_map.as_slice() {
            [] => uids.clone(),
            ranges => IdMap::new(ranges.to_vec()).context("--gid-map")?,
        };
        Ok(Some(IdMaps { uids, gids }))
    }
}

/// The caller's own id, as root's.
pub(crate) fn own() -> IdMaps {
    let (uid, gid) = (rustix::process::geteuid(), rustix::process::getegid());
    IdMaps::root(uid.as_raw(), gid.as_raw())
}

/// The ids that /etc/subuid and /etc/subgid grant to the caller.
#[derive(Debug)]
pub(crate) enum Granted {
    /// These ids.
    Ids(IdMaps),
    /// Some, but there is nothing that maps them.
    NoHelper,
    /// None.
    Nothing,
}

/// For a user who is granted ids that nothing maps.
pub(crate) const NO_HELPER: &str =
    "owners are not kept: /etc/subuid grants you ids, but newuidmap is not installed (package uidmap)";

/// The caller's subordinate ids.
pub(crate) fn granted() -> anyhow::Result<Granted> {
    let Some(maps) = subordinate_ids()? else {
        return Ok(Granted::Nothing);
    };
    let helped = is_on_path("newuidmap") && is_on_path("newgidmap");
    Ok(if helped { Granted::Ids(maps) } else { Granted::NoHelper })
}
