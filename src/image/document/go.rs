//! Reading JSON as Go's encoding/json does (pkg.go.dev/encoding/json, `Unmarshal`): a [`Deserializer`] over the text.
//!
//! What differs from serde_json's own: a key is a field's if it is its name but for case; `null` is an empty value of
//! any type; of a key that comes twice the last value counts, and of objects both, where Go decodes the second into
//! what the first has filled. Fields are not looked for until a struct asks for them, so that unknown ones may hold
//! anything.

use std::borrow::Cow;
use std::fmt;

use serde::Deserialize;
use serde::de::value::StringDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::DocumentError;

/// By this name a newtype asks for the text of an object instead of its meaning.
pub(super) const TEXT: &str = "$text";

/// Reads a text.
pub(super) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, DocumentError> {
    T::deserialize(Value(vec![serde_json::from_str(text)?]))
}

/// An object's keys and values in their order, doubled ones and all.
pub(super) fn members(raw: &RawValue) -> Result<Vec<(String, &RawValue)>, DocumentError> {
    struct Members;
    impl<'de> Visitor<'de> for Members {
        type Value = Vec<(String, &'de RawValue)>;

        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut members = Vec::new();
            while let Some(member) = map.next_entry()? {
                members.push(member);
            }
            Ok(members)
        }
    }
    check(raw, '{', "an object")?;
    Ok(serde_json::Deserializer::from_str(raw.get()).deserialize_map(Members)?)
}

/// A list's elements.
pub(super) fn elements(raw: &RawValue) -> Result<Vec<&RawValue>, DocumentError> {
    check(raw, '[', "a list")?;
    Ok(serde_json::from_str(raw.get())?)
}

/// Whether a key is a field's. Go folds case as Unicode does, by which two signs beyond ASCII are letters of it.
pub(super) fn is_key(name: &str, key: &str) -> bool {
    let fold = |letter: char| match letter {
        'ſ' => 'S',
        '\u{212a}' => 'K',
        other => other.to_ascii_uppercase(),
    };
    name.chars().map(fold).eq(key.chars().map(fold))
}

pub(super) fn is_null(raw: &RawValue) -> bool {
    raw.get() == "null"
}

fn check(raw: &RawValue, first: char, expected: &str) -> Result<(), DocumentError> {
    if raw.get().starts_with(first) { Ok(()) } else { Err(mismatch(raw, expected)) }
}

fn mismatch(raw: &RawValue, expected: &str) -> DocumentError {
    let found = match raw.get().bytes().next() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "a string",
        Some(b't' | b'f') => "a boolean",
        Some(b'n') => "null",
        _ => "a number",
    };
    let found = if found == "a number" { Cow::Owned(format!("the number {}", raw.get())) } else { found.into() };
    DocumentError::new(format!("expected {expected}, found {found}"))
}

/// All that a key was given, in order; at least one value.
struct Value<'de>(Vec<&'de RawValue>);

impl<'de> Value<'de> {
    /// The value that counts, if it is one.
    fn last(&self) -> Option<&'de RawValue> {
        self.0.iter().rev().find(|raw| !is_null(raw)).copied()
    }

    /// A list is set anew each time, and emptied by null.
    fn elements(&self) -> Result<Vec<&'de RawValue>, DocumentError> {
        match self.0.last() {
            Some(raw) if !is_null(raw) => elements(raw),
            _ => Ok(Vec::new()),
        }
    }

    /// The members of all objects, one after the other.
    fn members(&self) -> Result<Vec<(String, &'de RawValue)>, DocumentError> {
        let mut all = Vec::new();
        for raw in self.0.iter().filter(|raw| !is_null(raw)) {
            all.extend(members(raw)?);
        }
        Ok(all)
    }

    /// A value that is neither a list nor an object; of no value an empty one.
    fn scalar<T: Deserialize<'de> + Default>(&self, expected: &str) -> Result<T, DocumentError> {
        self.last().map_or(Ok(T::default()), |raw| serde_json::from_str(raw.get()).map_err(|_| mismatch(raw, expected)))
    }
}

