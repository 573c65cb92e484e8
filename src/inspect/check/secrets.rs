//! Finds files that are likely to hold a secret, by their names.

use std::sync::LazyLock;

use regex::bytes::RegexSet;

use crate::core::record::LayerPath;

/// What such files are called, and what they hold.
const NAMES: [(&str, &str); 14] = [
    (r"(^|/)\.?(id_rsa|id_dsa|id_ecdsa|id_ed25519|id_ecdsa_sk|id_ed25519_sk)$", "an SSH private key"),
    (r"(^|/)ssh_host_[a-z0-9]+_key$", "an SSH host key"),
    (r"(^|/)\.aws/credentials$", "credentials for AWS"),
    (r"(^|/)\.config/gcloud/(application_default_credentials\.json|credentials\.db)$", "credentials for Google Cloud"),
    (r"(^|/)\.azure/(accessTokens|azureProfile|msal_token_cache)\.(json|bin)$", "credentials for Azure"),
    (r"(^|/)(\.docker/config\.json|\.dockercfg|containers/auth\.json)$", "credentials for registries"),
    (r"(^|/)\.kube/config$", "credentials for Kubernetes"),
    (r"(^|/)\.?_?netrc$", "passwords for hosts"),
    (r"(^|/)(\.git-credentials|\.config/git/credentials)$", "passwords for git"),
    (r"(^|/)\.pypirc$", "passwords for package uploads"),
    (r"(^|/)\.(npmrc|yarnrc\.yml|gem/credentials|cargo/credentials(\.toml)?)$", "tokens for package uploads"),
    (r"(^|/)\.(pgpass|my\.cnf|htpasswd|vault-token)$", "passwords"),
    (r"(^|/)\.gnupg/(secring\.gpg|private-keys-v1\.d/.+)$", "GnuPG private keys"),
    (r"(^|/)\.env(\.(local|production|staging|development))?$", "settings of a program, often with passwords"),
];

static PATTERNS: LazyLock<Option<RegexSet>> = LazyLock::new(|| RegexSet::new(NAMES.map(|(pattern, _)| pattern)).ok());

/// What a file of that name is likely to hold.
pub(super) fn by_name(path: &LayerPath) -> Option<&'static str> {
    let matched = PATTERNS.as_ref()?.matches(path.as_bytes());
    let first = matched.iter().next()?;
    NAMES.get(first).map(|(_, what)| *what)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_their_names() {
        let by = |path: &str| by_name(&LayerPath::normalise(path.as_bytes()).unwrap());
        assert_eq!(by("root/.ssh/id_rsa"), Some("an SSH private key"));
        assert_eq!(by("root/.aws/credentials"), Some("credentials for AWS"));
        assert_eq!(by(".netrc"), Some("passwords for hosts"));
        assert_eq!(by("root/.docker/config.json"), Some("credentials for registries"));
        assert_eq!(by("home/a/.git-credentials"), Some("passwords for git"));
        assert_eq!(by("app/.env.production"), Some("settings of a program, often with passwords"));
        for harmless in
            ["root/.ssh/id_rsa.pub", "etc/ssh/ssh_host_rsa_key.pub", "usr/lib/credentials", "a/config.json", "b.env"]
        {
            assert_eq!(by(harmless), None, "{harmless}");
        }
    }
}
