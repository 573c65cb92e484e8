//! `.layflat.toml`: the rules of a repository, for `check` and `waste`. It is looked for in the working directory, and
//! never in an image.

use std::fmt;
use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;

use anyhow::Context as _;
use bytesize::ByteSize;
use layflat::core::text::Printable;
use layflat::inspect::check::Severity;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Where it is looked for.
const NAME: &str = ".layflat.toml";
/// Its largest size in bytes.
const MOST: u64 = 1 << 20;

/// What the file states.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Settings {
    pub(crate) waste: WasteSettings,
    pub(crate) check: CheckSettings,
}

/// The rules of `waste`; each is an option there.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct WasteSettings {
    #[serde(deserialize_with = "size")]
    pub(crate) max_wasted: Option<ByteSize>,
    #[serde(deserialize_with = "percent")]
    pub(crate) max_wasted_percent: Option<f64>,
    pub(crate) ignore: Vec<String>,
}

/// The rules of `check`; each is an option there.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub(crate) struct CheckSettings {
    pub(crate) fail_on: Option<FailOn>,
    pub(crate) ignore: Vec<String>,
    pub(crate) secrets: Option<bool>,
}

/// The mildest finding that makes the check fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FailOn {
    Error,
    Warning,
    Note,
}

impl FailOn {
    pub(crate) fn severity(self) -> Severity {
        match self {
            Self::Error => Severity::Error,
            Self::Warning => Severity::Warning,
            Self::Note => Severity::Note,
        }
    }
}

impl Settings {
    /// Those of the working directory, if it has any.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub(crate) fn of_working_directory() -> anyhow::Result<Self> {
        Self::read_if_there(Path::new(NAME))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or states something else than what there is.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let cannot_read = || format!("cannot read {path:?}");
        let mut bytes = Vec::new();
        let file = File::open(path).with_context(cannot_read)?;
        // A device has no size that tells how much it gives.
        file.take(MOST + 1).read_to_end(&mut bytes).with_context(cannot_read)?;
        anyhow::ensure!(bytes.len() as u64 <= MOST, "{path:?}: the file is too large; rules have at most {MOST} bytes");
        let text = String::from_utf8(bytes).with_context(cannot_read)?;
        Self::parse(&text).map_err(|problem| {
            let path = Printable(path.as_os_str().as_encoded_bytes()).to_string();
            anyhow::Error::msg(format!("{path}:{problem}"))
        })
    }

    /// The same, if the file is there. Nobody has asked for it, so that it must not make anyone wait, as a pipe would.
    fn read_if_there(path: &Path) -> anyhow::Result<Self> {
        match std::fs::symlink_metadata(path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            _ => {}
        }
        let facts = std::fs::metadata(path).with_context(|| format!("cannot read {path:?}"))?;
        anyhow::ensure!(facts.is_file(), "{path:?} is not a regular file");
        Self::read(path)
    }

    /// Reads the text of such a file. The problem has the line and the key before it.
    fn parse(text: &str) -> Result<Self, String> {
        toml::from_str(text).map_err(|error: toml::de::Error| {
            let message = error.message().replace("unknown field", "unknown key").replace('\n', "; ");
            let Some(start) = error.span().map(|span| span.start.min(text.len())) else { return format!(" {message}") };
            let before = text.get(..start).unwrap_or_default();
            let line = before.matches('\n').count();
            let key = text.lines().nth(line).and_then(|line| line.split_once('=')).map(|(key, _)| key.trim());
            let key = key.filter(|key| !message.contains(&format!("`{key}`"))).map(|key| format!("{key}: "));
            format!("{}: {}{message}", line + 1, key.unwrap_or_default())
        })
    }
}

/// A number of bytes, or a text as an option has it: 20MiB.
fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<ByteSize>, D::Error> {
    struct Size;
    impl Visitor<'_> for Size {
        type Value = ByteSize;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a size like \"20MiB\", or a number of bytes")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<ByteSize, E> {
            u64::try_from(number).map(ByteSize::b).map_err(|_| E::custom("a size is not negative"))
        }

        fn visit_u64<E: Error>(self, number: u64) -> Result<ByteSize, E> {
            Ok(ByteSize::b(number))
        }

        fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
            text.parse().map_err(|error| E::custom(format!("{text:?} is not a size: {error}")))
        }
    }
    deserializer.deserialize_any(Size).map(Some)
}

fn percent<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<f64>, D::Error> {
    struct Percent;
    impl Visitor<'_> for Percent {
        type Value = f64;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a number from 0 to 100")
        }

        fn visit_i64<E: Error>(self, number: i64) -> Result<f64, E> {
            self.visit_f64(number as f64)
        }

        fn visit_f64<E: Error>(self, number: f64) -> Result<f64, E> {
            let is_percentage = (0.0..=100.0).contains(&number);
            is_percentage.then_some(number).ok_or_else(|| E::custom("a percentage is from 0 to 100"))
        }
    }
    deserializer.deserialize_any(Percent).map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_keys_are_read() {
        let text = "[waste]\nmax-wasted = \"20MiB\"\nmax-wasted-percent = 7\nignore = [\"/var/lib/dpkg/**\"]\n\n[check]\nfail-on = \"warning\"\nignore = [\"jwt\"]\nsecrets = false\n";
        let settings = Settings::parse(text).unwrap();
        assert_eq!(settings.waste.max_wasted, Some(ByteSize::mib(20)));
        assert_eq!(settings.waste.max_wasted_percent, Some(7.0));
        assert_eq!(settings.check.fail_on, Some(FailOn::Warning));
        assert_eq!((settings.check.secrets, settings.check.ignore.as_slice()), (Some(false), &["jwt".to_owned()][..]));
        assert!(Settings::parse("").unwrap().waste.max_wasted.is_none());
    }

    #[test]
    fn what_is_wrong_is_named_with_its_line_and_key() {
        let problem = |text: &str| Settings::parse(text).unwrap_err();
        let unknown = problem("[waste]\nignore = []\nmax-wastd = 1\n");
        assert!(unknown.starts_with("3: unknown key `max-wastd`, expected one of `max-wasted`"), "{unknown}");
        assert!(problem("# rules\n[wast]\n").starts_with("2: unknown key `wast`"), "{}", problem("\n[wast]\n"));
        assert_eq!(
            problem("[waste]\nmax-wasted-percent = 101\n"),
            "2: max-wasted-percent: a percentage is from 0 to 100"
        );
        let size = problem("[waste]\nmax-wasted = \"much\"\n");
        assert!(size.starts_with("2: max-wasted: \"much\" is not a size: "), "{size}");
        let severity = problem("[check]\nfail-on = \"fatal\"\n");
        assert!(severity.starts_with("2: fail-on: unknown variant `fatal`, expected one of `error`"), "{severity}");
        assert!(problem("[check]\nsecrets = \"yes\"\n").starts_with("2: secrets: invalid type: string \"yes\""));
        assert!(problem("[check\n").starts_with("1: "));
    }
}
