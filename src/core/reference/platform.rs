//! Platforms, and how well an image for one platform suits another.

use std::fmt;
use std::str::FromStr;

/// An operating system, an architecture and perhaps a variant, in the names of the image specification:
/// `linux/arm64/v8`.
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
#[error("{0:?} is not a platform: expected os/arch or os/arch/variant, like linux/arm64, or arch alone")]
pub struct PlatformError(pub String);

/// Architectures that Linux runs on, in the words of Go.
const ARCHITECTURES: [&str; 12] =
    ["386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle", "ppc64le", "riscv64", "s390x"];

impl Platform {
    /// How well a platform suits that is not stated: worse than any that is.
    pub(crate) const UNSTATED: u32 = 1000;

    /// This machine's.
    pub fn host() -> Self {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "x86" => "386",
            "aarch64" => "arm64",
            "powerpc64" if cfg!(target_endian = "little") => "ppc64le",
            "powerpc64" => "ppc64",
            "loongarch64" => "loong64",
            same => same,
        };
        let variant = (architecture == "arm").then(|| "v7".to_owned());
        Self { os: "linux".to_owned(), architecture: architecture.to_owned(), variant }
    }

    /// A platform as documents state it; kernels' names for architectures are understood too, as containerd does. What
    /// is not stated is empty.
    pub(crate) fn of(os: &str, architecture: &str, variant: &str) -> Self {
        let architecture = architecture.to_ascii_lowercase();
        let architecture = match architecture.as_str() {
            "x86_64" | "x86-64" => "amd64",
            "aarch64" => "arm64",
            "i386" | "i686" => "386",
            "armhf" => "arm",
            same => same,
        };
        let variant = Some(variant.to_owned()).filter(|variant| !variant.is_empty());
        Self { os: os.to_ascii_lowercase(), architecture: architecture.to_owned(), variant }
    }

    /// How well an image for `offered` suits this platform: 0 best, more is worse; `None` if it does not run. What
    /// `offered` does not state may be anything.
    ///
    /// A variant that is not stated is the one that every machine of the architecture has: v8 for arm64, v1 for amd64.
    /// Of arm's variants, and of amd64's levels, an older one runs on a newer machine.
    pub fn suits(&self, offered: &Self) -> Option<u32> {
        let is_other = |wanted: &str, offered: &str| !offered.is_empty() && wanted != offered;
        if is_other(&self.os, &offered.os) || is_other(&self.architecture, &offered.architecture) {
            return None;
        }
        if offered.os.is_empty() || offered.architecture.is_empty() {
            return Some(Self::UNSTATED);
        }
        let base = match self.architecture.as_str() {
            "arm64" => Some("v8"),
            "amd64" => Some("v1"),
            _ => None,
        };
        let variant = |platform: &Self| platform.variant.clone().or_else(|| base.map(str::to_owned));
        match (variant(self), variant(offered)) {
            (None, None) => Some(0),
            (Some(wanted), Some(offered)) if wanted == offered => Some(0),
            // Nothing was asked for: the newest is not sure to run, so the plainest comes first.
            (None, Some(offered)) => Some(1 + level(&offered).unwrap_or(100)),
            (Some(_), None) => Some(50),
            (Some(wanted), Some(offered)) => {
                let ordered = matches!(self.architecture.as_str(), "arm" | "amd64");
                let (wanted, offered) = (level(&wanted)?, level(&offered)?);
                (ordered && offered < wanted).then(|| wanted - offered)
            }
        }
    }
}

/// The number of a variant like `v7`.
fn level(variant: &str) -> Option<u32> {
    variant.strip_prefix('v')?.parse().ok()
}

impl fmt::Display for Platform {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stated = |text: &str| if text.is_empty() { "unstated".to_owned() } else { text.to_owned() };
        write!(formatter, "{}/{}", stated(&self.os), stated(&self.architecture))?;
        self.variant.as_ref().map_or(Ok(()), |variant| write!(formatter, "/{variant}"))
    }
}

impl FromStr for Platform {
    type Err = PlatformError;

    fn from_str(text: &str) -> Result<Self, PlatformError> {
        let parts: Vec<&str> = text.split('/').collect();
        let is_architecture = |word: &str| ARCHITECTURES.contains(&Self::of("", word, "").architecture.as_str());
        let (os, architecture, variant) = match parts.as_slice() {
            // Without an operating system, as docker takes it.
            [architecture] if is_architecture(architecture) => (&"linux", architecture, None),
            [architecture, variant] if is_architecture(architecture) => (&"linux", architecture, Some(*variant)),
            [os, architecture] => (os, architecture, None),
            [os, architecture, variant] => (os, architecture, Some(*variant)),
            _ => return Err(PlatformError(text.to_owned())),
        };
        if parts.contains(&"") {
            return Err(PlatformError(text.to_owned()));
        }
        Ok(Self::of(os, architecture, variant.unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suits(wanted: &str, offered: &str) -> Option<u32> {
        wanted.parse::<Platform>().unwrap().suits(&offered.parse().unwrap())
    }

    #[test]
    fn a_platform_is_one_to_three_words() {
        assert_eq!("linux/arm64/v8".parse::<Platform>().unwrap().to_string(), "linux/arm64/v8");
        assert_eq!("linux/x86_64".parse::<Platform>().unwrap().to_string(), "linux/amd64");
        assert_eq!("arm64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert_eq!("aarch64".parse::<Platform>().unwrap().to_string(), "linux/arm64");
        assert_eq!("arm/v7".parse::<Platform>().unwrap().to_string(), "linux/arm/v7");
        for bad in ["", "linux", "linux/", "a/b/c/d"] {
            bad.parse::<Platform>().unwrap_err();
        }
    }

    #[test]
    fn d1_what_is_not_stated_may_be_anything() {
        let wanted: Platform = "linux/amd64".parse().unwrap();
        assert_eq!(wanted.suits(&Platform::of("Linux", "x86_64", "")), Some(0));
        assert_eq!(wanted.suits(&Platform::of("", "arm64", "")), None);
        for offered in [Platform::of("", "", ""), Platform::of("linux", "", ""), Platform::of("", "amd64", "")] {
            assert_eq!(wanted.suits(&offered), Some(Platform::UNSTATED));
        }
        assert_eq!(Platform::of("", "amd64", "").to_string(), "unstated/amd64");
    }

    #[test]
    fn variants_fall_back_to_what_still_runs() {
        assert_eq!(suits("linux/arm64", "linux/arm64/v8"), Some(0));
        assert_eq!(suits("linux/arm64/v8", "linux/arm64"), Some(0));
        assert_eq!(suits("linux/amd64", "linux/arm64"), None);
        assert_eq!(suits("linux/amd64", "windows/amd64"), None);
        assert_eq!(suits("linux/amd64", "linux/amd64/v3"), None);
        assert_eq!(suits("linux/amd64/v3", "linux/amd64/v2"), Some(1));
        assert_eq!(suits("linux/arm/v7", "linux/arm/v6"), Some(1));
        assert_eq!(suits("linux/arm/v6", "linux/arm/v7"), None);
        assert!(suits("linux/arm", "linux/arm/v6") < suits("linux/arm", "linux/arm/v7"));
    }
}
