//! Edits a JSON document without touching the rest: what is not changed keeps its bytes and its place.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::{DocumentError, go, text};
use crate::image::MediaType;

/// A JSON object in its own words.
///
/// Fields are found as [`read`](super::read) finds them, without regard to case. What is set stands under the field's
/// proper name, in the place of all that a reader could take for it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Object(Vec<(String, Box<RawValue>)>);

impl Object {
    /// Reads an object.
    ///
    /// # Errors
    /// A text that is not a JSON document.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        let text = text(bytes);
        Self::of(serde_json::from_str(&text)?)
    }

    /// An index that lists nothing yet.
    pub(crate) fn index() -> Self {
        let mut index = Self::default();
        index.set("schemaVersion", &2);
        index.set("mediaType", MediaType::OCI_INDEX);
        index.set("manifests", &[(); 0]);
        index
    }

    /// The object in an object's field or in a list.
    ///
    /// # Errors
    /// Something else.
    pub(crate) fn of(raw: &RawValue) -> Result<Self, DocumentError> {
        if go::is_null(raw) {
            return Ok(Self::default());
        }
        let members = go::members(raw)?.into_iter();
        Ok(Self(members.map(|(key, raw)| (key, raw.to_owned())).collect()))
    }

    /// What a field holds.
    pub(crate) fn get(&self, name: &str) -> Option<&RawValue> {
        let own = self.0.iter().rev().filter(|(key, _)| go::is_key(name, key));
        own.map(|(_, raw)| raw.as_ref()).find(|raw| !go::is_null(raw))
    }

    /// The string that a field holds, if it is one.
    pub(crate) fn string(&self, name: &str) -> Option<String> {
        serde_json::from_str(self.get(name)?.get()).ok()
    }

    /// The object that a field holds; an empty one if it holds none.
    pub(crate) fn object(&self, name: &str) -> Self {
        let own = self.0.iter().filter(|(key, _)| go::is_key(name, key));
        Self(own.filter_map(|(_, raw)| Self::of(raw).ok()).flat_map(|object| object.0).collect())
    }

    /// The map that a field holds: as an object, but null empties it.
    pub(crate) fn map(&self, name: &str) -> Self {
        let own: Vec<&RawValue> =
            self.0.iter().filter(|(key, _)| go::is_key(name, key)).map(|(_, raw)| raw.as_ref()).collect();
        let start = own.iter().rposition(|raw| go::is_null(raw)).map_or(0, |null| null + 1);
        Self(own[start..].iter().filter_map(|raw| Self::of(raw).ok()).flat_map(|object| object.0).collect())
    }

    /// What the list of a field holds; nothing if it holds none.
    pub(crate) fn list(&self, name: &str) -> Vec<Box<RawValue>> {
        // The last one counts, also if it is null.
        let last = self.0.iter().rev().find(|(key, _)| go::is_key(name, key));
        let elements = last.and_then(|(_, raw)| go::elements(raw).ok()).unwrap_or_default();
        elements.into_iter().map(ToOwned::to_owned).collect()
    }

    /// The objects in the list of a field; what is none there is an empty one.
    pub(crate) fn objects(&self, name: &str) -> Vec<Self> {
        self.list(name).iter().map(|raw| Self::of(raw).unwrap_or_default()).collect()
    }

    /// Sets a field.
    pub(crate) fn set(&mut self, name: &str, value: &(impl Serialize + ?Sized)) {
        // Serializing fails only for keys that are not strings, and there are none.
        let Ok(raw) = to_raw_value(value) else { return };
        let mut raw = Some(raw);
        self.0.retain_mut(|(key, held)| {
            if !go::is_key(name, key) {
                return true;
            }
            raw.take().is_some_and(|raw| {
                (*key, *held) = (name.to_owned(), raw);
                true
            })
        });
        if let Some(raw) = raw {
            self.0.push((name.to_owned(), raw));
        }
    }

    /// Removes a field.
    pub(crate) fn remove(&mut self, name: &str) {
        self.0.retain(|(key, _)| !go::is_key(name, key));
    }

    /// Of a map: its keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|(key, _)| key.as_str())
    }

    /// Whether it holds nothing.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Of a map, where keys are what they are: the string of one.
    pub(crate) fn value(&self, key: &str) -> Option<String> {
        let (_, raw) = self.0.iter().rev().find(|(known, _)| known == key)?;
        serde_json::from_str(raw.get()).ok()
    }

    /// Of a map, where keys are what they are: sets the value of one that is there.
    pub(crate) fn set_value(&mut self, key: &str, value: &impl Serialize) {
        for (_, held) in self.0.iter_mut().filter(|(known, _)| known == key) {
            if let Ok(raw) = to_raw_value(value) {
                *held = raw;
            }
        }
    }

    /// Of a map, where keys are what they are: sets the value of one, which is added if it is not there.
    pub(crate) fn insert(&mut self, key: &str, value: &impl Serialize) {
        if !self.0.iter().any(|(known, _)| known == key) {
            self.0.push((key.to_owned(), RawValue::NULL.to_owned()));
        }
        self.set_value(key, value);
    }

    /// Of a map, where keys are what they are: keeps some.
    pub(crate) fn retain_keys(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|(key, _)| keep(key));
    }

    /// As it is written.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        // Writing to memory what was read from it cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, raw) in &self.0 {
            map.serialize_entry(key, raw)?;
        }
        map.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d1_what_is_not_changed_stays_as_it_was_written() {
        let stored = r#"{"z":1.50e3,"ROOTFS":{"a":1},"x":{"b":1,"a": 2,"b":3},"rootfs":null,"big":123456789012345678901234567890}"#;
        let mut object = Object::parse(stored.as_bytes()).unwrap();
        assert_eq!(object.to_bytes(), stored.as_bytes());
        object.set("rootfs", &["new"]);
        object.set("added", &true);
        let expected = r#"{"z":1.50e3,"rootfs":["new"],"x":{"b":1,"a": 2,"b":3},"big":123456789012345678901234567890,"added":true}"#;
        assert_eq!(object.to_bytes(), expected.as_bytes());
        object.remove("BIG");
        assert!(object.get("big").is_none());
    }

    #[test]
    fn fields_are_found_as_they_are_read() {
        let object = Object::parse(br#"{"A":"x","a":"y","a":null,"l":[{"k":1},2],"O":{"p":1},"o":{"q":2}}"#).unwrap();
        assert_eq!(object.string("a").as_deref(), Some("y"));
        let sizes: Vec<usize> = object.objects("L").iter().map(|object| object.0.len()).collect();
        assert_eq!(sizes, [1, 0]);
        assert_eq!(object.object("o").0.len(), 2);
        assert!(object.object("a").is_empty());
        assert!(Object::parse(b"[]").is_err());
    }

    #[test]
    fn d1_null_empties_lists_and_maps() {
        let object = Object::parse(br#"{"M":{"a":1},"m":null,"m":{"b":2},"L":["x"],"l":null}"#).unwrap();
        assert_eq!(object.map("m").keys().collect::<Vec<_>>(), ["b"]);
        assert!(object.list("l").is_empty());
    }

    #[test]
    fn keys_of_a_map_are_what_they_are() {
        let mut map = Object::parse(br#"{"a":"1","A":"2"}"#).unwrap();
        map.insert("a", &"3");
        map.insert("b", &"4");
        assert_eq!(map.to_bytes(), br#"{"a":"3","A":"2","b":"4"}"#);
    }
}
