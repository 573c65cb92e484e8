//! Keys and the mouse, read by a thread of their own.
//!
//! When its terminal is gone, crossterm reads on and on without ever coming back (0.29). So nobody waits for this thread: it ends with
//! the process, and whoever listens here can leave at any time.

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event};

/// What comes from the terminal.
#[derive(Debug)]
pub(super) struct Events(Receiver<std::io::Result<Event>>);

impl Events {
    pub(super) fn listen() -> anyhow::Result<Self> {
        let (send, events) = channel();
        let read = move || {
            loop {
                let event = event::read();
                let is_over = event.is_err();
                if send.send(event).is_err() || is_over {
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("keys".to_owned()).spawn(read);
        drop(thread.context("cannot start a thread that reads keys")?);
        Ok(Self(events))
    }

    /// The next event, if one comes in time.
    pub(super) fn next(&self, wait: Duration) -> anyhow::Result<Option<Event>> {
        match self.0.recv_timeout(wait) {
            Ok(event) => Ok(Some(event.context("cannot read from the terminal")?)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => anyhow::bail!("the terminal is gone"),
        }
    }
}
