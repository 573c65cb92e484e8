//! The rules of `check`: their names, how bad what they find is, what it means and what to do about it.

use serde::{Serialize, Serializer};

use super::Severity;

/// What was found. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Rule {
    /// The manifest, or what leads to it, is not as it should be.
    Manifest,
    /// The configuration is not as it should be.
    Config,
    /// A file in an archive is named by a digest that is not its own.
    FileName,
    /// Not as many layers as the configuration has DiffIDs.
    LayerCount,
    /// Not as many lines of history as there are layers.
    History,
    /// A layer's file is missing.
    BlobMissing,
    /// A layer's file cannot be read.
    BlobUnreadable,
    /// A layer's file has another size than stated.
    BlobSize,
    /// A layer's file has another digest than stated.
    BlobDigest,
    /// A layer's compression is damaged.
    BlobDamaged,
    /// A layer has another DiffID than stated.
    DiffId,
    /// A layer is compressed otherwise than its media type says.
    MediaType,
    /// A layer's archive is damaged.
    ArchiveDamaged,
    /// A name climbs above the root.
    NameClimbs,
    /// An entry cannot be taken.
    BadEntry,
    /// Something is larger than it may be.
    Limit,
    /// A layer has several entries of one name.
    DuplicateEntry,
    /// A whiteout deletes nothing.
    IdleWhiteout,
    /// A symlink leads nowhere.
    DanglingLink,
    /// A secret in a file that later layers only hide.
    HiddenSecret,
    /// A secret in a file of the final image.
    VisibleSecret,
    /// A secret in an environment variable of the configuration.
    EnvSecret,
    /// A secret in the history: build arguments and commands.
    HistorySecret,
    /// A secret in a label.
    LabelSecret,
    /// A secret in an annotation of the manifest.
    AnnotationSecret,
    /// A secret elsewhere in the configuration, like the command or the health check.
    ConfigSecret,
    /// Something was not checked, since something else is wrong.
    NotChecked,
}

/// What is the same for all findings of a rule.
struct Facts {
    name: &'static str,
    severity: Severity,
    meaning: &'static str,
    fix: &'static str,
}

const BUILD_SECRET: &str =
    "revoke the secret, since whoever has the image has it; pass it with `RUN --mount=type=secret` when building";
const RUN_SECRET: &str = "revoke the secret, since whoever has the image has it; pass it when the container starts, as a file or from a secret store";
const ANNOTATION_SECRET: &str = "revoke the secret, since whoever sees the manifest has it; annotations are for everybody, and what the build needs belongs elsewhere";
const AGAIN: &str = "copy or build the image again: this copy is damaged, or was changed after it was made";
const BUILDER: &str =
    "build the image again with a current builder, or copy it with `layflat copy`, which writes what it states anew";

impl Rule {
    /// All of them.
    pub const ALL: [Self; 27] = [
        Self::Manifest,
        Self::Config,
        Self::FileName,
        Self::LayerCount,
        Self::History,
        Self::BlobMissing,
        Self::BlobUnreadable,
        Self::BlobSize,
        Self::BlobDigest,
        Self::BlobDamaged,
        Self::DiffId,
        Self::MediaType,
        Self::ArchiveDamaged,
        Self::NameClimbs,
        Self::BadEntry,
        Self::Limit,
        Self::DuplicateEntry,
        Self::IdleWhiteout,
        Self::DanglingLink,
        Self::HiddenSecret,
        Self::VisibleSecret,
        Self::EnvSecret,
        Self::HistorySecret,
        Self::LabelSecret,
        Self::AnnotationSecret,
        Self::ConfigSecret,
        Self::NotChecked,
    ];

