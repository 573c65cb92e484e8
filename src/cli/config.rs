//! `layflat config`

use std::ffi::OsString;

use clap::{Args, Subcommand};
use layflat::Cancel;

use super::arguments::Common;
use super::edit::{EditArgs, Layers};

/// Change the configuration of an image
///
/// `layflat inspect --config IMAGE` prints it.
#[derive(Debug, Args)]
pub(crate) struct Config {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    Set(Set),
}

/// Change the configuration of an image: entrypoint, environment, labels, user, …
///
/// The new image goes to DST, any destination of `layflat copy`; IMAGE stays as it is. What no option names stays as it
/// was written, and no layer is changed. Images for several platforms need --platform or --all-platforms.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  layflat config set app.tar oci:layout:app --cmd sh --cmd -c --cmd 'exec /app'
  layflat config set --env LANG=C.UTF-8 --unset-env DEBUG --label version=1.4 docker://localhost:5000/app:1 docker://localhost:5000/app:2
  layflat inspect --config oci:layout:app                                      # print it")]
struct Set {
    /// The image; `layflat --help` lists all forms of its name
    #[arg(value_name = "IMAGE")]
    image: OsString,
    /// The destination, as for `layflat copy`
    #[arg(value_name = "DST")]
    destination: OsString,
    #[command(flatten)]
    edit: EditArgs,
}

impl Config {
    pub(crate) fn run(&self, common: &Common, cancel: &Cancel) -> anyhow::Result<u8> {
        let ConfigCommand::Set(set) = &self.command;
        anyhow::ensure!(
            !set.edit.changes.is_empty()?,
            "nothing to change was given; `layflat config set --help` lists the options, and `layflat copy` copies an image as it is"
        );
        let none = Layers { compression: None, make: &|_| Ok(Vec::new()) };
        set.edit.run((&set.image, &set.destination), &none, common, cancel)
    }
}
