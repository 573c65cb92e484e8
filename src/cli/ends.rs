//! Options for one end of a copy only: `--src-…` and `--dest-…`. An option without a prefix applies to both ends.

use std::path::PathBuf;

use clap::Args;
use layflat::Cancel;
use layflat::core::reference::{Platform, Reference};
use layflat::net::registry::{ClientCertificate, Credentials, End, RegistryOptions};
use layflat::transport::source;

use super::arguments::{OpenArgs, RemoteArgs, password_file, password_stdin};
use super::hints;

const ENDS: &str = "Options for SRC or DST only";

/// Options that were given for one end; for all others those of both ends apply.
struct Given<'a> {
    end: End,
    username: Option<&'a str>,
    password_stdin: bool,
    password_file: Option<&'a PathBuf>,
    authfile: Option<&'a PathBuf>,
    ca_cert: &'a [PathBuf],
    client_certificate: Option<ClientCertificate>,
    tls_verify: Option<bool>,
    plain_http: Option<bool>,
}

/// The options of one end.
macro_rules! end {
    ($name:ident, $prefix:literal, $what:literal, $end:expr) => {
        #[doc = concat!("Options for the ", $what, " only.")]
        #[derive(Debug, Args)]
        pub(crate) struct $name {
            #[arg(help_heading = ENDS, hide_short_help = true, id = concat!($prefix, "username"), long, value_name = "NAME",
                help = concat!("User name for the ", $what))]
            username: Option<String>,
            #[arg(help_heading = ENDS, hide_short_help = true, id = concat!($prefix, "password-stdin"), long, requires = concat!($prefix, "username"),
                conflicts_with_all = ["password_stdin", concat!($prefix, "password-file")],
                help = "Read its password from standard input")]
            password_stdin: bool,
            #[arg(help_heading = ENDS, hide_short_help = true, id = concat!($prefix, "password-file"), long, value_name = "FILE", requires = concat!($prefix, "username"),
                help = "Read its password from this file")]
            password_file: Option<PathBuf>,
            #[arg(help_heading = ENDS, hide_short_help = true, id = concat!($prefix, "authfile"), long, value_name = "FILE",
                help = "Its credentials file")]
            authfile: Option<PathBuf>,
            #[arg(help_heading = ENDS, hide_short_help = true, id = concat!($prefix, "ca-cert"), long, value_name = "FILE",
                help = "Additional CA certificate to trust (PEM)")]
            ca_cert: Vec<PathBuf>,
            #[arg(help_heading = ENDS, hide_short_help = true, id = concat!($prefix, "cert"), long, value_name = "FILE", requires = concat!($prefix, "key"),
                help = "Client certificate (PEM)")]
            cert: Option<PathBuf>,
            #[arg(help_heading = ENDS, hide_short_help = true, id = concat!($prefix, "key"), long, value_name = "FILE", requires = concat!($prefix, "cert"),
                help = concat!("Private key of --", $prefix, "cert (PEM)"))]
            key: Option<PathBuf>,
            #[arg(help_heading = ENDS, hide_short_help = true, id = concat!($prefix, "tls-verify"), long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
                default_missing_value = "true", hide_possible_values = true, help = "Verify its TLS certificate; =false accepts any certificate")]
            tls_verify: Option<bool>,
            #[arg(help_heading = ENDS, hide_short_help = true, id = concat!($prefix, "plain-http"), long, value_name = "BOOL", num_args = 0..=1, require_equals = true,
                default_missing_value = "true", hide_possible_values = true, help = "Use HTTP instead of HTTPS")]
            plain_http: Option<bool>,
        }

        impl $name {
            fn given(&self) -> Given<'_> {
                Given {
                    end: $end,
                    username: self.username.as_deref(),
                    password_stdin: self.password_stdin,
                    password_file: self.password_file.as_ref(),
                    authfile: self.authfile.as_ref(),
                    ca_cert: &self.ca_cert,
                    client_certificate: self.cert.clone().zip(self.key.clone()).map(|(certificate, key)| ClientCertificate { certificate, key }),
                    tls_verify: self.tls_verify,
                    plain_http: self.plain_http,
                }
            }
        }
    };
}

