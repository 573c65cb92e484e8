//! The short help of each command fits one screen: what many commands have in common is folded away and only named.

use clap::Command;

/// Hides from `-h` the options that stand under a heading of their own, of this command and all below it.
pub(crate) fn folded(command: Command) -> Command {
    let mut headings: Vec<String> = Vec::new();
    let mut command = command.mut_args(|argument| {
        let Some(heading) = argument.get_help_heading().map(str::to_owned) else { return argument };
        if !headings.contains(&heading) {
            headings.push(heading);
        }
        argument.hide_short_help(true)
    });
    let short = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    if !headings.is_empty() && command.get_after_long_help().is_none() {
        let gap = if short.is_empty() { "" } else { "\n\n" };
        let more = format!("{short}{gap}More options with --help: {}", headings.join("; ").to_lowercase());
        // Without an own text the long help has the short one's.
        command = command.after_long_help(short).after_help(more);
    }
    let names: Vec<String> = command.get_subcommands().map(|command| command.get_name().to_owned()).collect();
    names.into_iter().fold(command, |command, name| command.mut_subcommand(name, folded))
}
