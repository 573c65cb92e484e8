//! Looking up the addresses of a host.
//!
//! The system's resolver knows no time-out and no signals, so another thread asks it; ureq's own way to do so ends the program where
//! no thread can be made.

use std::time::Instant;

use crossbeam_channel::{RecvTimeoutError, bounded};
use ureq::Error;
use ureq::config::Config;
use ureq::http::Uri;
use ureq::unversioned::resolver::{DefaultResolver, ResolvedSocketAddrs, Resolver};
use ureq::unversioned::transport::NextTimeout;
use ureq::unversioned::transport::time::Duration;

use super::LOOK_UP;
use crate::core::cancel::Cancel;
use crate::parallel;

/// Asks the system, until it is enough.
#[derive(Debug)]
pub(super) struct Patient(pub(super) Cancel);

impl Resolver for Patient {
    fn resolve(&self, uri: &Uri, config: &Config, timeout: NextTimeout) -> Result<ResolvedSocketAddrs, Error> {
        let endless = NextTimeout { after: Duration::NotHappening, ..timeout };
        let (uri, config) = (uri.clone(), config.clone());
        let (found, finding) = bounded(1);
        let ask = move || {
            // Nobody may want it any more.
            let _ = found.send(DefaultResolver::default().resolve(&uri, &config, endless));
        };
        if let Err(ask) = parallel::spawn(ask) {
            ask();
        }
        let begun = Instant::now();
        loop {
            match finding.recv_timeout(LOOK_UP) {
                Ok(found) => return found,
                Err(RecvTimeoutError::Disconnected) => return Err(Error::HostNotFound),
                Err(RecvTimeoutError::Timeout) if self.0.is_cancelled() || begun.elapsed() >= *timeout.after => {
                    return Err(Error::Timeout(timeout.reason));
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
        }
    }
}
