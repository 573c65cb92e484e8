//! The user namespace in which an ordinary user is root over a range of ids.
//!
//! The kernel lets anybody make a user namespace, but only map their own id into it. More ids take newuidmap and
//! newgidmap, which map those that the administrator granted in /etc/subuid and /etc/subgid (subuid(5)). Whoever is in
//! such a namespace may give files to all of these ids, and mount overlays that are seen in there.

mod current;
mod enter;
mod error;
mod subordinate;

pub use current::in_user_namespace;
pub use enter::{enter, enter_mounts};
pub use error::NamespaceError;
pub use subordinate::subordinate_ids;
