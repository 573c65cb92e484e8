//! `layflat waste`

use clap::Args;
use layflat::Cancel;
use layflat::core::text::Printable;
use layflat::inspect::{Reason, Traced, WastedFile};
use serde_json::{Value, json};

use super::arguments::{Common, LookArgs};
use super::output::{Colour, painted};
use super::table::{bytes, columns};
use super::{SUCCESS, output};

/// Show bytes that are shipped but replaced or deleted later, or duplicated
///
/// Lists files that later layers replace or delete, and files with the same content as another file, largest first.
/// Sizes are of the content before compression.
#[derive(Debug, Args)]
pub(crate) struct Waste {
    #[command(flatten)]
    look: LookArgs,
    /// List the N largest files (0: all)
    #[arg(long, value_name = "N", default_value_t = 20)]
    top: usize,
}

impl Waste {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let looked = self.look.look(common, cancel)?;
        let traced = Traced::new(&looked.image, &looked.indexes, &looked.options)?;
        let waste = traced.waste();
        let listed = if self.top == 0 { waste.files.len() } else { self.top.min(waste.files.len()) };
        if common.json {
            let tagged = |kind: &str, value: Value| {
                let mut tagged = json!({"kind": kind});
                if let (Some(tagged), Value::Object(fields)) = (tagged.as_object_mut(), value) {
                    tagged.extend(fields);
                }
                tagged
            };
            let layers = waste.layers.iter().map(|layer| Ok(tagged("layer", serde_json::to_value(layer)?)));
            let files = waste.files[..listed].iter().map(|file| Ok(tagged("file", serde_json::to_value(file)?)));
            output::json_lines(layers.chain(files).collect::<Result<Vec<_>, serde_json::Error>>()?)?;
            return Ok(SUCCESS);
        }
        let head = ["layer", "size", "wasted", "replaced", "deleted", "duplicated", "files", ""];
        let mut rows = vec![head.map(str::to_owned).to_vec()];
        for layer in &waste.layers {
            let created_by = layer.created_by.as_deref().unwrap_or_default();
            let sizes = [layer.shipped, layer.wasted, layer.replaced, layer.deleted, layer.duplicated];
            let mut row = vec![layer.layer.to_string()];
            row.extend(sizes.map(bytes));
            row.push(super::table::count(layer.files));
            row.push(Printable(created_by.as_bytes()).to_string());
            rows.push(row);
        }
        let mut lines = columns(&rows, &[0, 1, 2, 3, 4, 5, 6]);
        if listed > 0 {
            lines.push(String::new());
            let rows: Vec<Vec<String>> = waste.files[..listed].iter().map(row).collect();
            lines.extend(columns(&rows, &[0, 1]));
        }
        output::lines(lines)?;
        if listed < waste.files.len() {
            let more = super::table::count((waste.files.len() - listed) as u64);
            output::say(common, format_args!("{more} more: --top 0 lists all"));
        }
        Ok(SUCCESS)
    }
}

fn row(file: &WastedFile) -> Vec<String> {
    let reason = match &file.reason {
        Reason::Replaced { by } => painted(format_args!("replaced by layer {by}"), Colour::Yellow),
        Reason::Deleted { by } => painted(format_args!("deleted by layer {by}"), Colour::Red),
        Reason::Duplicated { of } => format!("same as {of}"),
    };
    vec![bytes(file.bytes), file.layer.to_string(), file.path.to_string(), reason]
}
