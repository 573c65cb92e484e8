//! What enroot looks for beside an image's own files: `/etc/environment`, `/etc/rc`, `/etc/rc.local` and `/etc/fstab`, as `enroot import` makes them
//! of the configuration. They are one more layer, so that nothing else has to know of them, and the name of what is made follows from them, too.

use std::fmt::Write as _;

use crate::blob::Blob;
use crate::core::digest::Digest;
use crate::core::filter::{Filter, Globs};
use crate::core::layer::{Content, LayerWriter, WriteError, WriteOptions};
use crate::core::record::{Attributes, LayerPath};
use crate::core::tar::Fragment;
use crate::core::text::Printable;
use crate::image::{Image, Layer, RunConfig, quoted};
use crate::notes::Notes;
use crate::unpack::{Error, io};

/// What stands in the place of a program where an image names none.
const SHELL: &str = "/bin/sh";
const RC_LOCAL: &str = "# Sourced by /etc/rc before the command of the container is run.\n";
/// What is not in a path that needs no escapes in fstab(5), and that enroot does not take for a variable.
const SPECIAL: &[char] = &['$', '\\', '#', '"', '\'', '`'];

/// The image with those files.
pub(super) fn with_files(image: &Image, notes: &Notes) -> Result<Image, Error> {
    let config = image.config.as_ref().map(|config| config.parsed.config.clone()).unwrap_or_default();
    let archive = archive(&files(&config, notes)).map_err(io("cannot make the files of enroot"))?;
    let digest = Digest::sha256_of(&archive);
    let layer = Layer::bare(Blob::from_bytes(archive)).with_diff_id(Some(digest));
    let mut image = image.clone();
    image.layers.push(layer);
    Ok(image)
}

/// What else `enroot import` does: all files are the user's, who is root within, and devices are those of the machine.
pub(super) fn filter() -> Result<Filter, Error> {
    let exclude = Globs::paths(["dev/*"]).map_err(|error| Error::Product(error.into()))?;
    Ok(Filter { owner: Some((0, 0)), exclude, ..Filter::default() })
}

