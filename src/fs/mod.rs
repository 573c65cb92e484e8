//! File system operations that all rooms share: making a result beside its destination, syncing it, publishing it by
//! one rename, and removing trees.
//!
//! Everything works on directory handles. Another user may own the directory that a destination is in, and can rename
//! whatever lies there at any moment: a name is looked at once, and what is written or removed afterwards is reached
//! through the handle (rules S1, S2, S6 and S7).

mod again;
mod aside;
mod descent;
mod elsewhere;
mod ending;
mod guarded;
mod handle;
mod leftovers;
mod lock;
mod mounts;
mod output;
mod place;
mod remove;
mod search;
mod sync;
mod work;

pub(crate) use again::{entries, open, openat, openat2, read_at};
pub(crate) use aside::{ASIDE, Aside, shown};
pub(crate) use descent::Descent;
pub use elsewhere::{asked_to_wait, wait_elsewhere};
pub(crate) use ending::publishing;
pub use ending::{Held, abandon, hold, unfinished};
pub(crate) use guarded::is_writable_by_others;
pub use guarded::{Unguarded, check_guarded};
pub use handle::raise_handle_limit;
pub(crate) use handle::{handles, make_directory, open_directory, open_path, open_regular};
pub use leftovers::{Leftover, take as take_leftovers};
pub(crate) use lock::{LONGEST_WORK, Lock, locks_are_local, locks_on_directories_are_local, means_no_locks, share};
pub(crate) use mounts::{is_mount_root, look_quietly, mountinfo, mounts_below, mounts_in};
pub use output::{Destination, Output, OutputError};
pub(crate) use place::Place;
pub use place::PlaceError;
pub(crate) use remove::{remove_contents, remove_contents_but, remove_tree};
pub use search::is_on_path;
pub(crate) use sync::Durability;
pub use work::DestinationError;
pub(crate) use work::Work;
