//! `layflat cp`

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use layflat::core::stack::Last;
use layflat::core::text::Printable;
use layflat::extract::Extractor;
use layflat::{Cancel, Made as Tree, Options, Report};
use serde_json::json;

use super::arguments::{Common, LayerArg, Looked, OpenArgs, UnpackArgs};
use super::made::Made;
use super::overlap::refuse_replacing_source;
use super::{SUCCESS, missing, output, progress};

/// Copy files and directories out of an image
///
/// Works like `cp -a` and `docker cp`: a DEST that is a directory gets copies by their own names, any other DEST becomes
/// the copy. Symbolic links on the way to PATH are followed inside the image; PATH itself is copied as it is, unless a
/// slash follows it. Each copy appears whole or not at all, and replaces nothing without --replace.
///
/// PATH begins behind the last `:/`, or behind the last colon where there is none. It is taken from the root of the image
/// in both cases: app.tar:/etc/passwd, docker://debian:12:/etc, oci:dir:tag:etc/passwd.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat cp docker://nginx:/etc/nginx/nginx.conf .
  layflat cp app.tar:/srv/app app
  layflat cp --layer 2 app.tar:/etc/deleted.conf .")]
pub(crate) struct Cp {
    /// What to copy
    #[arg(value_name = "IMAGE:PATH", required = true)]
    sources: Vec<OsString>,
    /// The directory to copy into, or the name of the copy
    #[arg(value_name = "DEST", required = true)]
    dest: PathBuf,
    #[command(flatten)]
    as_of: LayerArg,
    #[command(flatten)]
    unpack: UnpackArgs,
    #[command(flatten)]
    open: OpenArgs,
}

impl Cp {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let sources = self.sources.iter().map(|source| split(source)).collect::<anyhow::Result<Vec<_>>>()?;
        let is_directory = self.dest.is_dir();
        let name = || Printable(self.dest.as_os_str().as_bytes());
        ensure!(
            is_directory || sources.len() == 1,
            "{} is not a directory, and several files are to be copied",
            name()
        );
        let says_directory = self.dest.as_os_str().as_bytes().ends_with(b"/");
        ensure!(is_directory || !says_directory, "{} is not a directory", name());
        let settled = self.unpack.owners.settle()?;
        let options = self.unpack.options(&self.open, settled.owners.clone(), cancel)?;
        let mut copied = Vec::new();
        // Each image is opened and read once, whatever is copied from it.
        let mut rest: &[(OsString, OsString)] = &sources;
        while let Some((image, _)) = rest.first() {
            let (same, others) = rest.split_at(rest.iter().take_while(|(other, _)| other == image).count());
            rest = others;
            let looked = self.open.look(image, common, cancel)?;
            let extractor = Extractor::new(&looked.image, &looked.indexes, self.as_of.layer, &looked.options)?;
            for (_, path) in same {
                let (destination, report) = self.copy(&extractor, (image, path), &looked, &options, common)?;
                copied.push((path, destination, report));
            }
        }
        settled.say(common);
        for (_, _, report) in &copied {
            output::losses(common, &report.not_kept);
        }
        if !common.json {
            // One by its own name, several by that of the directory that they are in.
            let made = match copied.as_slice() {
                [(_, destination, _)] => Made::at(destination),
                _ => Made::at(&self.dest),
            };
            let mut all = Tree::default();
            let mut losses = Vec::new();
            for (_, _, report) in &copied {
                all.files += report.made.files;
                all.bytes = all.bytes.saturating_add(report.made.bytes);
                losses.extend(report.not_kept.iter().cloned());
            }
            made.tree(&all, None).losses(&losses).say(common, "");
        }
        if common.json {
            output::json_lines(copied.iter().map(|(path, destination, report)| {
                json!({
                    "path": Printable(path.as_bytes()).to_string(),
                    "destination": Printable(destination.as_os_str().as_bytes()).to_string(),
                    "entries": report.entries,
                    "not_kept": report.not_kept,
                })
            }))?;
        }
        Ok(SUCCESS)
    }

    fn copy(
        &self,
        extractor: &Extractor<'_>,
        (image, path): (&OsStr, &OsStr),
        looked: &Looked,
        options: &Options,
        common: &Common,
    ) -> anyhow::Result<(PathBuf, Report)> {
        let found = extractor.find(path.as_bytes()).map_err(|error| match self.as_of.layer {
            Some(_) => error.into(),
            None => missing::explained(error, path.as_bytes(), looked, |layer| match layer.checked_sub(1) {
                Some(below) => format!("--layer {below} copies it"),
                None => "nothing is left of it".to_owned(),
            }),
        })?;
        // Where a link leads that the user names is the user's choice. One that only has the name of what is copied may come out of an
        // image itself.
        let (destination, last) = match (self.dest.is_dir(), found.name()) {
            (false, _) => (self.dest.clone(), Last::Follow),
            (true, Some(name)) => (self.dest.join(OsStr::from_bytes(name)), Last::Keep),
            (true, None) => bail!(
                "the root of an image has no name to be copied by: choose a DEST that is not there yet, or use layflat flatten"
            ),
        };
        if options.replace {
            refuse_replacing_source(image, self.open.remote.cache(), &destination)?;
        }
        let progress = progress::progress(common);
        let report = extractor.extract(&found, (&destination, last), options, progress.as_ref());
        let name = Printable(path.as_bytes());
        Ok((destination, report.with_context(|| format!("cannot copy {name}"))?))
    }
}

/// `IMAGE:PATH`, at the last colon that a slash follows, but not two as in `docker://`; or else at the last colon.
pub(super) fn split(source: &OsStr) -> anyhow::Result<(OsString, OsString)> {
    let bytes = source.as_bytes();
    let follows = |at: usize, what: &[u8]| bytes[at + 1..].starts_with(what);
    let colons: Vec<usize> = (0..bytes.len()).filter(|&at| bytes[at] == b':' && !follows(at, b"//")).collect();
    let at = colons.iter().rev().find(|&&at| follows(at, b"/")).or(colons.last());
    let parts = at.map(|&at| (&bytes[..at], &bytes[at + 1..]));
    let Some((image, path)) = parts.filter(|(image, path)| !image.is_empty() && !path.is_empty()) else {
        bail!("{}: expected IMAGE:PATH, like app.tar:/etc/passwd or docker://debian:12:/etc", Printable(bytes));
    };
    Ok((OsString::from_vec(image.to_vec()), OsString::from_vec(path.to_vec())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_path_begins_behind_the_last_colon_that_a_slash_follows() {
        let split =
            |text: &str| split(OsStr::new(text)).map(|(image, path)| format!("{} {}", image.display(), path.display()));
        for (source, parts) in [
            ("app.tar:/etc/passwd", "app.tar /etc/passwd"),
            ("app.tar:etc/passwd", "app.tar etc/passwd"),
            ("docker://debian:12:/etc", "docker://debian:12 /etc"),
            ("docker://debian:/etc", "docker://debian /etc"),
            ("docker://host:5000/x:tag:/path", "docker://host:5000/x:tag /path"),
            ("docker://host:5000/x:tag:path", "docker://host:5000/x:tag path"),
            ("docker://host:5000/x@sha256:ab:/a:b", "docker://host:5000/x@sha256:ab /a:b"),
            ("oci:/dir:tag:/etc/", "oci:/dir:tag /etc/"),
            ("-:/", "- /"),
        ] {
            assert_eq!(split(source).unwrap(), parts, "{source}");
        }
        for wrong in ["app.tar", "docker://debian", ":/etc", "app.tar:"] {
            split(wrong).unwrap_err();
        }
    }
}
