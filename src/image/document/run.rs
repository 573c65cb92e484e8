//! What an image says to run, as a document of its own: as JSON, and for shells.

use serde::Serializer;
use serde::ser::SerializeMap as _;

use super::RunConfig;

/// A value that no shell can hold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} contains a NUL character, which no shell variable can hold; JSON can")]
pub struct NulError(&'static str);

impl RunConfig {
    /// Assignments that a POSIX shell reads: `IMAGE_ARGS` (the entrypoint and its arguments), `IMAGE_ENV`, `IMAGE_USER`, `IMAGE_WORKING_DIR`
    /// and `IMAGE_STOP_SIGNAL`, and none else. The first two are lists of quoted words, for `eval`:
    ///
    /// ```sh
    /// . ./app.env && eval "exec chroot rootfs env -i $IMAGE_ENV $IMAGE_ARGS"
    /// ```
    ///
    /// The image's variables are not assigned: `LD_PRELOAD` or `PATH` of an image that means harm would act on whoever reads the file.
    ///
    /// # Errors
    /// A NUL character.
    pub fn to_shell(&self) -> Result<String, NulError> {
        let words =
            |words: &mut dyn Iterator<Item = &String>| words.map(|word| quoted(word)).collect::<Vec<_>>().join(" ");
        let values = [
            ("IMAGE_ARGS", words(&mut self.entrypoint.iter().chain(&self.cmd))),
            ("IMAGE_ENV", words(&mut self.env.iter())),
            ("IMAGE_USER", self.user.clone()),
            ("IMAGE_WORKING_DIR", self.working_dir.clone()),
            ("IMAGE_STOP_SIGNAL", self.stop_signal.clone()),
        ];
        let mut text = String::new();
        for (name, value) in values {
            if value.contains('\0') {
                return Err(NulError(name));
            }
            text += &format!("{name}={}\n", quoted(&value));
        }
        Ok(text)
    }
}

/// A word in single quotes, between which a shell takes everything as it is.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A set as Go writes it: a map whose values say nothing.
pub(super) fn as_map<S: Serializer>(
    keys: &std::collections::BTreeSet<String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(keys.len()))?;
    for key in keys {
        map.serialize_entry(key, &serde_json::Map::new())?;
    }
    map.end()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    fn hostile() -> RunConfig {
        let words = ["a b", "'", "$(touch /tmp/x)", "`id`", "\"", "\\", "a\nb", "", "-n", "*", "é", "''';exit 7;'"];
        RunConfig {
            env: words.iter().map(|word| format!("X={word}")).chain(["LD_PRELOAD=/x".to_owned()]).collect(),
            entrypoint: words.map(str::to_owned).to_vec(),
            cmd: vec!["last".to_owned()],
            user: "a';exit 8;'".to_owned(),
            working_dir: "/a b\n$HOME".to_owned(),
            ..RunConfig::default()
        }
    }

    #[test]
    fn a_shell_reads_hostile_values_as_they_are() {
        let config = hostile();
        let script = format!(
            "{}\nprintf '%s\\0' \"$IMAGE_USER\" \"$IMAGE_WORKING_DIR\" \"$LD_PRELOAD\"; eval \"printf '%s\\0' $IMAGE_ARGS $IMAGE_ENV\"",
            config.to_shell().unwrap()
        );
        let output = Command::new("sh").args(["-euc", &format!("LD_PRELOAD=; {script}")]).output().unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        let found: Vec<&str> = found.split_terminator('\0').collect();
        let all = [&config.user, &config.working_dir].into_iter().map(String::as_str).chain([""]);
        let all = all.chain(config.entrypoint.iter().map(String::as_str)).chain(["last"]);
        assert_eq!(found, all.chain(config.env.iter().map(String::as_str)).collect::<Vec<_>>());
    }

    #[test]
    fn a_nul_is_refused() {
        let config = RunConfig { user: "a\0b".to_owned(), ..RunConfig::default() };
        assert_eq!(config.to_shell().unwrap_err(), NulError("IMAGE_USER"));
    }

    #[test]
    fn the_json_is_that_of_the_specification() {
        let text = r#"{"User":"u","ExposedPorts":{"80/tcp":{}},"Env":["A=b"],"Entrypoint":["e"],"Cmd":["c"],"Volumes":{"/v":{}},"WorkingDir":"/w","Labels":{"l":"m"},"StopSignal":"SIGINT"}"#;
        let config: RunConfig = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&config).unwrap(), text);
    }
}
