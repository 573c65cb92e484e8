//! The kinds of secrets, each with the document in which its issuer describes it.

use serde::{Serialize, Serializer};

use crate::inspect::check::Severity;

/// A kind of secret. The names are stable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecretKind(pub(super) &'static Facts);

/// What is known of a kind.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Facts {
    name: &'static str,
    what: &'static str,
    pub(super) severity: Severity,
    source: &'static str,
}

impl SecretKind {
    /// All of them, in the order of their names.
    pub fn all() -> impl Iterator<Item = Self> {
        KINDS.iter().copied().map(Self)
    }

    /// As it stands in reports.
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// "a GitHub token".
    pub fn what(self) -> &'static str {
        self.0.what
    }

    /// How bad it is to find one.
    pub fn severity(self) -> Severity {
        self.0.severity
    }

    /// Who defines its form, and in which document.
    pub fn source(self) -> &'static str {
        self.0.source
    }
}

impl Serialize for SecretKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.0.name)
    }
}

/// Declares the kinds, and the list of them all.
macro_rules! kinds {
    ($($constant:ident: $name:literal, $what:literal, $severity:ident, $source:literal;)*) => {
        $(pub(super) const $constant: &Facts =
            &Facts { name: $name, what: $what, severity: Severity::$severity, source: $source };)*
        const KINDS: &[&Facts] = &[$($constant),*];
    };
}