type File = (&'static str, String);

fn files(config: &RunConfig, notes: &Notes) -> [File; 4] {
    [
        ("environment", environment(config, notes)),
        ("fstab", fstab(config, notes)),
        ("rc", rc(config)),
        ("rc.local", RC_LOCAL.to_owned()),
    ]
}

/// One variable a line.
fn environment(config: &RunConfig, notes: &Notes) -> String {
    let mut text = String::new();
    for variable in &config.env {
        if variable.contains(['\n', '\0']) {
            let name = variable.split('=').next().unwrap_or_default();
            let name = Printable(name.as_bytes());
            notes.tell(format!("/etc/environment cannot hold the variable {name}, which has a line break in it"));
        } else {
            let _ = writeln!(text, "{variable}");
        }
    }
    text
}

/// Volumes are directories of the root file system that are mounted over themselves.
fn fstab(config: &RunConfig, notes: &Notes) -> String {
    let mut text = String::new();
    for volume in &config.volumes {
        let leads_up = volume.split('/').any(|component| component == "..");
        let is_plain = !volume.contains(|c: char| c.is_whitespace() || c.is_control() || SPECIAL.contains(&c));
        if volume.starts_with('/') && !leads_up && is_plain {
            let _ = writeln!(text, "${{ENROOT_ROOTFS}}{volume} {volume} none x-create=dir,bind,rw,nosuid,nodev");
        } else {
            notes.tell(format!("the volume {} has a name that /etc/fstab cannot hold", Printable(volume.as_bytes())));
        }
    }
    text
}

/// What runs the command, or what the user asks for instead.
fn rc(config: &RunConfig) -> String {
    let words = |words: &[String]| -> String { words.iter().map(|word| format!(" {}", word_of(word))).collect() };
    let directory = if config.working_dir.is_empty() { "/" } else { &config.working_dir };
    let directory = word_of(directory);
    let entrypoint = words(&config.entrypoint);
    let is_nothing = config.entrypoint.is_empty() && config.cmd.is_empty();
    let command = if is_nothing { format!(" {}", quoted(SHELL)) } else { words(&config.cmd) };
    format!(
        "mkdir -p {directory} 2>/dev/null\n\
         cd {directory} && unset OLDPWD || exit 1\n\
         \n\
         if [ -s /etc/rc.local ]; then\n    . /etc/rc.local\nfi\n\
         \n\
         if [ $# -gt 0 ]; then\n    exec{entrypoint} \"$@\"\nelse\n    exec{entrypoint}{command}\nfi\n"
    )
}

/// A word for a shell, which ends a word at a NUL, too.
fn word_of(word: &str) -> String {
    quoted(word.split('\0').next().unwrap_or_default())
}

fn archive(files: &[File]) -> std::io::Result<Vec<u8>> {
    let attributes = Attributes { mode: 0o644, ..Attributes::of_unnamed_directory() };
    let mut writer: LayerWriter<_, ()> = LayerWriter::new(Vec::new(), WriteOptions::default());
    for (name, text) in files {
        let path = LayerPath::of_components([&b"etc"[..], name.as_bytes()]);
        let size = text.len() as u64;
        let open = || {
            let fragments = vec![Fragment { offset: 0, length: size }].into();
            let read = |offset: u64, piece: &mut [u8]| {
                let at = offset as usize;
                piece.copy_from_slice(&text.as_bytes()[at..at + piece.len()]);
                Ok(())
            };
            Ok::<_, WriteError>(Content { fragments, read })
        };
        writer.file(&path, &attributes, size, None, open).map_err(std::io::Error::other)?;
    }
    Ok(writer.finish()?.0)
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::sync::{Arc, Mutex};

    use super::*;

    /// What `/etc/rc` prints. This machine's own files are none of its business.
    fn run(rc: &str, arguments: &[&str]) -> String {
        let rc = rc.replace("/etc/rc.local", "/proc/none");
        let output = Command::new("sh").args(["-c", &rc, "rc"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn strings(words: &[&str]) -> Vec<String> {
        words.iter().map(|word| (*word).to_owned()).collect()
    }

    #[test]
    fn rc_runs_what_the_image_says_in_its_directory_or_what_the_user_says() {
        let config = RunConfig {
            entrypoint: strings(&["printf", "%s|", "it's", "$(id)"]),
            cmd: strings(&["a b", ""]),
            working_dir: "/tmp".to_owned(),
            ..RunConfig::default()
        };
        let rc = rc(&config);
        assert_eq!(run(&rc, &[]), "it's|$(id)|a b||");
        assert_eq!(run(&rc, &["mine"]), "it's|$(id)|mine|");
        let config = RunConfig { entrypoint: Vec::new(), cmd: strings(&["pwd"]), ..config };
        assert_eq!(run(&super::rc(&config), &[]), "/tmp\n");
        assert_eq!(run(&super::rc(&config), &["printf", "mine"]), "mine");
        assert!(super::rc(&RunConfig::default()).contains("exec '/bin/sh'\n"));
        assert!(super::rc(&RunConfig::default()).starts_with("mkdir -p '/' 2>/dev/null\ncd '/' && "));
    }

    #[test]
    fn what_an_image_says_makes_no_lines_of_its_own() {
        let config = RunConfig {
            env: strings(&["A=b c", "B=1\nLD_PRELOAD=x"]),
            volumes: ["/data", "/a b", "/a\n/home /home none bind", "/../../home", "data", "/$HOME"]
                .into_iter()
                .map(str::to_owned)
                .collect(),
            ..RunConfig::default()
        };
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let ear = Arc::clone(&heard);
        let notes = Notes::to(move |note| ear.lock().unwrap().push(note.to_owned()));
        let [(_, environment), (_, fstab), ..] = files(&config, &notes);
        assert_eq!(environment, "A=b c\n");
        assert_eq!(fstab, "${ENROOT_ROOTFS}/data /data none x-create=dir,bind,rw,nosuid,nodev\n");
        assert_eq!(heard.lock().unwrap().len(), 6, "{heard:?}");
    }
}
