//! Where images come from and where they go: one folder for each format, in which reading and writing lie side by side.
//!
//! [`source`] opens an image, whatever its format, and [`store`] puts images into a place.

mod dir;
mod docker;
mod engine;
mod io;
mod oci;
mod registry;
pub mod source;
pub mod store;
