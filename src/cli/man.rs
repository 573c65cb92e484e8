//! `layflat man`

use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args, Command};
use clap_mangen::Man as Page;
use clap_mangen::roff::{Inline, Roff, bold, italic, roman};

use super::SUCCESS;
use super::arguments::Common;
use super::exit::codes;
use super::made::Made;

/// Write the man pages, one per command, into a directory
#[derive(Debug, Args)]
pub(crate) struct Man {
    /// The directory; it is created if it is missing
    dir: PathBuf,
}

impl Man {
    pub(crate) fn run(&self, command: &Command, common: &Common) -> anyhow::Result<u8> {
        let mut command = command.clone().disable_help_subcommand(true);
        command.build();
        let pages = std::fs::create_dir_all(&self.dir)
            .and_then(|()| write(&command, &[], &self.dir))
            .with_context(|| format!("cannot write man pages into {:?}", self.dir))?;
        Made::at(&self.dir).count(pages, "page", "pages").say(common, "");
        Ok(SUCCESS)
    }
}

/// Variables that are read, and what for.
const ENVIRONMENT: [(&str, &str); 12] = [
    ("XDG_CACHE_HOME", "The cache is in layflat there; in ~/.cache without it."),
    (
        "REGISTRY_AUTH_FILE, DOCKER_CONFIG",
        "Where credentials for registries are, as podman login and docker login write them.",
    ),
    ("CONTAINERS_REGISTRIES_CONF", "A file in place of registries.conf and registries.conf.d."),
    (
        "HTTPS_PROXY, HTTP_PROXY, ALL_PROXY, NO_PROXY",
        "Proxies for registries, as Go programs read them; ALL_PROXY may be a SOCKS proxy.",
    ),
    ("SSL_CERT_FILE, SSL_CERT_DIR", "Certificates to trust in place of the system's."),
    ("DOCKER_HOST, DOCKER_CONTEXT, CONTAINER_HOST", "The engine of docker-daemon: images."),
    ("DOCKER_TLS_VERIFY, DOCKER_CERT_PATH", "How a connection to it by TCP is protected."),
    ("XDG_RUNTIME_DIR", "Where the sockets and the login files of rootless engines are."),
    ("XDG_CONFIG_HOME, HOME", "Where the user's own configuration is."),
    (
        "SOURCE_DATE_EPOCH",
        "The time for --normalize-timestamps and --clamp-timestamps without a number, and in file system images.",
    ),
    ("NO_COLOR", "No colours, if it is not empty."),
    ("SHELL", "What unshare runs if no command is given."),
];

/// Files that are read or written, and what for.
const FILES: [(&str, &str); 7] = [
    (".layflat.toml", "In the working directory: the rules of a repository for check, waste and report."),
    ("~/.cache/layflat", "Blobs, indexes and unpacked layers; layflat cache lists and prunes them."),
    (
        "/etc/containers/registries.conf, registries.conf.d, ~/.config/containers/registries.conf",
        "Mirrors, and insecure and blocked registries.",
    ),
    ("/etc/containers/policy.json, ~/.config/containers/policy.json", "Which images may be used."),
    ("${XDG_RUNTIME_DIR}/containers/auth.json, ~/.docker/config.json", "Credentials for registries."),
    ("/etc/containers/certs.d, /etc/docker/certs.d, ~/.config/containers/certs.d", "Certificates for each registry."),
    ("/etc/subuid, /etc/subgid", "The ids that an ordinary user may use in a user namespace."),
];

/// The files of the rules alone.
const RULES: usize = 1;

