//! Converts an image configuration into a runtime configuration (image specification, conversion.md).

use super::defaults;
use super::error::BundleError;
use super::options::{Bind, BundleOptions, Confinement, Overrides};
use super::rootfs::Rootfs;
use super::runtime::{Mount, Process, Spec, User};
use super::user::Account;
use crate::core::idmap::IdMaps;
use crate::image::{Config, RunConfig};
use std::collections::BTreeMap;
use std::path::{Component, Path};

/// What the annotations that the specification defines begin with.
const IMAGE: &str = "org.opencontainers.image";
/// Labels by which runc and crun would let an image act on the host: run programs there, or set properties of
/// systemd's.
const UNSAFE: [&str; 3] = ["org.systemd.property.", "org.criu.", "run.oci."];
/// Mounting over these would undo what the default mounts and paths protect.
const NO_VOLUMES: [&str; 3] = ["proc", "sys", "dev"];

/// A runtime configuration, and what of the image is not in it.
#[derive(Debug)]
pub(super) struct Converted {
    pub(super) spec: Spec,
    pub(super) left_out: Vec<String>,
}

/// Converts an image's configuration; an image of bare layers has none. `unified`: whether the host has cgroups of
/// version 2 alone.
pub(super) fn convert(
    image: Option<&Config>,
    rootfs: &Rootfs,
    options: &BundleOptions,
    unified: bool,
) -> Result<Converted, BundleError> {
    let config = &image.map(|image| image.parsed.config.clone()).unwrap_or_default();
    let overrides = &options.overrides;
    let mut left_out = Vec::new();
    let wanted = overrides.user.as_ref().unwrap_or(&config.user);
    let mut account = rootfs.accounts()?.resolve(wanted)?;
    if matches!(options.confinement, Confinement::Rootless(_)) && !account.groups.is_empty() {
        let groups: Vec<String> = account.groups.drain(..).map(|gid| gid.to_string()).collect();
        left_out.push(format!(
            "the supplementary groups {} of user {wanted:?}, which runc cannot set in a rootless container",
            groups.join(", ")
        ));
    }
    check_mapped(&account, &options.confinement)?;

    let mut spec = defaults::spec(&options.confinement, unified)
        .map_err(|source| BundleError::Json { path: "config.json".into(), source })?;
    spec.mounts.extend(volumes(config, rootfs, overrides, &options.confinement, &mut left_out)?);
    for bind in &overrides.binds {
        spec.mounts.push(bind_mount(bind)?);
    }
    set_process(&mut spec.process, config, overrides, account, &mut left_out)?;
    check_directory(&spec.process.cwd, rootfs)?;
    spec.root.readonly = overrides.read_only;
    if let Some(hostname) = &overrides.hostname {
        spec.hostname.clone_from(hostname);
    }
    spec.annotations = annotations(image, config, &mut left_out);
    Ok(Converted { spec, left_out })
}

/// A configuration as it is written, its keys in order.
pub(super) fn to_json(spec: &Spec) -> Result<Vec<u8>, serde_json::Error> {
    let mut text = serde_json::to_vec_pretty(&serde_json::to_value(spec)?)?;
    text.push(b'\n');
    Ok(text)
}

fn check_mapped(account: &Account, confinement: &Confinement) -> Result<(), BundleError> {
    let Some(maps) = confinement.maps() else {
        return Ok(());
    };
    let groups = account.groups.iter().chain([&account.gid]).map(|&gid| ("group", gid, &maps.gids));
    for (what, id, map) in groups.chain([("user", account.uid, &maps.uids)]) {
        if map.outside(id).is_none() {
            return Err(BundleError::NotMapped { id: format!("{what} {id}"), map: map.clone() });
        }
    }
    Ok(())
}

fn set_process(
    process: &mut Process,
    config: &RunConfig,
    overrides: &Overrides,
    account: Account,
    left_out: &mut Vec<String>,
) -> Result<(), BundleError> {
    let args = arguments(config, overrides);
    match args.first().map(String::as_str) {
        None if overrides.entrypoint.is_some() => return Err(BundleError::EntrypointOnly),
        None => return Err(BundleError::NoCommand),
        Some("") => return Err(BundleError::EmptyProgram),
        Some(_) => {}
    }
    if let Some(argument) = args.iter().find(|argument| argument.contains('\0')) {
        return Err(BundleError::Nul { what: "the argument", text: argument.clone() });
    }
    let cwd = match (&overrides.cwd, &config.working_dir) {
        (Some(cwd), _) if !cwd.starts_with('/') => {
            return Err(BundleError::Relative { what: "the working directory", path: cwd.clone() });
        }
        (Some(cwd), _) => cwd.clone(),
        (None, cwd) if cwd.starts_with('/') => cwd.clone(),
        // Runtimes want an absolute one; engines take a relative one from the root.
        (None, cwd) => format!("/{cwd}"),
    };
    if cwd.contains('\0') {
        return Err(BundleError::Nul { what: "the working directory", text: cwd });
    }
    process.args = args;
    process.env = environment(config, overrides, &account, left_out);
    process.cwd = cwd;
    process.user = User { uid: account.uid, gid: account.gid, additional_gids: account.groups };
    process.terminal = overrides.terminal;
    Ok(())
}

/// A runtime makes a directory that is missing, but cannot do anything about a file in its place.
fn check_directory(cwd: &str, rootfs: &Rootfs) -> Result<(), BundleError> {
    match rootfs.status(cwd)? {
        Some(status) if !status.is_directory => Err(BundleError::NotADirectory { path: cwd.to_owned() }),
        _ => Ok(()),
    }
}

