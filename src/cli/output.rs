//! Everything that is printed: data on standard output, messages on standard error.

use std::io::{IsTerminal, Write};
use std::path::Path;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use layflat::core::reference::mask_passwords;
use layflat::core::text::{Printable, steers_terminal};
use layflat::fs::Destination;
use layflat::image::Notice;
use layflat::net::engine::DaemonError;
use layflat::net::registry::RegistryError;
use layflat::{Loss, Notes};

use super::arguments::Common;
use super::hints;
use super::table::count;

/// Prints one JSON document.
pub(crate) fn json(value: &impl serde::Serialize) -> anyhow::Result<()> {
    let text = escaped_json(serde_json::to_string_pretty(value)?);
    print(|out| writeln!(out, "{text}"))
}

/// JSON says the same with characters escaped that would steer a terminal (rule S9); the others are only in strings.
fn escaped_json(text: String) -> String {
    let steers = |character: char| character != '\n' && steers_terminal(character);
    if !text.contains(steers) {
        return text;
    }
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if steers(character) {
            escaped.extend(character.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        } else {
            escaped.push(character);
        }
    }
    escaped
}

/// Prints what a function writes, and flushes it: an error at the end of the program would go unnoticed.
pub(crate) fn print(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) -> anyhow::Result<()> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    write(&mut out).and_then(|()| out.flush()).context("cannot write to standard output")
}

/// A JSON document on one line.
pub(crate) fn json_line(value: &impl serde::Serialize) -> serde_json::Result<String> {
    Ok(escaped_json(serde_json::to_string(value)?))
}

/// Prints JSON documents, each on a line of its own.
pub(crate) fn json_lines<T: serde::Serialize>(values: impl IntoIterator<Item = T>) -> anyhow::Result<()> {
    print(|out| {
        for value in values {
            writeln!(out, "{}", escaped_json(serde_json::to_string(&value)?))?;
        }
        Ok(())
    })
}

/// Colours for standard output: what a layer adds, changes and deletes. The text has the same information without them.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Colour {
    Green,
    Yellow,
    Red,
}

/// Colours the text if standard output is a terminal and NO_COLOR is unset.
pub(crate) fn painted(text: impl std::fmt::Display, colour: Colour) -> String {
    let code = match colour {
        _ if !colours(&std::io::stdout()) => return text.to_string(),
        Colour::Green => 32,
        Colour::Yellow => 33,
        Colour::Red => 31,
    };
    format!("\x1b[{code}m{text}\x1b[0m")
}

/// Prints lines of data.
pub(crate) fn lines<T: std::fmt::Display>(lines: impl IntoIterator<Item = T>) -> anyhow::Result<()> {
    print(|out| {
        for line in lines {
            writeln!(out, "{line}")?;
        }
        Ok(())
    })
}

/// Prints a message, unless --quiet was given.
pub(crate) fn say(common: &Common, line: impl std::fmt::Display) {
    if !common.quiet {
        // If this fails, there is nowhere to report it.
        let _ = writeln!(std::io::stderr().lock(), "{}", mask_passwords(&line.to_string()));
    }
}

/// Says what is wrong beside the result, even to who asked for quiet.
pub(crate) fn warn(problem: impl std::fmt::Display) {
    let _ = writeln!(std::io::stderr().lock(), "note: {}", one_line(&problem.to_string()));
}

/// Whether only errors are printed, for places without access to the arguments.
static QUIET: AtomicBool = AtomicBool::new(false);

/// Decides whether nothing but errors is printed.
pub(crate) fn be_quiet(quiet: bool) {
    QUIET.store(quiet, Ordering::Relaxed);
}

/// Prints the library's notes as they come, each once.
pub(crate) fn notes() -> Notes {
    static NOTES: LazyLock<Notes> = LazyLock::new(|| {
        Notes::to(|note| {
            if !QUIET.load(Ordering::Relaxed) {
                let _ = writeln!(std::io::stderr().lock(), "note: {}", one_line(note));
            }
        })
    });
    NOTES.clone()
}

/// Prints what clap has to say, the help or what is wrong with the arguments, and gives the exit status.
pub(crate) fn usage(problem: &clap::Error) -> u8 {
    let said = problem.render().to_string();
    let harmless = said.lines().map(one_line).collect::<Vec<_>>().join("\n");
    let written = match () {
        // The arguments contain a password or terminal escapes.
        () if problem.use_stderr() && harmless != said.trim_end_matches('\n') => {
            writeln!(std::io::stderr().lock(), "{harmless}")
        }
        // In colours, where they are wanted.
        () => problem.print().and_then(|()| std::io::stdout().flush()),
    };
    match written {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => {
            super::signals::die_of_broken_pipe();
            super::FAILURE
        }
        Err(error) if !problem.use_stderr() => {
            self::error(&anyhow::Error::new(error).context("cannot write to standard output"));
            super::FAILURE
        }
        _ => u8::try_from(problem.exit_code()).unwrap_or(super::TROUBLE),
    }
}

