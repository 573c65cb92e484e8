//! Turns container images into file systems, without a container engine.

pub mod archive;
pub mod blob;
pub mod compare;
pub mod form;
pub mod image;
pub mod layer;
mod options;
pub mod overlay;

pub use options::{Cancel, Limits, Options, XattrNamespace};
