//! The archive reader against everybody else's: trees packed by the tools that people use, and random archives read
//! by two other crates.
#![allow(clippy::unwrap_used, reason = "clippy knows no test but the functions marked so")]

mod differential;
mod fixtures;
mod listing;
mod tools;
mod written;
