//! Changes of an image's configuration (image specification, config.md).

use serde_json::value::{RawValue, to_raw_value};

use crate::image::document::Object;

/// What a configuration is to state; what is not named here stays as it is.
///
/// Fields are cleared first, then set; a text or list that is set empty is removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Lists and maps to be emptied.
    pub clear: Vec<Field>,
    /// `Entrypoint`.
    pub entrypoint: Option<Vec<String>>,
    /// `Cmd`.
    pub cmd: Option<Vec<String>>,
    /// Variables of `Env`, each with its value; `None` removes it.
    pub env: Vec<(String, Option<String>)>,
    /// `Labels`, each with its value; `None` removes it.
    pub labels: Vec<(String, Option<String>)>,
    /// Added to `ExposedPorts`.
    pub exposed_ports: Vec<String>,
    /// Added to `Volumes`.
    pub volumes: Vec<String>,
    /// `User`.
    pub user: Option<String>,
    /// `WorkingDir`.
    pub working_dir: Option<String>,
    /// `StopSignal`.
    pub stop_signal: Option<String>,
    /// `author`.
    pub author: Option<String>,
    /// `created`, as RFC 3339 has it.
    pub created: Option<String>,
}

/// A list or map of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Field {
    /// `Entrypoint`.
    Entrypoint,
    /// `Cmd`.
    Cmd,
    /// `Env`.
    Env,
    /// `Labels`.
    Labels,
    /// `ExposedPorts`.
    ExposedPorts,
    /// `Volumes`.
    Volumes,
}

impl Field {
    fn name(self) -> &'static str {
        match self {
            Self::Entrypoint => "Entrypoint",
            Self::Cmd => "Cmd",
            Self::Env => "Env",
            Self::Labels => "Labels",
            Self::ExposedPorts => "ExposedPorts",
            Self::Volumes => "Volumes",
        }
    }
}

impl Changes {
    /// Whether nothing is to be changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Changes a configuration.
    pub(super) fn apply(&self, document: &mut Object) {
        set_text(document, "author", self.author.as_deref());
        set_text(document, "created", self.created.as_deref());
        let mut config = document.object("config");
        let was = config.to_bytes();
        for field in &self.clear {
            config.remove(field.name());
        }
        for (name, words) in [("Entrypoint", &self.entrypoint), ("Cmd", &self.cmd)] {
            match words {
                Some(words) if words.is_empty() => config.remove(name),
                Some(words) if !says(&config, name, words) => config.set(name, words),
                _ => {}
            }
        }
        set_variables(&mut config, &self.env);
        set_values(&mut config, "Labels", &self.labels);
        add_members(&mut config, "ExposedPorts", &self.exposed_ports);
        add_members(&mut config, "Volumes", &self.volumes);
        set_text(&mut config, "User", self.user.as_deref());
        set_text(&mut config, "WorkingDir", self.working_dir.as_deref());
        set_text(&mut config, "StopSignal", self.stop_signal.as_deref());
        if config.to_bytes() != was {
            document.set("config", &config);
        }
    }
}

/// Whether a list holds these words already.
fn says(config: &Object, name: &str, words: &[String]) -> bool {
    config.list(name).iter().map(|raw| text(raw)).eq(words.iter().cloned())
}

