//! What a certificate states (RFC 5280), read from one that webpki refuses: of version 1, of an authority, or without an alternative name.
//!
//! A crate for certificates would bring all that they can state, and derive macros with a second `syn`: a tenth of the time that building
//! layflat takes. Five fields are asked for here, of a certificate that the user has given.

use std::time::Duration;

use spki::der::asn1::{AnyRef, BitStringRef, GeneralizedTime, ObjectIdentifier, OctetStringRef, UtcTime};
use spki::der::{Decode, Error, Reader, SliceReader, Tag, Tagged};

const COMMON_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.4.3");
const ALTERNATIVE_NAME: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.17");
const EXTENDED_KEY_USAGE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37");
const ANY_PURPOSE: ObjectIdentifier = ObjectIdentifier::new_unwrap("2.5.29.37.0");
const SERVERS: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.6.1.5.5.7.3.1");

/// What is asked of a certificate.
#[derive(Debug)]
pub(super) struct Certificate<'a> {
    /// The content of the key's AlgorithmIdentifier, as rustls has it: without the header of the sequence.
    pub(super) algorithm: &'a [u8],
    pub(super) key: &'a [u8],
    /// From the epoch on.
    pub(super) not_before: Duration,
    pub(super) not_after: Duration,
    /// Those that are plain text.
    pub(super) common_names: Vec<String>,
    pub(super) has_alternative_name: bool,
    /// Whether it may be a server's: no purpose is stated, or this one, or any.
    pub(super) is_for_servers: bool,
}

impl<'a> Certificate<'a> {
    pub(super) fn parse(bytes: &'a [u8]) -> Result<Self, Error> {
        let signed = fields(AnyRef::from_der(bytes)?)?;
        let mut parts = fields(field(&signed, 0)?)?;
        // The version, which the first version lacks.
        if parts.first().is_some_and(|first| is_numbered(first, 0)) {
            parts.remove(0);
        }
        // Serial number, signature algorithm and issuer are not asked for.
        let validity = fields(field(&parts, 3)?)?;
        let subject = field(&parts, 4)?;
        let key = fields(field(&parts, 5)?)?;
        let mut certificate = Self {
            algorithm: field(&key, 0)?.value(),
            key: field(&key, 1)?.decode_as::<BitStringRef<'_>>()?.raw_bytes(),
            not_before: time(field(&validity, 0)?)?,
            not_after: time(field(&validity, 1)?)?,
            common_names: common_names(subject)?,
            has_alternative_name: false,
            is_for_servers: true,
        };
        if let Some(extensions) = parts[6..].iter().find(|part| is_numbered(part, 3)) {
            certificate.extend(AnyRef::from_der(extensions.value())?)?;
        }
        Ok(certificate)
    }

    fn extend(&mut self, extensions: AnyRef<'a>) -> Result<(), Error> {
        for extension in fields(extensions)? {
            let extension = fields(extension)?;
            let name: ObjectIdentifier = field(&extension, 0)?.decode_as()?;
            self.has_alternative_name |= name == ALTERNATIVE_NAME;
            if name == EXTENDED_KEY_USAGE {
                // The last field: between the two may be whether it is critical.
                let value: &OctetStringRef = field(&extension, extension.len() - 1)?.decode_as()?;
                let purposes = fields(AnyRef::from_der(value.as_bytes())?)?;
                let is_right = |purpose: &AnyRef<'_>| {
                    purpose
                        .decode_as::<ObjectIdentifier>()
                        .is_ok_and(|purpose| [SERVERS, ANY_PURPOSE].contains(&purpose))
                };
                self.is_for_servers = purposes.iter().any(is_right);
            }
        }
        Ok(())
    }
}

/// What a sequence or a set holds.
fn fields(whole: AnyRef<'_>) -> Result<Vec<AnyRef<'_>>, Error> {
    let mut reader = SliceReader::new(whole.value())?;
    let mut fields = Vec::new();
    while !reader.is_finished() {
        fields.push(AnyRef::decode(&mut reader)?);
    }
    Ok(fields)
}

fn field<'a>(fields: &[AnyRef<'a>], index: usize) -> Result<AnyRef<'a>, Error> {
    fields.get(index).copied().ok_or_else(|| Tag::Sequence.length_error().into())
}

fn is_numbered(field: &AnyRef<'_>, expected: u32) -> bool {
    matches!(field.tag(), Tag::ContextSpecific { number, .. } if number.value() == expected)
}

fn time(field: AnyRef<'_>) -> Result<Duration, Error> {
    match field.tag() {
        Tag::UtcTime => Ok(field.decode_as::<UtcTime>()?.to_unix_duration()),
        _ => Ok(field.decode_as::<GeneralizedTime>()?.to_unix_duration()),
    }
}

fn common_names(subject: AnyRef<'_>) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    for set in fields(subject)? {
        for attribute in fields(set)? {
            let attribute = fields(attribute)?;
            let (kind, value) = (field(&attribute, 0)?, field(&attribute, 1)?);
            let is_text = matches!(value.tag(), Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
            if is_text && kind.decode_as::<ObjectIdentifier>()? == COMMON_NAME {
                names.extend(std::str::from_utf8(value.value()).map(str::to_owned));
            }
        }
    }
    Ok(names)
}