    /// As it stands in reports.
    pub fn name(self) -> &'static str {
        self.facts().name
    }

    /// How bad its findings are at worst.
    pub fn severity(self) -> Severity {
        self.facts().severity
    }

    /// What a finding means, in one sentence.
    pub fn meaning(self) -> &'static str {
        self.facts().meaning
    }

    /// What to do about it.
    pub fn fix(self) -> &'static str {
        self.facts().fix
    }

    fn facts(self) -> Facts {
        let (name, severity, meaning, fix) = match self {
            Self::Manifest => (
                "manifest",
                Severity::Error,
                "The manifest, or a document that leads to it, is missing or not valid.",
                AGAIN,
            ),
            Self::Config => (
                "config",
                Severity::Error,
                "The configuration is missing, not valid, or states something that cannot be, like a command that is not in the image.",
                "correct the Dockerfile's ENV, WORKDIR, ENTRYPOINT or CMD, and build again",
            ),
            Self::FileName => (
                "file-name",
                Severity::Note,
                "A layer's file in an archive is named by a digest that is not its own.",
                "nothing has to be done: names in archives bind nobody",
            ),
            Self::LayerCount => (
                "layer-count",
                Severity::Error,
                "The configuration has more or fewer DiffIDs than the manifest has layers.",
                BUILDER,
            ),
            Self::History => (
                "history",
                Severity::Warning,
                "The history has more or fewer lines for layers than there are layers.",
                "nothing has to be done, but tools attribute layers to the wrong commands; a build with a current builder corrects it",
            ),
            Self::BlobMissing => ("blob-missing", Severity::Error, "A layer's file is missing.", AGAIN),
            Self::BlobUnreadable => (
                "blob-unreadable",
                Severity::Error,
                "A layer's file cannot be read.",
                "see to permissions, disk or network, as the text says",
            ),
            Self::BlobSize => {
                ("blob-size", Severity::Error, "A layer's file has another size than the manifest states.", AGAIN)
            }
            Self::BlobDigest => {
                ("blob-digest", Severity::Error, "A layer's file has another digest than the manifest states.", AGAIN)
            }
            Self::BlobDamaged => ("blob-damaged", Severity::Error, "A layer's compressed data is damaged.", AGAIN),
            Self::DiffId => (
                "diff-id",
                Severity::Error,
                "A layer's uncompressed archive has another digest than the configuration states.",
                AGAIN,
            ),
            Self::MediaType => (
                "media-type",
                Severity::Warning,
                "A layer is compressed otherwise than its media type says; some tools cannot read it.",
                BUILDER,
            ),
            Self::ArchiveDamaged => ("archive-damaged", Severity::Error, "A layer's tar archive is damaged.", AGAIN),
            Self::NameClimbs => (
                "name-climbs",
                Severity::Error,
                "An entry's name or hard link target leads above the root by `..`.",
                "do not use the image: no builder makes such names; find out who made it",
            ),
            Self::BadEntry => (
                "bad-entry",
                Severity::Error,
                "An entry cannot be unpacked: its name, target or attributes cannot be, or it does not fit what lies below.",
                "make the layer again; if a program of your own makes it, the text says what is wrong with the entry",
            ),
            Self::Limit => (
                "limit",
                Severity::Error,
                "Something is larger than a safety limit allows.",
                "if the image is trusted, raise the limit that the text names",
            ),
            Self::DuplicateEntry => (
                "duplicate-entry",
                Severity::Warning,
                "A layer has several entries of one name; the last one counts, and tools may differ.",
                "make the layer again with each name once",
            ),
            Self::IdleWhiteout => (
                "idle-whiteout",
                Severity::Note,
                "A whiteout, or an opaque directory, deletes nothing.",
                "nothing has to be done; the layer may have been made for another base image",
            ),
            Self::DanglingLink => (
                "dangling-link",
                Severity::Note,
                "A symbolic link leads to nothing in the image.",
                "nothing has to be done if its target is mounted or made when the container runs; otherwise remove the link",
            ),
            Self::HiddenSecret => (
                "hidden-secret",
                Severity::Warning,
                "A file that a later layer deletes or replaces holds a secret, and its layer still ships it.",
                BUILD_SECRET,
            ),
            Self::VisibleSecret => (
                "visible-secret",
                Severity::Warning,
                "A file of the final image holds a secret.",
                "revoke the secret unless it is a published example, and remove the file from the stage that is shipped; pass it when the container starts",
            ),
            Self::EnvSecret => (
                "env-secret",
                Severity::Warning,
                "An environment variable of the configuration holds a secret.",
                RUN_SECRET,
            ),
            Self::HistorySecret => (
                "history-secret",
                Severity::Warning,
                "A build argument or a command in the history holds a secret.",
                BUILD_SECRET,
            ),
            Self::LabelSecret => ("label-secret", Severity::Warning, "A label holds a secret.", RUN_SECRET),
            Self::AnnotationSecret => (
                "annotation-secret",
                Severity::Warning,
                "An annotation of the manifest, or of a layer in it, holds a secret.",
                ANNOTATION_SECRET,
            ),
            Self::ConfigSecret => (
                "config-secret",
                Severity::Warning,
                "The command, the entrypoint, the health check or another field of the configuration holds a secret.",
                RUN_SECRET,
            ),
            Self::NotChecked => (
                "not-checked",
                Severity::Note,
                "Something was not checked, since something else is wrong.",
                "correct the errors and check again",
            ),
        };
        Facts { name, severity, meaning, fix }
    }
}

impl Serialize for Rule {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_listed_once_and_says_what_to_do() {
        let names: std::collections::BTreeSet<&str> = Rule::ALL.iter().map(|rule| rule.name()).collect();
        assert_eq!(names.len(), Rule::ALL.len());
        for (index, rule) in Rule::ALL.into_iter().enumerate() {
            assert_eq!(rule as usize, index, "{rule:?} stands where it is declared");
            assert!(rule.meaning().ends_with('.') && !rule.fix().is_empty(), "{rule:?}");
            assert!(rule.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{rule:?}");
        }
    }
}
