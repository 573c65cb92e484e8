//! Options that change an image's configuration.

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use layflat::edit::{Changes, Field};

use super::filters::epoch;

/// The heading of these options.
const HEADING: &str = "Configuration of the new image";

/// What the configuration is to state.
#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// Set the entrypoint: a JSON list ('["nginx","-g","daemon off;"]'), or one word for each time it is given. "" clears it
    #[arg(help_heading = HEADING, long, value_name = "WORD|JSON", allow_hyphen_values = true)]
    entrypoint: Vec<String>,
    /// Set the command, in the same way
    #[arg(help_heading = HEADING, long, value_name = "WORD|JSON", allow_hyphen_values = true)]
    cmd: Vec<String>,
    /// Set an environment variable. Repeatable
    #[arg(help_heading = HEADING, long, value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// Remove an environment variable. Repeatable
    #[arg(help_heading = HEADING, long, value_name = "NAME")]
    unset_env: Vec<String>,
    /// Set a label. Repeatable
    #[arg(help_heading = HEADING, long, value_name = "KEY=VALUE")]
    label: Vec<String>,
    /// Remove a label. Repeatable
    #[arg(help_heading = HEADING, long, value_name = "KEY")]
    unset_label: Vec<String>,
    /// Set the user, and optionally the group: names or numbers. "" removes it
    #[arg(help_heading = HEADING, long, value_name = "USER[:GROUP]")]
    user: Option<String>,
    /// Set the working directory. "" removes it
    #[arg(help_heading = HEADING, long, value_name = "PATH")]
    workdir: Option<String>,
    /// Expose a port or a range of ports; tcp unless it says udp or sctp. Repeatable
    #[arg(help_heading = HEADING, long, value_name = "PORT[/PROTOCOL]")]
    expose: Vec<String>,
    /// Add a volume. Repeatable
    #[arg(help_heading = HEADING, long, value_name = "PATH")]
    volume: Vec<String>,
    /// Set the signal that stops the container. "" removes it
    #[arg(help_heading = HEADING, long, value_name = "SIGNAL")]
    stop_signal: Option<String>,
    /// Set the author. "" removes it
    #[arg(help_heading = HEADING, long, value_name = "TEXT")]
    author: Option<String>,
    /// Set when the image was created: RFC 3339, or seconds since 1970 [default: SOURCE_DATE_EPOCH if it is set, else it stays]
    #[arg(help_heading = HEADING, long, value_name = "TIME", allow_hyphen_values = true)]
    created: Option<String>,
    /// Empty a list or map, before anything is set. Repeatable
    #[arg(help_heading = HEADING, long, value_name = "FIELD")]
    clear: Vec<FieldArg>,
    /// What the history says of how it was made
    #[arg(help_heading = HEADING, long, value_name = "TEXT")]
    pub(super) created_by: Option<String>,
    /// A comment for the history
    #[arg(help_heading = HEADING, long, value_name = "TEXT")]
    pub(super) comment: Option<String>,
    /// Record IMAGE as the base image: the annotations org.opencontainers.image.base.name and .digest
    #[arg(help_heading = HEADING, long)]
    pub(super) set_base_image_annotations: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum FieldArg {
    Entrypoint,
    Cmd,
    Env,
    Label,
    Expose,
    Volume,
}

impl From<FieldArg> for Field {
    fn from(field: FieldArg) -> Self {
        match field {
            FieldArg::Entrypoint => Self::Entrypoint,
            FieldArg::Cmd => Self::Cmd,
            FieldArg::Env => Self::Env,
            FieldArg::Label => Self::Labels,
            FieldArg::Expose => Self::ExposedPorts,
            FieldArg::Volume => Self::Volumes,
        }
    }
}

impl ChangeArgs {
    /// Whether there is anything to do.
    pub(super) fn is_empty(&self) -> anyhow::Result<bool> {
        let is_said = self.created_by.is_some() || self.comment.is_some() || self.set_base_image_annotations;
        Ok(!is_said && self.changes()?.is_empty())
    }

    /// The library's changes.
    pub(super) fn changes(&self) -> anyhow::Result<Changes> {
        let removed = |names: &[String], option: &str| {
            let check = |name: &String| {
                ensure!(!name.is_empty() && !name.contains('='), "{option} {name:?}: expected a name alone");
                Ok((name.clone(), None))
            };
            names.iter().map(check).collect::<anyhow::Result<Vec<_>>>()
        };
        let mut env = removed(&self.unset_env, "--unset-env")?;
        env.extend(pairs(&self.env, "--env", "NAME=VALUE")?);
        // A label's key may hold anything.
        let mut labels: Vec<_> = self.unset_label.iter().map(|key| (key.clone(), None)).collect();
        labels.extend(pairs(&self.label, "--label", "KEY=VALUE")?);
        for (option, path) in self
            .volume
            .iter()
            .map(|path| ("--volume", path))
            .chain(self.workdir.iter().filter(|path| !path.is_empty()).map(|path| ("--workdir", path)))
        {
            ensure!(path.starts_with('/'), "{option} {path:?}: expected an absolute path");
        }
        if let Some(signal) = self.stop_signal.as_deref().filter(|signal| !signal.is_empty()) {
            ensure!(is_signal(signal), "--stop-signal {signal:?}: expected a signal, like SIGTERM or 15");
        }
        Ok(Changes {
            clear: self.clear.iter().map(|&field| field.into()).collect(),
            entrypoint: words(&self.entrypoint, "--entrypoint")?,
            cmd: words(&self.cmd, "--cmd")?,
            env,
            labels,
            exposed_ports: self.expose.iter().map(|text| port(text)).collect::<anyhow::Result<_>>()?,
            volumes: self.volume.clone(),
            user: self.user.clone(),
            working_dir: self.workdir.clone(),
            stop_signal: self.stop_signal.clone(),
            author: self.author.clone(),
            created: self.created()?,
        })
    }