fn arguments(config: &RunConfig, overrides: &Overrides) -> Vec<String> {
    let entrypoint = match &overrides.entrypoint {
        // An empty one is none, as engines have it: it takes away the image's.
        Some(program) if program.is_empty() => Vec::new(),
        Some(program) => vec![program.clone()],
        None if matches!(&config.entrypoint[..], [only] if only.is_empty()) => Vec::new(),
        None => config.entrypoint.clone(),
    };
    let rest = match (&overrides.arguments, &overrides.entrypoint) {
        (Some(arguments), _) => arguments.clone(),
        (None, Some(_)) => Vec::new(),
        (None, None) => config.cmd.clone(),
    };
    [entrypoint, rest].concat()
}

/// The image's variables, then those that it leaves to us. Each is there once, with its last value: programs disagree
/// on which of two counts. What is not a variable is left out: runtimes refuse it, or pass on what no program can read.
fn environment(
    config: &RunConfig,
    overrides: &Overrides,
    account: &Account,
    left_out: &mut Vec<String>,
) -> Vec<String> {
    let mut environment: Vec<String> = Vec::new();
    let has = |environment: &[String], name: &str| {
        environment.iter().position(|line| line.split_once('=').is_some_and(|(known, _)| known == name))
    };
    let mut set = |name: &str, value: &str| {
        let line = format!("{name}={value}");
        match has(&environment, name) {
            Some(index) => environment[index] = line,
            None => environment.push(line),
        }
    };
    for line in &config.env {
        match line.split_once('=') {
            Some((name, value)) if !name.is_empty() && !line.contains('\0') => set(name, value),
            _ => left_out.push(format!("the entry {line:?} of Env, which is not NAME=VALUE")),
        }
    }
    for (name, value) in &overrides.environment {
        set(name, value);
    }
    let mut ours = vec![("PATH", defaults::PATH), ("HOME", &account.home)];
    if overrides.terminal {
        ours.push(("TERM", "xterm"));
    }
    for (name, value) in ours {
        if has(&environment, name).is_none() {
            environment.push(format!("{name}={value}"));
        }
    }
    environment
}

/// The image's volumes: memory that begins with what the image has there, since what is written into them is not to
/// become part of the root file system.
fn volumes(
    config: &RunConfig,
    rootfs: &Rootfs,
    overrides: &Overrides,
    confinement: &Confinement,
    left_out: &mut Vec<String>,
) -> Result<Vec<Mount>, BundleError> {
    let mut mounts = Vec::new();
    for volume in &config.volumes {
        let parts: Vec<Component<'_>> = Path::new(volume).components().skip(1).collect();
        let first = parts.first().map(|part| part.as_os_str());
        let plain = parts.iter().all(|part| matches!(part, Component::Normal(_)));
        let allowed = first.is_some_and(|first| !NO_VOLUMES.iter().any(|name| first == *name));
        if !volume.starts_with('/') || !plain || !allowed {
            left_out.push(format!("the volume {volume:?}, which a runtime could not mount safely"));
            continue;
        }
        if overrides.binds.iter().any(|bind| Path::new(&bind.destination) == Path::new(volume)) {
            continue;
        }
        let mut options = ["rw", "nosuid", "nodev", "tmpcopyup"].map(str::to_owned).to_vec();
        match rootfs.status(volume)? {
            Some(status) => {
                options.push(format!("mode={:o}", status.mode));
                let mapped =
                    |maps: &IdMaps| maps.uids.outside(status.uid).is_some() && maps.gids.outside(status.gid).is_some();
                if confinement.maps().is_none_or(mapped) {
                    options.extend([format!("uid={}", status.uid), format!("gid={}", status.gid)]);
                }
            }
            None => options.push("mode=755".to_owned()),
        }
        mounts.push(Mount::new(volume, "tmpfs", "tmpfs", options));
    }
    Ok(mounts)
}

fn bind_mount(bind: &Bind) -> Result<Mount, BundleError> {
    // Relative to us it would be relative to the bundle for a runtime.
    let source = bind.source.canonicalize().map_err(|source| BundleError::File {
        action: "bind",
        path: bind.source.clone(),
        source,
    })?;
    let access = if bind.read_only { "ro" } else { "rw" };
    let options = vec!["rbind".to_owned(), access.to_owned()];
    // What is not UTF-8 has no place in JSON.
    let source = source.into_os_string().into_string().map_err(|source| BundleError::File {
        action: "bind",
        path: source.into(),
        source: std::io::Error::other("its name is not UTF-8, which the runtime configuration cannot hold"),
    })?;
    Ok(Mount::new(&bind.destination, "bind", &source, options))
}

/// The image's labels, which come first, and what the specification makes of its other fields.
fn annotations(image: Option<&Config>, config: &RunConfig, left_out: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut annotations = BTreeMap::new();
    for (name, value) in &config.labels {
        if name.is_empty() || UNSAFE.iter().any(|prefix| name.starts_with(prefix)) {
            left_out.push(format!("the label {name:?}, by which a runtime would act on this machine"));
        } else {
            annotations.insert(name.clone(), value.clone());
        }
    }
    let mut implicit = |name: &str, value: &str| {
        if !value.is_empty() {
            annotations.entry(format!("{IMAGE}.{name}")).or_insert(value.to_owned());
        }
    };
    if let Some(image) = image.map(|image| &image.parsed) {
        implicit("os", &image.os);
        implicit("architecture", &image.architecture);
        implicit("variant", &image.variant);
        implicit("os.version", &image.os_version);
        implicit("os.features", &image.os_features.join(","));
        implicit("author", &image.author);
        implicit("created", &image.created);
    }
    implicit("stopSignal", &config.stop_signal);
    implicit("exposedPorts", &config.exposed_ports.iter().map(String::as_str).collect::<Vec<_>>().join(","));
    annotations
}
