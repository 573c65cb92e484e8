//! Where images come from and where they go: one folder for each format, in which reading and writing lie side by side.
//!
//! [`source`] opens an image, whatever its format, and [`store`] puts images into a place.

#[cfg(not(feature = "registry"))]
mod absent;
mod dir;
mod docker;
#[cfg(feature = "registry")]
mod engine;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod io;
mod oci;
#[cfg(feature = "registry")]
mod registry;
pub mod source;
pub mod store;

#[cfg(not(feature = "registry"))]
use absent::{engine, registry};
