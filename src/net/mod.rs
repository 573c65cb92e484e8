//! Talking to others: registries over HTTP, and the engines that run on this machine.

pub mod engine;
pub mod registry;