/// Prints an error, all its causes, and what helps, on one line.
pub(crate) fn error(error: &anyhow::Error) {
    let hint = hints::of_error(error.as_ref()).map(|hint| format!("; {hint}")).unwrap_or_default();
    problem(&format!("{}{hint}", chain(error)));
}

/// Prints why there is no result, on one line.
pub(crate) fn problem(message: &str) {
    let (red, plain) = if colours(&std::io::stderr()) { ("\x1b[1;31m", "\x1b[0m") } else { ("", "") };
    let _ = writeln!(std::io::stderr().lock(), "{red}layflat:{plain} {}", one_line(message));
}

/// An error and its causes, `a: b: c`. A cause that only repeats the name that the message before it ends with is not
/// printed again: "cannot open app.tar: No such file", and not "cannot open app.tar: "app.tar": No such file".
pub(crate) fn chain(error: &anyhow::Error) -> String {
    let mut texts: Vec<String> = Vec::new();
    for text in error.chain().map(ToString::to_string) {
        let name = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(&text);
        if !texts.last().is_some_and(|before| before.trim_end_matches('"').ends_with(name)) {
            texts.push(text);
        }
    }
    texts.join(": ")
}

/// Prints a note, and what helps.
pub(crate) fn note(common: &Common, note: impl std::fmt::Display, hint: Option<&str>) {
    let hint = hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
    say(common, format_args!("note: {}{hint}", one_line(&note.to_string())));
}

/// A message on one line, with nothing in it that a terminal would obey. Names in it are escaped already.
pub(crate) fn one_line(message: &str) -> String {
    Printable(mask_passwords(message).as_bytes()).to_string().replace("\\\\", "\\")
}

/// Whether an output shows colours (see no-color.org).
fn colours(output: &impl IsTerminal) -> bool {
    output.is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

/// Whether the reader of our output has gone, as `head` does. A broken network connection is also a "broken pipe", but
/// that is a failure.
pub(crate) fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let is_connection =
        |cause: &(dyn std::error::Error + 'static)| cause.is::<RegistryError>() || cause.is::<DaemonError>();
    let mut causes = hints::chain(error.as_ref()).take_while(|cause| !is_connection(*cause));
    causes.any(|cause| {
        let io = cause.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        let json = cause.downcast_ref::<serde_json::Error>().and_then(serde_json::Error::io_error_kind);
        io.or(json) == Some(std::io::ErrorKind::BrokenPipe)
    })
}

/// Prints the irregularities of an image.
pub(crate) fn notices(common: &Common, notices: &[Notice]) {
    for notice in notices {
        note(common, notice, hints::of_notice(notice));
    }
}

/// Prints what could not be preserved.
pub(crate) fn losses(common: &Common, losses: &[Loss]) {
    for loss in losses {
        let more = if loss.count > loss.examples.len() as u64 { ", …" } else { "" };
        say(
            common,
            format_args!(
                "note: {}: {} {}: {}{more}",
                loss.describe(),
                count(loss.count),
                loss.noun(),
                loss.examples.join(", ")
            ),
        );
    }
}

/// The output for a file name. A terminal is refused: binary data would garble it.
pub(crate) fn destination(file: &Path) -> anyhow::Result<Destination> {
    if file != Path::new("-") {
        return Ok(Destination::File(file.to_owned()));
    }
    refuse_terminal()?;
    Ok(Destination::Stdout)
}

/// Refuses to send bytes to a terminal.
pub(crate) fn refuse_terminal() -> anyhow::Result<()> {
    anyhow::ensure!(
        !std::io::stdout().is_terminal(),
        "standard output is a terminal; redirect it to a file or a program"
    );
    Ok(())
}

/// Prints the JSON document about a file that was made. Where that went to standard output, there is no room for it
/// there.
pub(crate) fn json_beside(file: &Path, value: &impl serde::Serialize) -> anyhow::Result<()> {
    if file != Path::new("-") {
        return json(value);
    }
    let mut err = std::io::stderr().lock();
    Ok(writeln!(err, "{}", escaped_json(serde_json::to_string_pretty(value)?))?)
}
