//! The exit codes, in one place: what `main` returns and the manual pages state.

/// Success, or equality.
pub(crate) const SUCCESS: u8 = 0;
/// Any failure; for commands that decide, "no": trees differ, the image is not sound or wastes too much.
pub(crate) const FAILURE: u8 = 1;
/// Invalid arguments; for commands that decide, any error.
pub(crate) const TROUBLE: u8 = 2;
/// Any error of `run` itself, as Docker and Podman have it.
pub(crate) const NOT_STARTED: u8 = 125;
/// What `unshare` or `run` was to run is there, and cannot be run.
pub(crate) const NOT_RUN: u8 = 126;
/// What `unshare` or `run` was to run is not there.
pub(crate) const NOT_FOUND: u8 = 127;

/// The codes of a command, with what each means. `layflat cache verify` is `verify` here.
pub(crate) fn codes(command: &str) -> Vec<(u8, &'static str)> {
    if command == "run" {
        return vec![
            (
                SUCCESS,
                "The command succeeded. With any other code, or with 128 and the number of a signal, it ended itself.",
            ),
            (NOT_STARTED, "Invalid arguments, or any other failure of layflat itself."),
            (NOT_RUN, "The command cannot be run."),
            (NOT_FOUND, "The command is not found."),
        ];
    }
    let (success, failure) = match command {
        "diff" => ("The two are equal.", "They differ."),
        "check" => (
            "There is no finding as bad as --fail-on says; without it, no error.",
            "There is such a finding, or the image cannot be opened as an image.",
        ),
        "waste" => (
            "Nothing is wasted that is not allowed.",
            "More is wasted than --max-wasted or --max-wasted-percent allows.",
        ),
        "grep" => ("Something matches.", "Nothing matches."),
        "find" => ("Something is found.", "Nothing is found, or any other failure."),
        "verify" => ("Everything is as its digest says, or was repaired.", "Something is damaged."),
        "unshare" => {
            ("The command succeeded.", "A namespace or a mount cannot be made, or the command failed with this code.")
        }
        _ => (
            "Success.",
            "Failure. One line on standard error says what, where and what to do; nothing half-made stays.",
        ),
    };
    let trouble = if decides(command) { "Invalid arguments, or any other failure." } else { "Invalid arguments." };
    let mut codes = vec![(SUCCESS, success), (FAILURE, failure), (TROUBLE, trouble)];
    if command == "unshare" {
        codes.push((NOT_RUN, "The command cannot be run."));
        codes.push((NOT_FOUND, "The command is not found."));
    }
    codes
}

/// Whether a command answers by its code.
pub(crate) fn decides(command: &str) -> bool {
    matches!(command, "diff" | "check" | "waste" | "verify" | "grep")
}