fn text(raw: &RawValue) -> String {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

fn set_text(object: &mut Object, name: &str, value: Option<&str>) {
    match value {
        Some("") => object.remove(name),
        Some(value) if object.string(name).as_deref() != Some(value) => object.set(name, value),
        _ => {}
    }
}

/// Sets and removes variables: one that is there is replaced in its place, however often it is there, and all others
/// keep their words and their order.
fn set_variables(config: &mut Object, wanted: &[(String, Option<String>)]) {
    if wanted.is_empty() {
        return;
    }
    let were: Vec<Box<RawValue>> = config.list("Env");
    let mut variables = were.clone();
    for (name, value) in wanted {
        let mut new = value.as_ref().and_then(|value| to_raw_value(&format!("{name}={value}")).ok());
        variables.retain_mut(|held| {
            let own = text(held);
            if own.split_once('=').map_or(own.as_str(), |(name, _)| name) != name {
                return true;
            }
            new.take().is_some_and(|new| {
                if text(&new) != own {
                    *held = new;
                }
                true
            })
        });
        variables.extend(new);
    }
    // Written anew, even the same list might have other bytes, and an empty one would be there where none was.
    if !variables.iter().map(|held| held.get()).eq(were.iter().map(|held| held.get())) {
        config.set("Env", &variables);
    }
}

/// Sets and removes members of a map.
fn set_values(config: &mut Object, field: &str, wanted: &[(String, Option<String>)]) {
    if wanted.is_empty() {
        return;
    }
    let mut map = config.map(field);
    for (key, value) in wanted {
        match value {
            Some(value) if map.value(key).as_ref() == Some(value) => {}
            Some(value) => map.insert(key, value),
            None => map.retain_keys(|known| known != key),
        }
    }
    if map.is_empty() && config.map(field).is_empty() {
        return;
    }
    config.set(field, &map);
}

/// Adds members to a set, which Go writes as a map whose values say nothing.
fn add_members(config: &mut Object, field: &str, wanted: &[String]) {
    if wanted.is_empty() {
        return;
    }
    let mut map = config.map(field);
    for member in wanted {
        if !map.keys().any(|known| known == member) {
            map.insert(member, &Object::default());
        }
    }
    config.set(field, &map);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changed(stored: &str, changes: &Changes) -> String {
        let mut document = Object::parse(stored.as_bytes()).unwrap();
        changes.apply(&mut document);
        String::from_utf8(document.to_bytes()).unwrap()
    }

    fn words(words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).collect()
    }

    fn pairs(pairs: &[(&str, Option<&str>)]) -> Vec<(String, Option<String>)> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.map(str::to_owned))).collect()
    }

    #[test]
    fn what_is_not_named_stays_as_it_was_written() {
        let stored = r#"{"z":1.50e3,"config":{"Healthcheck":{"Interval":3e10},"user":"7","Env":["A=\u0031","B=2"]},"author":"a"}"#;
        let changes =
            Changes { user: Some("8".into()), env: pairs(&[("B", Some("3")), ("C", Some(""))]), ..Changes::default() };
        assert_eq!(
            changed(stored, &changes),
            r#"{"z":1.50e3,"config":{"Healthcheck":{"Interval":3e10},"User":"8","Env":["A=\u0031","B=3","C="]},"author":"a"}"#
        );
        assert_eq!(changed(stored, &Changes::default()), stored);
    }

    #[test]
    fn a_variable_that_is_there_twice_is_set_once() {
        let stored = r#"{"config":{"Env":["A=1","B=1","A=2","AB=3","A"]}}"#;
        let set = Changes { env: pairs(&[("A", Some("x=y"))]), ..Changes::default() };
        assert_eq!(changed(stored, &set), r#"{"config":{"Env":["A=x=y","B=1","AB=3"]}}"#);
        let unset = Changes { env: pairs(&[("A", None)]), ..Changes::default() };
        assert_eq!(changed(stored, &unset), r#"{"config":{"Env":["B=1","AB=3"]}}"#);
    }

    #[test]
    fn a_variable_that_is_not_there_is_not_missed() {
        let unset = Changes { env: pairs(&[("X", None)]), ..Changes::default() };
        for stored in [
            "{}",
            r#"{"config":{}}"#,
            r#"{"config":{"Env":null}}"#,
            r#"{"config":{"Env":[]}}"#,
            r#"{"config":{"Env":[ "A=1" ]}}"#,
        ] {
            assert_eq!(changed(stored, &unset), stored);
        }
    }

    #[test]
    fn null_and_nothing_are_filled() {
        let changes = Changes {
            env: pairs(&[("A", Some("1"))]),
            labels: pairs(&[("k", Some("v")), ("gone", None)]),
            exposed_ports: words(&["80/tcp"]),
            volumes: words(&["/data"]),
            cmd: Some(words(&["sh"])),
            working_dir: Some("/srv".into()),
            stop_signal: Some("SIGINT".into()),
            ..Changes::default()
        };
        let set = r#""Env":["A=1"],"Labels":{"k":"v"},"ExposedPorts":{"80/tcp":{}},"Volumes":{"/data":{}}"#;
        let rest = r#""WorkingDir":"/srv","StopSignal":"SIGINT""#;
        for stored in ["{}", r#"{"config":null}"#, r#"{"config":{}}"#] {
            assert_eq!(changed(stored, &changes), format!(r#"{{"config":{{"Cmd":["sh"],{set},{rest}}}}}"#));
        }
        let nulls = r#"{"config":{"Cmd":null,"Env":null,"Labels":null,"ExposedPorts":null,"Volumes":null}}"#;
        assert_eq!(changed(nulls, &changes), format!(r#"{{"config":{{"Cmd":["sh"],{set},{rest}}}}}"#));
    }

    #[test]
    fn what_is_cleared_or_empty_is_gone() {
        let stored = r#"{"config":{"Entrypoint":["a"],"Cmd":["b"],"Labels":{"k":"v"},"User":"1","Volumes":{"/x":{}}},"created":"x"}"#;
        let changes = Changes {
            clear: vec![Field::Cmd, Field::Volumes],
            entrypoint: Some(Vec::new()),
            user: Some(String::new()),
            created: Some(String::new()),
            labels: pairs(&[("k", None)]),
            ..Changes::default()
        };
        assert_eq!(changed(stored, &changes), r#"{"config":{"Labels":{}}}"#);
    }

    #[test]
    fn labels_are_told_apart_by_every_letter() {
        let stored = r#"{"config":{"Labels":{"k":"1","K":"2"}}}"#;
        let changes = Changes { labels: pairs(&[("K", Some("3"))]), ..Changes::default() };
        assert_eq!(changed(stored, &changes), r#"{"config":{"Labels":{"k":"1","K":"3"}}}"#);
    }
}
