//! Stands in for decoders that this build leaves out. None is ever made: the error names the missing feature.

use std::convert::Infallible;
use std::io::{Error, ErrorKind, Read, Result};
use std::marker::PhantomData;

#[cfg(not(feature = "xz"))]
pub(super) mod xz {
    pub(in super::super) use super::Decoder;

    pub(in super::super) fn decoder<R>(_: R) -> std::io::Result<Decoder<R>> {
        super::lacks("xz")
    }
}

#[cfg(not(feature = "bzip2"))]
pub(super) mod bzip2 {
    pub(in super::super) use super::Decoder;

    pub(in super::super) fn decoder<R>(_: R) -> std::io::Result<Decoder<R>> {
        super::lacks("bzip2")
    }
}

/// What there is none of.
pub(super) struct Decoder<R> {
    never: Infallible,
    input: PhantomData<R>,
}

impl<R> Decoder<R> {
    pub(super) fn get_ref(&self) -> &R {
        match self.never {}
    }

    pub(super) fn get_mut(&mut self) -> &mut R {
        match self.never {}
    }
}

impl<R> Read for Decoder<R> {
    fn read(&mut self, _: &mut [u8]) -> Result<usize> {
        match self.never {}
    }
}

fn lacks<R>(feature: &str) -> Result<Decoder<R>> {
    let problem = format!("it is compressed by {feature}, which needs the feature `{feature}`, which this build lacks");
    Err(Error::new(ErrorKind::Unsupported, problem))
}
