//! Platforms: which image of several a machine can run.

/// An operating system, an architecture and perhaps a variant, in the names of the image specification: `linux/arm64/v8`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Platform {
    /// As in Go's GOOS.
    pub os: String,
    /// As in Go's GOARCH.
    pub architecture: String,
    /// The processor's variant.
    pub variant: Option<String>,
}

/// A text that names no platform.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no platform: expected os/arch or os/arch/variant, like linux/arm64")]
pub struct PlatformError(pub String);