kinds! {
    AGE: "age-key", "an age private key", Warning, "age: specification, C2SP age.md";
    AWS_ACCESS: "aws-access-key", "an AWS access key id", Warning, "AWS: IAM User Guide, \"IAM identifiers\", unique identifiers";
    AWS_FILE: "aws-credentials", "credentials for AWS", Warning, "AWS: CLI User Guide, \"Configuration and credential file settings\"";
    AZURE_FILE: "azure-credentials", "credentials for Azure", Warning, "Microsoft: Azure CLI, \"MSAL-based Azure CLI\"";
    AZURE_STORAGE: "azure-storage-key", "the key of an Azure storage account", Warning, "Microsoft: Azure Storage, \"Configure connection strings\"";
    CARGO: "cargo-credentials", "a token for cargo publish", Warning, "Rust: The Cargo Book, \"Configuration\", credentials";
    DIGITALOCEAN: "digitalocean-token", "a DigitalOcean token", Warning, "DigitalOcean: API, \"Personal access tokens\"";
    DOCKER_HUB: "docker-hub-token", "a Docker Hub access token", Warning, "Docker: Docker Hub, \"Personal access tokens\"";
    DOCKER_CONFIG: "docker-credentials", "credentials for registries", Warning, "Docker: `docker login`; containers-auth.json(5)";
    ENV_FILE: "env-file", "settings of a program, often with passwords", Warning, "Docker: Compose, \"Set environment variables\", .env files";
    GCP_FILE: "gcloud-credentials", "credentials for Google Cloud", Warning, "Google: \"How Application Default Credentials works\"";
    GCP_ACCOUNT: "gcp-service-account", "the key of a Google Cloud service account", Warning, "Google: IAM, \"Create and delete service account keys\"";
    GIT: "git-credentials", "passwords for git", Warning, "Git: git-credential-store(1)";
    GITHUB_FINE: "github-fine-grained-token", "a GitHub fine-grained token", Warning, "GitHub: Docs, \"About authentication to GitHub\", token formats";
    GITHUB: "github-token", "a GitHub token", Warning, "GitHub: \"Behind GitHub's new authentication token formats\" (prefix and CRC32)";
    GITLAB: "gitlab-token", "a GitLab token", Warning, "GitLab: Docs, \"Token overview\", token prefixes";
    GNUPG: "gnupg-key", "GnuPG private keys", Warning, "GnuPG: agent/keyformat.txt";
    GOOGLE_API: "google-api-key", "a Google API key", Note, "Google: Cloud, \"Manage API keys\"";
    GOOGLE_OAUTH: "google-oauth-secret", "a Google OAuth client secret", Warning, "Google: Cloud, \"Manage OAuth Clients\"";
    HUGGING_FACE: "hugging-face-token", "a Hugging Face token", Warning, "Hugging Face: Hub, \"User access tokens\"";
    JWT: "jwt", "a JSON web token", Note, "IETF: RFC 7519 and RFC 7515";
    KEYSTORE: "keystore", "a store of keys", Note, "IETF: RFC 7292 (PKCS #12)";
    KUBECONFIG: "kubeconfig", "credentials for Kubernetes", Warning, "Kubernetes: \"Organizing Cluster Access Using kubeconfig Files\"";
    NETRC: "netrc", "passwords for hosts", Warning, "curl: \".netrc\"; GNU Inetutils, \"The .netrc file\"";
    NPM_FILE: "npm-credentials", "a token or a password for npm", Warning, "npm: npmrc(5), auth related configuration; Yarn: .yarnrc.yml";
    NPM: "npm-token", "an npm access token", Warning, "npm: \"About access tokens\" (GitHub changelog 2021-09-23)";
    OPENSSH: "openssh-key", "an OpenSSH private key", Warning, "OpenSSH: PROTOCOL.key";
    PASSWORD: "password", "a password or a token by its name", Warning, "Docker: build checks, SecretsUsedInArgOrEnv";
    PASSWORD_FILE: "password-file", "passwords", Warning, "PostgreSQL: \"The Password File\"; MySQL: \"Using Option Files\"; Vault: token helper; Apache: htpasswd";
    PGP: "pgp-key", "an OpenPGP private key", Warning, "IETF: RFC 9580, section 6.2";
    PRIVATE_KEY: "private-key", "a private key", Warning, "IETF: RFC 7468, RFC 5958 and RFC 1421";
    PYPI_FILE: "pypi-credentials", "passwords for package uploads", Warning, "PyPA: Packaging User Guide, \"The .pypirc file\"";
    PYPI: "pypi-token", "a PyPI token", Warning, "PyPI: help, \"API tokens\"; PyPI: macaroons, location pypi.org";
    RUBYGEMS_FILE: "rubygems-credentials", "a key for RubyGems", Warning, "RubyGems: Guides, \"API key scopes\"";
    RUBYGEMS: "rubygems-token", "a RubyGems API key", Warning, "RubyGems: Guides, \"API key scopes\"";
    SENDGRID: "sendgrid-key", "a SendGrid API key", Warning, "Twilio SendGrid: \"API Keys\"";
    SLACK: "slack-token", "a Slack token", Warning, "Slack: \"Token types\"";
    SLACK_HOOK: "slack-webhook", "the address of a Slack webhook", Warning, "Slack: \"Sending messages using incoming webhooks\"";
    SSH_FILE: "ssh-key", "an SSH private key", Warning, "OpenSSH: ssh(1), FILES; ssh-keygen(1)";
    SSH_HOST: "ssh-host-key", "an SSH host key", Warning, "OpenSSH: sshd(8), FILES";
    STRIPE: "stripe-key", "a Stripe live key", Warning, "Stripe: \"API keys\"";
    TERRAFORM: "terraform-state", "the state of Terraform, often with passwords", Warning, "HashiCorp: Terraform, \"Sensitive data in state\"";
    URL: "url-password", "a password in an address", Warning, "IETF: RFC 3986, section 3.2.1";
    VAULT: "vault-token", "a Vault token", Warning, "HashiCorp: Vault, \"Tokens\", token prefixes";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_a_source() {
        let names: Vec<&str> = SecretKind::all().map(SecretKind::name).collect();
        let mut unique = names.clone();
        unique.sort_unstable();
        unique.dedup();
        assert_eq!(names.len(), unique.len());
        for kind in SecretKind::all() {
            assert!(kind.source().contains(": "), "{}: who says so?", kind.name());
        }
    }
}
