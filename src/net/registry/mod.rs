//! A client of the distribution specification (opencontainers/distribution-spec): it pulls from and pushes to one
//! repository.
//!
//! ```text
//! endpoints   the repositories that a name leads to: mirrors, other locations, what is blocked
//! repository  what can be asked for: manifests, tags, blobs          push      what can be put there
//! download    a blob on its way, which survives a broken connection
//! session     one question, with whatever it takes to get an answer: tokens, redirects
//! challenge   what a registry wants to see    authorization  what it is shown    credentials, helper  where that is from
//! location    where an answer leads                              link      where the next page is
//! http        connections: TLS, proxies, time-outs
//! ```
//! Nothing here knows what an image is made of, and nothing is checked against its digest but by whoever reads it.

mod address;
mod authorization;
mod challenge;
mod credentials;
mod download;
mod encoding;
mod endpoints;
mod error;
#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod helper;
mod http;
mod link;
mod location;
mod options;
mod push;
mod referrers;
mod repository;
mod retry;
mod session;

pub use credentials::Credentials;
pub(crate) use endpoints::Endpoints;
pub use error::RegistryError;
pub(crate) use http::{USER_AGENT, break_on_cancel};
pub use options::{ClientCertificate, End, RegistryOptions};
pub use repository::{FetchedManifest, Repository};