/// Writes a command's page, and those of its own commands; how many they are.
fn write(command: &Command, siblings: &[String], directory: &Path) -> std::io::Result<u64> {
    let mut pages = 1;
    let own: Vec<String> =
        command.get_subcommands().filter(|own| !own.is_hide_set()).map(|own| page_name(own).to_owned()).collect();
    for subcommand in command.get_subcommands().filter(|own| !own.is_hide_set()) {
        let parent = page_name(command).to_owned();
        let others = own.iter().filter(|name| *name != page_name(subcommand)).cloned();
        // The pages of all commands are a list; those of one command's parts are few.
        let near: Vec<String> =
            if siblings.is_empty() { vec![parent] } else { [vec![parent], others.collect()].concat() };
        pages += write(subcommand, &near, directory)?;
    }
    let page = Page::new(command.clone()).manual("layflat");
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::default();
    let help = command.get_after_long_help().or(command.get_after_help()).map(ToString::to_string).unwrap_or_default();
    for (heading, lines) in parts(&help) {
        roff.control("SH", [heading]);
        roff.control("nf", []);
        for line in lines {
            roff.text([roman(line)]);
        }
        roff.control("fi", []);
    }
    roff.control("SH", ["EXIT STATUS"]);
    terms(&mut roff, codes(command.get_name()).iter().map(|(code, meaning)| (bold(code.to_string()), *meaning)));
    roff.control("PP", []);
    roff.text([roman(
        "After SIGINT, SIGTERM or SIGHUP it cleans up and dies of that signal; if its output is closed, of SIGPIPE.",
    )]);
    let names = |&(name, meaning): &(&'static str, &'static str)| (bold(name), meaning);
    let works = has_work(command);
    if works {
        roff.control("SH", ["ENVIRONMENT"]);
        terms(&mut roff, ENVIRONMENT.iter().map(names));
        roff.control("SH", ["FILES"]);
        let obeys_rules = siblings.is_empty() || matches!(command.get_name(), "check" | "waste");
        let files = FILES.iter().skip(if obeys_rules { 0 } else { RULES });
        terms(&mut roff, files.map(|&(name, meaning)| (italic(name), meaning)));
    }
    roff.control("SH", ["SEE ALSO"]);
    roff.text(see_also(if siblings.is_empty() { &own } else { siblings }));
    roff.to_writer(&mut text)?;
    std::fs::write(directory.join(page.get_filename()), text)?;
    Ok(pages)
}

fn page_name(command: &Command) -> &str {
    command.get_display_name().unwrap_or(command.get_name())
}

/// Whether a command reads images, registries or the cache.
fn has_work(command: &Command) -> bool {
    !matches!(command.get_name(), "completions" | "man" | "umount")
}

/// A list of terms.
fn terms<'t>(roff: &mut Roff, terms: impl Iterator<Item = (Inline, &'t str)>) {
    for (term, meaning) in terms {
        roff.control("TP", []);
        roff.text([term]);
        roff.text([roman(meaning)]);
    }
}

/// "layflat(1), layflat-ls(1)".
fn see_also(pages: &[String]) -> Vec<Inline> {
    let mut line = Vec::new();
    for page in pages {
        if !line.is_empty() {
            line.push(roman(", "));
        }
        line.extend([bold(page.as_str()), roman("(1)")]);
    }
    line
}

/// The help behind the options: examples, and in the program's own page the names of images. What has a section of its
/// own in every page is left out.
fn parts(help: &str) -> Vec<(&'static str, Vec<&str>)> {
    let mut parts: Vec<(&'static str, Vec<&str>)> = Vec::new();
    let mut is_elsewhere = false;
    for line in help.lines() {
        let heading = match line {
            "Examples" | "Examples:" | "Example" | "Example:" => Some("EXAMPLES"),
            "IMAGE is one of" => Some("IMAGES"),
            _ => None,
        };
        is_elsewhere |= line.starts_with("Configuration") || line == "Exit status";
        match (heading, parts.last_mut()) {
            (Some(heading), _) => {
                is_elsewhere = false;
                parts.push((heading, Vec::new()));
            }
            (None, Some((_, lines))) if !is_elsewhere => lines.push(line),
            _ => {}
        }
    }
    for (_, lines) in &mut parts {
        while lines.last().is_some_and(|line| line.is_empty()) {
            lines.pop();
        }
    }
    parts
}
