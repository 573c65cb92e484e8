//! Network clients: registries over HTTP, and the Docker or Podman daemon.

pub mod engine;
pub mod registry;
