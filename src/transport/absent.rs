//! Stands in for registries and engines in a build without them: opening one is an error that names the missing
//! feature.

/// As the folder `registry` has it.
pub(in crate::transport) mod registry {
    pub(in crate::transport) mod error {
        use crate::transport::source::SourceError;
        use crate::transport::store::StoreError;

        pub(in crate::transport) fn is_not_found(_: &SourceError) -> bool {
            false
        }

        pub(in crate::transport) fn refuses_format(_: &StoreError) -> bool {
            false
        }
    }

    pub(in crate::transport) mod read {
        use crate::core::reference::ImageName;
        use crate::image::{Image, Manifest};
        use crate::transport::absent::source;
        use crate::transport::source::referrers::Referring;
        use crate::transport::source::{Named, OpenOptions, Selection, SourceError};

        fn lacks<T>(name: &ImageName) -> Result<T, SourceError> {
            source(format!("docker://{name}"))
        }

        pub(in crate::transport) fn short_name(_: &str, _: &OpenOptions) -> Option<String> {
            None
        }

        pub(in crate::transport) fn open(name: &ImageName, _: &OpenOptions) -> Result<Image, SourceError> {
            lacks(name)
        }

        pub(in crate::transport) fn open_set(
            name: &ImageName,
            _: Selection,
            _: &OpenOptions,
        ) -> Result<Vec<Named>, SourceError> {
            lacks(name)
        }

        pub(in crate::transport) fn manifest(name: &ImageName, _: &OpenOptions) -> Result<Manifest, SourceError> {
            lacks(name)
        }

        pub(in crate::transport) fn tags(name: &ImageName, _: &OpenOptions) -> Result<Vec<String>, SourceError> {
            lacks(name)
        }

        pub(in crate::transport) fn referring<'a>(
            name: &ImageName,
            _: &'a OpenOptions,
        ) -> Result<Box<dyn Referring + 'a>, SourceError> {
            lacks(name)
        }
    }

    pub(in crate::transport) mod write {
        use crate::core::reference::ImageName;
        use crate::transport::absent::store;
        use crate::transport::store::{OpenOptions, Store, StoreError};

        pub(in crate::transport) fn open(name: &ImageName, _: &OpenOptions) -> Result<Box<dyn Store>, StoreError> {
            store(format!("docker://{name}"))
        }
    }
}

/// As the folder `engine` has it.
pub(in crate::transport) mod engine {
    pub(in crate::transport) mod read {
        use crate::core::reference::DaemonImage;
        use crate::image::Image;
        use crate::transport::absent::source;
        use crate::transport::source::{OpenOptions, SourceError};

        pub(in crate::transport) fn open(image: &DaemonImage, _: &OpenOptions) -> Result<Image, SourceError> {
            source(format!("docker-daemon:{image}"))
        }

        pub(in crate::transport) fn names(
            of: Option<&DaemonImage>,
            _: &OpenOptions,
        ) -> Result<Vec<String>, SourceError> {
            source(of.map_or_else(|| "docker-daemon:".to_owned(), |image| format!("docker-daemon:{image}")))
        }
    }

    pub(in crate::transport) mod write {
        use crate::core::reference::DaemonImage;
        use crate::transport::absent::store;
        use crate::transport::store::{OpenOptions, Store, StoreError};

        pub(in crate::transport) fn open(image: &DaemonImage, _: &OpenOptions) -> Result<Box<dyn Store>, StoreError> {
            store(format!("docker-daemon:{image}"))
        }
    }
}

use super::source::SourceError;
use super::store::StoreError;

const FEATURE: &str = "registry";

fn source<T>(place: String) -> Result<T, SourceError> {
    Err(SourceError::NotBuilt { place, feature: FEATURE })
}

fn store<T>(place: String) -> Result<T, StoreError> {
    Err(StoreError::NotBuilt { place, feature: FEATURE })
}

#[cfg(test)]
mod tests {
    use crate::core::reference::Reference;
    use crate::transport::{source, store};

    #[test]
    fn what_was_left_out_is_named_with_its_feature() {
        for text in ["docker://quay.io/alpine:3", "docker-daemon:alpine:3"] {
            let reference: Reference = text.parse().unwrap();
            let expected = format!("{text} needs the feature `registry`, which this build lacks");
            let options = source::OpenOptions::default();
            assert_eq!(source::open(&reference, &options).unwrap_err().to_string(), expected);
            assert_eq!(source::names(&reference, &options).unwrap_err().to_string(), expected);
            let stored = store::open(&reference, &store::OpenOptions::default());
            assert_eq!(stored.err().unwrap().to_string(), expected);
        }
    }
}
