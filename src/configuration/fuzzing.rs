//! See [`crate::fuzzing`].

use std::path::Path;

use super::policy::Policy;
use super::registries::Registries;

/// registries.conf and the name of an image, separated by NUL.
pub fn registries(input: &[u8]) {
    let [name, text] = crate::core::text::parts(input);
    let (Ok(name), Ok(text)) = (std::str::from_utf8(name), std::str::from_utf8(text)) else { return };
    let mut registries = Registries::default();
    for is_main in [true, false] {
        if let Err(error) = registries.add(Path::new("registries.conf"), text, is_main) {
            assert!(!error.to_string().is_empty());
            return;
        }
    }
    let _ = registries.meant_by(name);
    if let Ok(name) = name.parse() {
        assert!(registries.pull(&name).is_err() || registries.pull(&name).is_ok_and(|places| !places.is_empty()));
        let _ = registries.push(&name);
    }
}

/// policy.json: one that can be read has requirements, and never an empty list of them.
pub fn policy(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let _ = Policy::parse(Path::new("policy.json"), text);
}