impl<'de> Deserializer<'de> for Value<'de> {
    type Error = DocumentError;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, DocumentError> {
        Err(DocumentError::new("a field of a type that is never asked for"))
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        visitor.visit_bool(self.scalar("a boolean")?)
    }

    fn deserialize_u64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        visitor.visit_u64(self.scalar("a whole number of at least 0")?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        visitor.visit_string(self.scalar("a string")?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        self.deserialize_string(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        match self.0.last() {
            Some(raw) if !is_null(raw) => visitor.visit_some(self),
            _ => visitor.visit_none(),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        visitor.visit_seq(Elements { rest: self.elements()?.into_iter().enumerate() })
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        // null empties a map, and what comes after it fills it again.
        let start = self.0.iter().rposition(|raw| is_null(raw)).map_or(0, |null| null + 1);
        let members = Value(self.0[start..].to_vec()).members()?;
        let members = members.into_iter().map(|(key, raw)| (Cow::Owned(key), Value(vec![raw]))).collect::<Vec<_>>();
        visitor.visit_map(Members { rest: members.into_iter(), next: None })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        let mut found: Vec<(Cow<'static, str>, Value<'de>)> = Vec::new();
        for (key, raw) in self.members()? {
            let field = fields.iter().find(|field| **field == key).or(fields.iter().find(|field| is_key(field, &key)));
            let Some(&field) = field else { continue };
            match found.iter_mut().find(|(known, _)| *known == field) {
                Some((_, value)) => value.0.push(raw),
                None => found.push((Cow::Borrowed(field), Value(vec![raw]))),
            }
        }
        visitor.visit_map(Members { rest: found.into_iter(), next: None })
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        name: &'static str,
        visitor: V,
    ) -> Result<V::Value, DocumentError> {
        if name == TEXT {
            let written = |(key, raw): &(String, &RawValue)| Ok(format!("{}:{raw}", serde_json::to_string(key)?));
            let members: Vec<String> = self.members()?.iter().map(written).collect::<Result<_, serde_json::Error>>()?;
            return visitor.visit_string(format!("{{{}}}", members.join(",")));
        }
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, DocumentError> {
        visitor.visit_unit()
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i32 i64 i128 u8 u16 u32 u128 f32 f64 char bytes byte_buf unit unit_struct tuple tuple_struct enum identifier
    }
}

struct Elements<'de> {
    rest: std::iter::Enumerate<std::vec::IntoIter<&'de RawValue>>,
}

impl<'de> SeqAccess<'de> for Elements<'de> {
    type Error = DocumentError;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, DocumentError> {
        let Some((index, raw)) = self.rest.next() else { return Ok(None) };
        seed.deserialize(Value(vec![raw])).map(Some).map_err(|error| error.in_element(index))
    }
}

struct Members<'de> {
    rest: std::vec::IntoIter<(Cow<'static, str>, Value<'de>)>,
    next: Option<(Cow<'static, str>, Value<'de>)>,
}

