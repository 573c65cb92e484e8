//! The words of a command line, as far as they are there.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};

use clap::{Arg, Command, ValueHint};

use super::{files, image};

/// What the user has said so far.
pub(super) struct Line<'c> {
    command: &'c Command,
    /// Values, by the options and arguments that they are of.
    values: Vec<(&'c Arg, &'c OsStr)>,
    /// How many words are no options.
    positionals: usize,
    /// Whether `--` was among them.
    is_escaped: bool,
    /// An option that waits for its value.
    pending: Option<&'c Arg>,
}

/// What the last word can be.
pub(super) fn candidates(command: &Command, before: &[OsString], last: &OsStr) -> Vec<String> {
    let line = Line::read(command, before);
    let Some(word) = last.to_str() else { return Vec::new() };
    let mut found = match line.pending {
        Some(option) => line.values(option, word),
        None if !line.is_escaped && word.starts_with("--") && word.contains('=') => line.value_of_option(word),
        None if !line.is_escaped && word.starts_with('-') => line.options(word),
        None => line.arguments(word),
    };
    found.retain(|candidate| !candidate.contains('\n'));
    found
}

impl<'c> Line<'c> {
    fn read(command: &'c Command, words: &'c [OsString]) -> Self {
        let mut line = Self { command, values: Vec::new(), positionals: 0, is_escaped: false, pending: None };
        for word in words {
            line.word(word);
        }
        line
    }

    fn word(&mut self, word: &'c OsStr) {
        if let Some(option) = self.pending.take() {
            return self.values.push((option, word));
        }
        let text = word.to_str().unwrap_or_default();
        match text.strip_prefix("--") {
            _ if self.is_escaped => {}
            Some("") => return self.is_escaped = true,
            Some(long) => {
                let (name, value) = match long.split_once('=') {
                    Some((name, value)) => (name, Some(value)),
                    None => (long, None),
                };
                return self.option(self.long(name), value);
            }
            None if text.len() > 1 && text.starts_with('-') => return self.shorts(&text[1..]),
            None => {}
        }
        if self.positionals == 0
            && let Some(command) = self.command.find_subcommand(text)
        {
            return self.command = command;
        }
        if let Some(argument) = self.positionals_at(self.positionals).first() {
            self.values.push((argument, word));
        }
        self.positionals += 1;
    }

    fn option(&mut self, option: Option<&'c Arg>, value: Option<&'c str>) {
        let Some(option) = option.filter(|option| option.get_action().takes_values()) else { return };
        match value {
            Some(value) => self.values.push((option, OsStr::new(value))),
            None if option.is_require_equals_set() => {}
            None => self.pending = Some(option),
        }
    }

    /// Letters, of which the first that takes a value has the rest for it.
    fn shorts(&mut self, letters: &'c str) {
        for (at, letter) in letters.char_indices() {
            let Some(option) = self.command.get_arguments().find(|option| option.get_short() == Some(letter)) else {
                return;
            };
            if option.get_action().takes_values() {
                let rest = &letters[at + letter.len_utf8()..];
                return self.option(Some(option), (!rest.is_empty()).then_some(rest));
            }
        }
    }

