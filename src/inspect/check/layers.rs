//! Checks each layer on its own: its bytes, and whether its entries can be unpacked.

use hashbrown::HashMap;

use super::secrets::{Scanned, Scanner};
use super::{Finding, Rule, statements};
use crate::blob::BlobError;
use crate::core::chain::Chain;
use crate::core::layer::{EntryProblem, Failure, LayerError, Place, Sink, Unkept, read_layer};
use crate::core::record::{Attributes, Change, ChangeKind, ContentId, NameId, Names, PathError, Record};
use crate::core::text::Printable;
use crate::image::Image;
use crate::inspect::index::{Content, Hashing};
use crate::unpack::read::{Pass, each_layer};
use crate::unpack::{Error, Options, Progress};

/// What could be made of one layer.
#[derive(Debug, Default)]
pub(super) struct Examined {
    /// Its record, if it could be read to its end; entries that cannot be taken are left out.
    pub(super) record: Option<Record>,
    pub(super) contents: Vec<Content>,
    pub(super) secrets: Scanned,
    pub(super) findings: Vec<Finding>,
}

/// Reads all layers, each as far as possible; with `secrets`, the contents of their files are searched meanwhile.
pub(super) fn read(
    image: &Image,
    secrets: bool,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Vec<Examined>, Error> {
    let all: Vec<usize> = (0..image.layers.len()).collect();
    let mut layers = Vec::new();
    for (layer, examined) in
        each_layer(image, &all, options, progress, &|queue| queue.first(), &|pass| examine(pass, secrets))
            .into_iter()
            .enumerate()
    {
        let mut examined = examined.filter(|_| !options.cancel.is_cancelled()).ok_or(Error::Cancelled)?;
        for finding in &mut examined.findings {
            finding.layer = Some(layer);
        }
        layers.push(examined);
    }
    Ok(layers)
}

fn examine(pass: &Pass<'_>, secrets: bool) -> Examined {
    let mut examined = Examined::default();
    let findings = &mut examined.findings;
    let mut watched = match pass.open() {
        Ok(watched) => watched,
        Err(error) => {
            findings.push(of_blob(&error));
            return examined;
        }
    };
    let mut sink = Lenient { scanner: secrets.then(Scanner::default), ..Lenient::default() };
    let result = read_layer(&mut watched, &mut sink, &pass.reading(), &mut |count| pass.entries(count));
    findings.append(&mut sink.findings);
    let unreadable = match result {
        Ok(record) => {
            findings.extend(duplicates(&record));
            examined.record = Some(record);
            examined.contents = sink.hashing.into_contents();
            examined.secrets = sink.scanner.map(Scanner::into_scanned).unwrap_or_default();
            if examined.secrets.is_cut {
                let text = "more files hold secrets than are listed";
                findings.push(Finding::note(Rule::NotChecked, text));
            }
            None
        }
        Err(LayerError::Read(error)) => Some(error),
        Err(error) => {
            findings.push(of_layer(error));
            None
        }
    };
    let finished = match unreadable {
        None => watched.stream.finish(),
        Some(error) => match error.downcast::<BlobError>() {
            Ok(error) => Err(error),
            Err(error) => {
                findings.push(Finding::error(Rule::BlobUnreadable, Chain(&error).to_string()));
                return examined;
            }
        },
    };
    match finished {
        Ok(facts) => {
            if let Some(stated) = pass.layer.diff_id.as_ref().filter(|stated| **stated != facts.diff_id) {
                let text = format!("the configuration states diff_id {stated}, but the layer's is {}", facts.diff_id);
                findings.push(Finding::error(Rule::DiffId, text));
            }
            findings.extend(statements::check_media_type(pass.layer, facts.compression));
            let misnamed = pass.layer.misnamed(&facts.digest);
            findings.extend(misnamed.map(|notice| Finding::note(Rule::FileName, notice.to_string())));
        }
        Err(error) => {
            findings.push(of_blob(&error));
            // Damaged as it was made, or since? Its digest tells.
            if matches!(error, BlobError::Damaged { .. }) {
                findings.extend(pass.layer.blob.check().err().map(|error| of_blob(&error)));
            }
        }
    }
    pass.done();
    examined
}

pub(super) fn of_blob(error: &BlobError) -> Finding {
    let kind = match error {
        BlobError::Read { error, .. } if error.kind() == std::io::ErrorKind::NotFound => Rule::BlobMissing,
        BlobError::Read { .. } => Rule::BlobUnreadable,
        BlobError::Damaged { .. } => Rule::BlobDamaged,
        BlobError::Size { .. } => Rule::BlobSize,
        BlobError::Digest { .. } => Rule::BlobDigest,
        BlobError::Limit { .. } => Rule::Limit,
    };
    Finding::error(kind, Chain(error).to_string())
}

fn of_layer(error: LayerError) -> Finding {
    let kind = match error {
        LayerError::Archive { .. } => Rule::ArchiveDamaged,
        LayerError::Limit { .. } => Rule::Limit,
        _ => Rule::BadEntry,
    };
    Finding::error(kind, Chain(&error).to_string())
}

/// Names that several entries of a layer have. A directory that is only listed again is none: nothing depends on the
/// order.
fn duplicates(record: &Record) -> Vec<Finding> {
    let mut seen: HashMap<NameId, (&Change, usize)> = HashMap::new();
    let is_entry =
        |kind: &ChangeKind| !matches!(kind, ChangeKind::Whiteout | ChangeKind::Opaque | ChangeKind::LinkSource { .. });
    for change in record.changes.iter().filter(|change| is_entry(&change.kind)) {
        let (first, count) = seen.entry(change.name).or_insert((change, 0));
        let again = matches!(change.kind, ChangeKind::Directory(_)) && first.kind == change.kind && *count > 0;
        *count += usize::from(!again);
    }
    seen.into_iter()
        .filter(|(_, (_, count))| *count > 1)
        .map(|(name, (_, count))| {
            let text = format!("{count} entries of this name in the layer; the last one counts");
            Finding::warning(Rule::DuplicateEntry, text).at(record.names.path(name))
        })
        .collect()
}

/// Hashes contents and searches them, and notes the entries that cannot be taken instead of ending there.
#[derive(Debug, Default)]
struct Lenient {
    hashing: Hashing,
    scanner: Option<Scanner>,
    /// The file that passes.
    content: Option<ContentId>,
    findings: Vec<Finding>,
}

impl Sink for Lenient {
    type Error = std::convert::Infallible;

    fn begin(
        &mut self,
        names: &Names,
        name: NameId,
        attributes: &Attributes,
        size: u64,
        place: Place,
    ) -> Result<ContentId, Failure<Self::Error>> {
        if let Some(scanner) = &mut self.scanner {
            scanner.begin(&names.path(name), size);
        }
        let content = self.hashing.begin(names, name, attributes, size, place)?;
        self.content = Some(content);
        Ok(content)
    }

    fn data(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Failure<Self::Error>> {
        if let Some(scanner) = &mut self.scanner {
            scanner.data(bytes);
        }
        self.hashing.data(offset, bytes)
    }

    fn end(&mut self, attributes: &Attributes) -> Result<(), Failure<Self::Error>> {
        if let Some((scanner, content)) = self.scanner.as_mut().zip(self.content.take()) {
            scanner.end(content);
        }
        self.hashing.end(attributes)
    }

    fn unkept(&mut self, _: NameId, _: Unkept) {}

    fn refused(&mut self, name: &[u8], problem: EntryProblem) -> Result<(), EntryProblem> {
        let climbs = matches!(
            problem,
            EntryProblem::Name(PathError::Climbs) | EntryProblem::Target { problem: PathError::Climbs, .. }
        );
        let kind = if climbs { Rule::NameClimbs } else { Rule::BadEntry };
        self.findings.push(Finding::error(kind, format!("entry {}: {}", Printable(name), Chain(&problem))));
        Ok(())
    }
}
