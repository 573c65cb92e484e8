//! See [`crate::fuzzing`].

use serde_json::Value;
use ureq::http::header::WWW_AUTHENTICATE;
use ureq::http::{HeaderMap, HeaderValue};

use super::credentials::{decode, entries_for, member, scope_of};
use super::{challenge, download, link, location};

/// Headers of an answer, each of which may say anything.
pub fn headers(input: &[u8]) {
    let [first, second] = crate::core::text::parts(input);
    let mut headers = HeaderMap::new();
    for value in [first, second] {
        if let Ok(value) = HeaderValue::from_bytes(value) {
            headers.append(WWW_AUTHENTICATE, value);
        }
    }
    for challenge in challenge::challenges(&headers) {
        let _ = (challenge.is_known(), challenge.parameter("realm"));
    }
    let next = link::next([first, second].into_iter());
    for target in [first, second].into_iter().chain(next.as_deref()) {
        if let Some(place) = location::resolve("https://registry.example:5000/v2/a/blobs/uploads/?x=y", target) {
            assert!(place.starts_with("http://") || place.starts_with("https://"), "{place}");
            assert!(place.bytes().all(|byte| byte.is_ascii_graphic()), "{place}");
            let again = location::resolve("https://other.example/", place.as_bytes());
            assert_eq!(again.as_ref(), Some(&place), "it means the same wherever it is read");
        }
    }
    if let Ok(range) = std::str::from_utf8(first) {
        let _ = download::start_of(range);
    }
}

/// The name of a registry, a repository and a credentials file, separated by NUL.
pub fn credentials(input: &[u8]) {
    let [registry, repository, file] = crate::core::text::parts(input);
    let (Ok(registry), Ok(repository)) = (std::str::from_utf8(registry), std::str::from_utf8(repository)) else {
        return;
    };
    let _ = scope_of(registry);
    let Ok(file) = serde_json::from_slice::<Value>(file) else { return };
    let auths = member(&file, "auths").and_then(Value::as_object);
    for (_, entry) in entries_for(auths.into_iter().flatten(), registry, repository) {
        let _ = decode(entry);
    }
}
