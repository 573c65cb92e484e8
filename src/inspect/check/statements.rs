//! Compares what the manifest and the configuration state, with each other and with what is known without reading a
//! layer.

use std::collections::HashSet;

use super::{Finding, Rule};
use crate::blob::Compression;
use crate::core::text::counted;
use crate::image::{Config, Image, Layer, Notice, stated_compression};

use super::layers::of_blob;

/// What is wrong with the configuration, and what was found to be odd when the image was opened.
pub(super) fn check(image: &Image) -> Vec<Finding> {
    let mut findings: Vec<Finding> = image.notices.iter().map(of_notice).collect();
    let Some(config) = &image.config else { return findings };
    findings.extend(counts(config, image));
    let mut wrong = |text: String| findings.push(Finding::warning(Rule::Config, text));
    let parsed = &config.parsed;
    if !matches!(parsed.rootfs.kind.as_str(), "" | "layers") {
        wrong(format!("rootfs.type is {:?}, only \"layers\" is defined", parsed.rootfs.kind));
    }
    for (name, value) in [("os", &parsed.os), ("architecture", &parsed.architecture)] {
        if value.is_empty() {
            wrong(format!("{name} is empty"));
        }
    }
    let created = &parsed.created;
    if !created.is_empty() && created.parse::<jiff::Timestamp>().is_err() {
        wrong(format!("created is {created:?}, which is not a date and time as in RFC 3339"));
    }
    let run = &parsed.config;
    let mut names = HashSet::new();
    for variable in &run.env {
        match variable.split_once('=') {
            // Whatever stands there may be a secret.
            Some(("", _)) => wrong("the environment has a value without a name, expected NAME=VALUE".to_owned()),
            None => {
                let start: String = variable.chars().take(4).collect();
                let length = counted(variable.chars().count() as u64, "character", "characters");
                wrong(format!("the environment has {start:?}…, {length}, expected NAME=VALUE"));
            }
            Some((name, _)) if !names.insert(name) => wrong(format!("the environment has {name:?} twice")),
            Some(_) => {}
        }
    }
    let directory = &run.working_dir;
    if !directory.is_empty() && !directory.starts_with('/') {
        wrong(format!("the working directory {directory:?} is not absolute"));
    }
    for volume in run.volumes.iter().filter(|volume| !volume.starts_with('/')) {
        wrong(format!("the volume {volume:?} is not absolute"));
    }
    findings
}

fn of_notice(notice: &Notice) -> Finding {
    let kind = match notice {
        Notice::FileName { .. } => Rule::FileName,
        Notice::NoDiffIds => Rule::Config,
        Notice::MediaType { .. } => Rule::MediaType,
        _ => Rule::Manifest,
    };
    match notice {
        Notice::FileName { .. } | Notice::NotChosen { .. } => Finding::note(kind, notice.to_string()),
        _ => Finding::warning(kind, notice.to_string()),
    }
}

fn counts(config: &Config, image: &Image) -> Vec<Finding> {
    let mut findings = Vec::new();
    let layers = image.layers.len();
    let diff_ids = config.parsed.rootfs.diff_ids.len();
    if diff_ids != layers && !image.notices.contains(&Notice::NoDiffIds) {
        let text = format!(
            "the configuration has {}, the manifest {}",
            counted(diff_ids as u64, "diff_id", "diff_ids"),
            counted(layers as u64, "layer", "layers")
        );
        findings.push(Finding::error(Rule::LayerCount, text));
    }
    let history = &config.parsed.history;
    let lines = history.iter().filter(|line| !line.empty_layer).count();
    if !history.is_empty() && lines != layers {
        let text = format!(
            "the history has {} for layers, the image {}",
            counted(lines as u64, "line", "lines"),
            counted(layers as u64, "layer", "layers")
        );
        findings.push(Finding::warning(Rule::History, text));
    }
    findings
}

/// What is wrong with the layers' files, as far as it shows without reading them: sizes, and how they begin.
pub(super) fn check_blobs(image: &Image) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (index, layer) in image.layers.iter().enumerate() {
        let mut found: Vec<Finding> = Vec::new();
        match layer.blob.check_stated_size().and_then(|()| layer.blob.compression_at_hand()) {
            Err(error) => found.push(of_blob(&error)),
            Ok(Some(compression)) => found.extend(check_media_type(layer, compression)),
            Ok(None) => {}
        }
        findings.extend(found.into_iter().map(|finding| finding.in_layer(index)));
    }
    findings
}

/// A layer that is compressed otherwise than its media type says: tools that go by the type cannot read it.
pub(super) fn check_media_type(layer: &Layer, found: Compression) -> Option<Finding> {
    let media_type = layer.media_type.as_ref()?;
    let stated = stated_compression(media_type).filter(|stated| *stated != found)?;
    let text =
        format!("the media type {media_type:?} states the compression {}, but it is {}", stated.name(), found.name());
    Some(Finding::warning(Rule::MediaType, text))
}
