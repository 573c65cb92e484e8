//! Registries: what the distribution specification (opencontainers/distribution-spec) has for pulling and pushing, for one repository at a
//! time.
//!
//! ```text
//! repository  what can be asked for: manifests, tags, blobs          push      what can be put there
//! download    a blob on its way, which survives a broken connection
//! session     one question, with whatever it takes to get an answer: tokens, redirects
//! location    where an answer leads                              link      where the next page is
//! http        connections: TLS, proxies, time-outs
//! ```
//! Nothing here knows what an image is made of, and nothing is checked against its digest but by whoever reads it.

mod address;
mod authorization;
mod credentials;
mod download;
mod encoding;
mod error;
mod http;
mod link;
mod location;
mod options;
mod push;
mod repository;
mod retry;
mod session;

pub use credentials::Credentials;
pub use error::RegistryError;
pub(crate) use http::{USER_AGENT, break_on_cancel};
pub use options::{ClientCertificate, RegistryOptions};
pub use repository::{FetchedManifest, Repository};