impl<'de> MapAccess<'de> for Members<'de> {
    type Error = DocumentError;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, DocumentError> {
        self.next = self.rest.next();
        let Some((key, _)) = &self.next else { return Ok(None) };
        let key: StringDeserializer<DocumentError> = key.clone().into_owned().into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, DocumentError> {
        let (key, value) = self.next.take().ok_or_else(|| DocumentError::new("a value without a key"))?;
        seed.deserialize(value).map_err(|error| error.in_field(&key))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default, rename_all = "PascalCase")]
    struct Outer {
        name: String,
        size: u64,
        flag: bool,
        words: Vec<String>,
        labels: BTreeMap<String, String>,
        inner: Inner,
        maybe: Option<u64>,
        #[serde(rename = "os.version")]
        os_version: String,
    }

    #[derive(Debug, Default, PartialEq, Deserialize)]
    #[serde(default)]
    struct Inner {
        user: String,
        kids: Vec<String>,
    }

    fn outer(text: &str) -> Outer {
        read(text).unwrap()
    }

    fn problem(text: &str) -> String {
        read::<Outer>(text).unwrap_err().to_string()
    }

    #[test]
    fn d1_keys_match_without_regard_to_case() {
        for key in ["Name", "name", "NAME", "nAmE"] {
            assert_eq!(outer(&format!(r#"{{"{key}":"x"}}"#)).name, "x");
        }
        assert_eq!(outer(r#"{"OS.Version":"1"}"#).os_version, "1");
        // By Unicode's rules the long s is an S, and the sign for kelvin a K.
        assert_eq!(outer("{\"wordſ\":[\"x\"]}").words, ["x"]);
        assert_eq!(outer("{\"inner\":{\"\u{212a}ids\":[\"x\"]}}").inner.kids, ["x"]);
        assert_eq!(outer(r#"{"Nam":"x","Named":"x"}"#), Outer::default());
        // A map's keys are not a field's.
        let labels = outer(r#"{"labels":{"a":"1","A":"2"}}"#).labels;
        assert_eq!(labels.into_iter().collect::<Vec<_>>(), [("A".into(), "2".into()), ("a".into(), "1".into())]);
    }

    #[test]
    fn d1_null_is_absent() {
        let nulls = r#"{"Name":null,"Size":null,"Flag":null,"Words":null,"Labels":null,"Inner":null,"Maybe":null}"#;
        assert_eq!(outer(nulls), Outer::default());
        assert_eq!(outer("null"), Outer::default());
        assert_eq!(outer(r#"{"Words":["a",null],"Labels":{"k":null}}"#).words, ["a", ""]);
    }

    #[test]
    fn d1_the_last_of_doubled_keys_counts() {
        assert_eq!(outer(r#"{"Name":"a","name":"b"}"#).name, "b");
        assert_eq!(outer(r#"{"name":"b","Name":"a"}"#).name, "a");
        assert_eq!(outer(r#"{"Name":"a","Name":null}"#).name, "a");
        assert!(outer(r#"{"Words":["a"],"words":null}"#).words.is_empty());
        assert_eq!(outer(r#"{"Words":["a","b"],"words":["c"]}"#).words, ["c"]);
        // Go fills what is there already.
        let inner = outer(r#"{"Inner":{"user":"a","kids":["x"]},"inner":{"Kids":[]}}"#).inner;
        assert_eq!(inner, Inner { user: "a".into(), kids: Vec::new() });
        let labels = outer(r#"{"Labels":{"a":"1"},"labels":{"b":"2"}}"#).labels;
        assert_eq!(labels.len(), 2);
        let labels = outer(r#"{"Labels":{"a":"1"},"labels":null,"LABELS":{"b":"2"}}"#).labels;
        assert_eq!(labels.len(), 1);
    }

    #[test]
    fn what_has_another_type_is_named() {
        assert_eq!(problem("[]"), "expected an object, found a list");
        assert_eq!(problem(r#"{"name":1}"#), "Name: expected a string, found the number 1");
        assert_eq!(problem(r#"{"WORDS":["a",{}]}"#), "Words[1]: expected a string, found an object");
        assert_eq!(problem(r#"{"inner":{"user":true}}"#), "Inner.user: expected a string, found a boolean");
        assert_eq!(problem(r#"{"size":-1}"#), "Size: expected a whole number of at least 0, found the number -1");
        assert!(problem("{").contains("EOF while parsing"));
        assert!(problem("{} x").contains("trailing characters"));
    }

    #[test]
    fn unknown_fields_may_hold_anything() {
        let deep = format!(r#"{{"x":{}{},"Name":"a"}}"#, "[".repeat(5000), "]".repeat(5000));
        assert_eq!(outer(&deep).name, "a");
        assert_eq!(outer(r#"{"x":1e999,"x":{"Name":"b"}}"#), Outer::default());
    }
}
