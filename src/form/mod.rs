//! The forms in which a stack is laid down: overlay and flat.

mod layout;

pub use layout::{FILE_NAME, LayerDirectory, Layout};
