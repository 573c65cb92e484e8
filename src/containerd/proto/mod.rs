//! Messages and services of containerd, made by `scripts/make-protobuf` from the `.proto` files here. The modules are
//! called as the packages are, since what is made refers to itself so.

#![allow(clippy::all, clippy::pedantic, clippy::unwrap_used, missing_docs, unreachable_pub, reason = "made code")]

pub(crate) mod containerd {
    pub(crate) mod services {
        pub(crate) mod content {
            pub(crate) mod v1 {
                include!("containerd.services.content.v1.rs");
            }
        }
        pub(crate) mod diff {
            pub(crate) mod v1 {
                include!("containerd.services.diff.v1.rs");
            }
        }
        pub(crate) mod leases {
            pub(crate) mod v1 {
                include!("containerd.services.leases.v1.rs");
            }
        }
        pub(crate) mod snapshots {
            pub(crate) mod v1 {
                include!("containerd.services.snapshots.v1.rs");
            }
        }
    }

    pub(crate) mod types {
        include!("containerd.types.rs");
    }
}

pub(crate) use containerd::services::content::v1 as content;
pub(crate) use containerd::services::diff::v1 as diff;
pub(crate) use containerd::services::leases::v1 as leases;
pub(crate) use containerd::services::snapshots::v1 as snapshots;
pub(crate) use containerd::types;
