//! Digests: `sha256:<64 hex digits>` and `sha512:<128 hex digits>`, as the image specification's descriptors have them.

use std::fmt;
use std::str::FromStr;

/// The hash functions of the image specification.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Algorithm {
    /// SHA-256, which every image uses.
    Sha256,
    /// SHA-512, which the specification also registers.
    Sha512,
}

impl Algorithm {
    /// The name as it stands in a digest and in an OCI layout's `blobs` directory.
    pub fn name(self) -> &'static str {
        match self {
            Self::Sha256 => "sha256",
            Self::Sha512 => "sha512",
        }
    }

    fn hex_length(self) -> usize {
        match self {
            Self::Sha256 => 64,
            Self::Sha512 => 128,
        }
    }
}

/// A digest, checked for its form: it is safe as a file name.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

/// A text that is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a digest: expected sha256:<64 lower-case hex digits> or sha512:<128>")]
pub struct DigestError(String);

impl Digest {
    /// From the bytes that a hash function gave: 32 for SHA-256, 64 for SHA-512.
    pub(crate) fn of_hash(algorithm: Algorithm, hash: &[u8]) -> Self {
        debug_assert_eq!(hash.len() * 2, algorithm.hex_length());
        let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value)]);
        let hex: String = hash.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect();
        Self { algorithm, hex: hex.into() }
    }

    /// The SHA-256 of some bytes.
    pub fn sha256_of(bytes: &[u8]) -> Self {
        use sha2::Digest as _;
        Self::of_hash(Algorithm::Sha256, &sha2::Sha256::digest(bytes))
    }

    /// The digest of some bytes by a hash function.
    pub fn of(algorithm: Algorithm, bytes: &[u8]) -> Self {
        let mut hasher = super::Hasher::new(algorithm);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// As a tag: what refers to a manifest is found under it where a registry does not list it, and cosign's tags begin
    /// with it.
    pub(crate) fn as_tag(&self) -> String {
        format!("{}-{}", self.algorithm.name(), self.hex)
    }

    /// The hex digits.
    pub fn hex(&self) -> &str {
        &self.hex
    }
}

impl FromStr for Digest {
    type Err = DigestError;

    fn from_str(text: &str) -> Result<Self, DigestError> {
        let error = || DigestError(text.to_owned());
        let (name, hex) = text.split_once(':').ok_or_else(error)?;
        let algorithm =
            [Algorithm::Sha256, Algorithm::Sha512].into_iter().find(|known| known.name() == name).ok_or_else(error)?;
        let digits = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !digits || hex.len() != algorithm.hex_length() {
            return Err(error());
        }
        Ok(Self { algorithm, hex: hex.into() })
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.algorithm.name(), self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl serde::Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> serde::Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_well_formed_digests_are_taken() {
        let empty = Digest::sha256_of(b"");
        assert_eq!(empty.to_string(), "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_eq!(empty.to_string().parse::<Digest>().unwrap(), empty);
        for bad in ["", "sha256", "sha256:", "sha256:../../etc/passwd", "md5:d41d8cd98f00b204e9800998ecf8427e"] {
            bad.parse::<Digest>().unwrap_err();
        }
        empty.to_string().to_uppercase().parse::<Digest>().unwrap_err();
    }
}
