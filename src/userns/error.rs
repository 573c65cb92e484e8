//! Errors of entering a namespace.

use crate::core::idmap::{IdMap, IdMapError};
use std::io;

/// Why no namespace was entered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NamespaceError {
    /// The kernel refuses.
    #[error("cannot make a user namespace{}", reason(error))]
    Refused {
        /// The message.
        #[source]
        error: io::Error,
    },
    /// A root process needs no user namespace, only one for its mounts.
    #[error("cannot make a mount namespace")]
    Mounts {
        /// The system error.
        #[source]
        error: io::Error,
    },
    /// The caller alone can be mapped without help, and that fails.
    #[error("cannot write /proc/self/{file}")]
    Map {
        /// Which map.
        file: &'static str,
        /// The system error.
        #[source]
        error: io::Error,
    },
    /// The helpers cannot be started.
    #[error("cannot start {SHELL} to run newuidmap and newgidmap")]
    Helper {
        /// The system error.
        #[source]
        error: io::Error,
    },
    /// The helpers refuse the map.
    #[error(
        "the ids {uids} and {gids} cannot be mapped: {message}; newuidmap and newgidmap (of the package uidmap) map what \
         /etc/subuid and /etc/subgid grant you"
    )]
    NotGranted {
        /// The users.
        uids: IdMap,
        /// The groups.
        gids: IdMap,
        /// What the helpers say.
        message: String,
    },
    /// The map does not make the caller root inside.
    #[error("the map {map} does not make you root inside: it needs 0:{id}:1 as one of its ranges")]
    NotRoot {
        /// The map.
        map: IdMap,
        /// The caller's id.
        id: u32,
    },
    /// The files that grant ids cannot be used.
    #[error("cannot read {file}")]
    Grants {
        /// Which.
        file: &'static str,
        /// The system error.
        #[source]
        error: io::Error,
    },
    /// The files that grant ids grant none that could be mapped.
    #[error("{file} has ranges that are not a valid map")]
    BadGrants {
        /// Which.
        file: &'static str,
        /// Why they make none.
        #[source]
        error: IdMapError,
    },
}

pub(super) const SHELL: &str = "/bin/sh";

fn reason(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(number) if number == rustix::io::Errno::PERM.raw_os_error() => {
            ", since this system does not let ordinary users make any (see user_namespaces(7))"
        }
        Some(number) if number == rustix::io::Errno::INVAL.raw_os_error() => {
            ", which must happen before the process has threads"
        }
        Some(number) if number == rustix::io::Errno::NOSPC.raw_os_error() => {
            ", since there are as many as /proc/sys/user/max_user_namespaces allows"
        }
        _ => "",
    }
}