    fn long(&self, name: &str) -> Option<&'c Arg> {
        self.command.get_arguments().find(|option| option.get_long() == Some(name))
    }

    /// The arguments that may stand in a place: where one takes any number of words, those behind it, too.
    fn positionals_at(&self, place: usize) -> Vec<&'c Arg> {
        let all: Vec<&Arg> = self.command.get_positionals().collect();
        let is_several = |argument: &Arg| argument.get_num_args().is_some_and(|count| count.max_values() > 1);
        match all.iter().position(|argument| is_several(argument)) {
            Some(several) if place > several => all[several..].to_vec(),
            _ => all.get(place).into_iter().copied().collect(),
        }
    }

    /// What was given for an option or an argument.
    pub(super) fn given(&self, id: &str) -> Option<&'c OsStr> {
        self.values.iter().find(|(argument, _)| argument.get_id() == id).map(|&(_, value)| value)
    }

    fn options(&self, word: &str) -> Vec<String> {
        let visible = self.command.get_arguments().filter(|option| !option.is_hide_set());
        let named = visible.filter_map(|option| {
            let name = format!("--{}", option.get_long()?);
            let takes = if option.is_require_equals_set() && option.get_num_args().is_some_and(|n| n.min_values() > 0) {
                "="
            } else {
                ""
            };
            name.starts_with(word).then(|| described(&format!("{name}{takes}"), option.get_help()))
        });
        named.collect()
    }

    fn value_of_option(&self, word: &str) -> Vec<String> {
        let Some((name, value)) = word.split_once('=') else { return Vec::new() };
        let Some(option) = self.long(name.trim_start_matches('-')) else { return Vec::new() };
        self.values(option, value).iter().map(|value| format!("{name}={value}")).collect()
    }

    fn arguments(&self, word: &str) -> Vec<String> {
        let mut found = Vec::new();
        if self.positionals == 0 && !self.is_escaped {
            let visible = self.command.get_subcommands().filter(|command| !command.is_hide_set());
            let named = visible.filter(|command| command.get_name().starts_with(word));
            found.extend(named.map(|command| described(command.get_name(), command.get_about())));
        }
        for argument in self.positionals_at(self.positionals) {
            for value in self.values(argument, word) {
                if !found.contains(&value) {
                    found.push(value);
                }
            }
        }
        found
    }

    /// What a value can be.
    fn values(&self, argument: &Arg, word: &str) -> Vec<String> {
        let possible = argument.get_possible_values();
        if !possible.is_empty() {
            let visible = possible.iter().filter(|value| !value.is_hide_set() && value.get_name().starts_with(word));
            return visible.map(|value| described(value.get_name(), value.get_help())).collect();
        }
        let name = argument.get_value_names().and_then(|names| names.first()).map_or("", |name| name.as_str());
        match (name, argument.get_id().as_str()) {
            ("IMAGE" | "SRC" | "DST" | "SOURCE" | "A" | "B" | "IMAGE2" | "image2", _) => image::names(word),
            ("IMAGE:PATH", _) => image::names_and_paths(self, word),
            ("N" | "N[,M]", "layer" | "changed_by") => image::layers(self, word),
            (_, "path") => image::paths(self, word),
            _ if matches!(argument.get_value_hint(), ValueHint::Unknown | ValueHint::Other) => Vec::new(),
            _ => files::matching(word),
        }
    }
}

/// A candidate and the first line of what there is to say of it.
fn described(candidate: &str, help: Option<&clap::builder::StyledStr>) -> String {
    let help = help.map(ToString::to_string).unwrap_or_default();
    match help.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => format!("{candidate}\t{line}"),
        None => candidate.to_owned(),
    }
}

/// A word as the shell would hand it over, were it finished: some shells complete it as it is written.
pub(super) fn unquoted(word: &OsStr) -> OsString {
    let mut bytes = word.as_bytes().iter().copied().peekable();
    let mut out = Vec::new();
    let mut quote = None;
    while let Some(byte) = bytes.next() {
        match (byte, quote) {
            (b'\\', None) => out.extend(bytes.next()),
            (b'\\', Some(b'"')) if bytes.peek().is_some_and(|next| b"\"\\$`".contains(next)) => {
                out.extend(bytes.next())
            }
            (b'"' | b'\'', None) => quote = Some(byte),
            (byte, Some(open)) if byte == open => quote = None,
            (byte, _) => out.push(byte),
        }
    }
    OsString::from_vec(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complete(words: &[&str]) -> Vec<String> {
        let mut command = crate::cli::command();
        command.build();
        let words: Vec<OsString> = words.iter().map(OsString::from).collect();
        let (last, before) = words.split_last().unwrap();
        let plain = |candidate: String| candidate.split('\t').next().unwrap_or_default().to_owned();
        candidates(&command, before, last).into_iter().map(plain).collect()
    }

    #[test]
    fn commands_options_and_their_values() {
        assert_eq!(complete(&["fla"]), ["flatten"]);
        assert_eq!(complete(&["cache", "p"]), ["prune"]);
        assert_eq!(complete(&["run-"]), [""; 0], "what is hidden stays so");
        assert_eq!(complete(&["flatten", "--comp"]), ["--compression"]);
        assert_eq!(complete(&["flatten", "--compression", "l"]), ["lz4"]);
        assert_eq!(complete(&["flatten", "--compression=z"]), ["--compression=zstd"]);
        assert!(complete(&["flatten", "-o", "--to", "ex", "--qui"]).contains(&"--quiet".to_owned()));
        assert_eq!(complete(&["ls", "--", "--lo"]), [""; 0]);
    }

    #[test]
    fn a_word_that_is_still_quoted_counts_as_what_it_says() {
        for (written, meant) in
            [("a\\ b", "a b"), ("\"a b", "a b"), ("'a\\b'c", "a\\bc"), ("\"a\\\"b\\c", "a\"b\\c"), ("", "")]
        {
            assert_eq!(unquoted(OsStr::new(written)), meant);
        }
    }
}
