//! Names of images: at registries, in archives and layouts; and platforms.

mod name;
mod platform;
#[expect(clippy::module_inception, reason = "the type that the room is named for")]
mod reference;
mod userinfo;

pub use name::{ImageName, ImageNameError};
pub use platform::{Platform, PlatformError};
pub use reference::{DaemonImage, Reference, ReferenceError};
pub use userinfo::mask_passwords;