end!(SourceArgs, "src-", "registry of SRC", End::Source);
end!(DestinationArgs, "dest-", "registry of DST", End::Destination);

/// The settings of both ends.
#[derive(Debug, Args)]
pub(crate) struct EndsArgs {
    #[command(flatten)]
    source: SourceArgs,
    #[command(flatten)]
    destination: DestinationArgs,
    /// The same as --platform: the platform to select from SRC
    #[arg(help_heading = ENDS, hide_short_help = true, long, value_name = "PLATFORM", conflicts_with = "platform")]
    src_platform: Option<Platform>,
}

impl EndsArgs {
    /// How SRC is opened.
    pub(crate) fn open_options(
        &self,
        (source, destination): (&Reference, &Reference),
        open: &OpenArgs,
        cancel: &Cancel,
    ) -> anyhow::Result<source::OpenOptions> {
        let registry = settings(&self.source.given(), &open.remote, are_two(source, destination))?;
        let options = open.open_options_with(registry, cancel)?;
        Ok(source::OpenOptions { platform: self.src_platform.clone().or(options.platform), ..options })
    }

    /// The options for the registry of DST.
    pub(crate) fn registry(
        &self,
        (source, destination): (&Reference, &Reference),
        remote: &RemoteArgs,
    ) -> anyhow::Result<RegistryOptions> {
        self.check_password(source, destination, remote)?;
        settings(&self.destination.given(), remote, are_two(source, destination))
    }

    /// Refuses one password for two registries: each would receive the other's password.
    fn check_password(&self, source: &Reference, destination: &Reference, remote: &RemoteArgs) -> anyhow::Result<()> {
        let (Reference::Registry(from), Reference::Registry(to)) = (source, destination) else { return Ok(()) };
        let both_have_their_own = self.source.username.is_some() && self.destination.username.is_some();
        anyhow::ensure!(
            !remote.has_username() || both_have_their_own || from.registry() == to.registry(),
            "--username: {from} and {to} are at two registries, and a password is for one registry: use --src-username or --dest-username, \
             or log in to them instead (`podman login {}`, `podman login {}`)",
            from.registry(),
            to.registry()
        );
        Ok(())
    }
}

/// Whether both ends are at registries, and not at the same one.
fn are_two(source: &Reference, destination: &Reference) -> bool {
    matches!((source, destination), (Reference::Registry(from), Reference::Registry(to)) if from.registry() != to.registry())
}

/// The options of both ends, overridden by those of this end.
fn settings(given: &Given<'_>, remote: &RemoteArgs, are_two: bool) -> anyhow::Result<RegistryOptions> {
    let credentials = match given.username {
        None => remote.credentials()?,
        Some(username) => {
            let password = match given.password_file {
                Some(path) => password_file(path)?,
                None => {
                    let option = hints::option(given.end, "password");
                    anyhow::ensure!(
                        given.password_stdin,
                        "{}: give {option}-stdin or {option}-file FILE",
                        hints::option(given.end, "username")
                    );
                    password_stdin(&format!("{option}-stdin"))?
                }
            };
            Some(Credentials::Password { username: username.to_owned(), password })
        }
    };
    let both = remote.registry_with(credentials);
    let mut ca_certificates = both.ca_certificates;
    ca_certificates.extend(given.ca_cert.iter().cloned());
    Ok(RegistryOptions {
        authfile: given.authfile.cloned().or(both.authfile),
        ca_certificates,
        client_certificate: given.client_certificate.clone().or(both.client_certificate),
        skip_tls_verification: given.tls_verify.map_or(both.skip_tls_verification, |verify| !verify),
        plain_http: given.plain_http.unwrap_or(both.plain_http),
        end: if are_two { given.end } else { End::Only },
        ..both
    })
}