    /// Whether the entrypoint is changed and the command is not, whose words then belong to another program.
    pub(super) fn keeps_command(&self) -> bool {
        let is_cleared = self.clear.iter().any(|field| matches!(field, FieldArg::Cmd));
        !self.entrypoint.is_empty() && self.cmd.is_empty() && !is_cleared
    }

    fn created(&self) -> anyhow::Result<Option<String>> {
        let seconds = match &self.created {
            Some(text) => match text.parse() {
                Ok(seconds) => seconds,
                Err(_) => {
                    let time: jiff::Timestamp = text.parse().with_context(|| {
                        format!("--created {text:?}: expected a time like 2024-12-31T12:00:00Z, or seconds since 1970")
                    })?;
                    return Ok(Some(time.to_string()));
                }
            },
            None => match epoch()? {
                Some(seconds) => seconds,
                None => return Ok(None),
            },
        };
        let time = jiff::Timestamp::from_second(seconds);
        Ok(Some(time.with_context(|| format!("{seconds} seconds since 1970 are no time"))?.to_string()))
    }
}

/// `NAME=VALUE` each.
fn pairs(texts: &[String], option: &str, form: &str) -> anyhow::Result<Vec<(String, Option<String>)>> {
    let pair = |text: &String| match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), Some(value.to_owned()))),
        _ => bail!("{option} {text:?}: expected {form}"),
    };
    texts.iter().map(pair).collect()
}

/// A list of words: one JSON list, or one word for each option.
fn words(given: &[String], option: &str) -> anyhow::Result<Option<Vec<String>>> {
    match given {
        [] => Ok(None),
        [one] if one.is_empty() => Ok(Some(Vec::new())),
        [one] if one.trim_start().starts_with('[') => {
            let words = serde_json::from_str(one);
            Ok(Some(words.with_context(|| format!("{option} {one}: expected a JSON list of strings"))?))
        }
        words => Ok(Some(words.to_vec())),
    }
}

/// A port as Docker writes it: with its protocol.
fn port(text: &str) -> anyhow::Result<String> {
    let (ports, protocol) = text.split_once('/').unwrap_or((text, "tcp"));
    let number = |text: &str| text.parse::<u16>().is_ok_and(|port| port > 0);
    let is_range = match ports.split_once('-') {
        Some((first, last)) => number(first) && number(last),
        None => number(ports),
    };
    ensure!(
        is_range && matches!(protocol, "tcp" | "udp" | "sctp"),
        "--expose {text:?}: expected PORT or FIRST-LAST, and /tcp, /udp or /sctp"
    );
    Ok(format!("{ports}/{protocol}"))
}

/// A number of a signal, or its name.
fn is_signal(text: &str) -> bool {
    match text.parse::<u8>() {
        Ok(number) => (1..=64).contains(&number),
        Err(_) => {
            let name = text.strip_prefix("SIG").unwrap_or(text);
            let is_name =
                |letter: char| letter.is_ascii_uppercase() || letter.is_ascii_digit() || "+-".contains(letter);
            name.starts_with(|letter: char| letter.is_ascii_uppercase()) && name.chars().all(is_name)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_one_json_list_or_one_each() {
        let words = |given: &[&str]| words(&given.iter().map(|&word| word.to_owned()).collect::<Vec<_>>(), "--cmd");
        assert_eq!(words(&[]).unwrap(), None);
        assert_eq!(words(&[""]).unwrap(), Some(Vec::new()));
        assert_eq!(words(&["[]"]).unwrap(), Some(Vec::new()));
        assert_eq!(words(&["a b", "-c"]).unwrap(), Some(vec!["a b".to_owned(), "-c".to_owned()]));
        assert_eq!(words(&[r#" ["a", "b c"]"#]).unwrap(), Some(vec!["a".to_owned(), "b c".to_owned()]));
        assert!(words(&["[a]"]).is_err());
    }

    #[test]
    fn ports_and_signals() {
        for (text, expected) in [("80", "80/tcp"), ("53/udp", "53/udp"), ("8000-8010", "8000-8010/tcp")] {
            assert_eq!(port(text).unwrap(), expected);
        }
        for text in ["", "0", "65536", "80/", "80/icmp", "a", "80-", "8080:80"] {
            assert!(port(text).is_err(), "{text}");
        }
        for (text, expected) in [
            ("SIGTERM", true),
            ("TERM", true),
            ("SIGRTMIN+3", true),
            ("15", true),
            ("0", false),
            ("65", false),
            ("sig term", false),
        ] {
            assert_eq!(is_signal(text), expected, "{text}");
        }
    }
}
