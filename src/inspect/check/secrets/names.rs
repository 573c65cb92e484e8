//! Finds files that are likely to hold a secret, by their names.

use std::sync::LazyLock;

use regex::bytes::{Regex, RegexSet};

use super::kinds::{self, Facts, SecretKind};
use crate::core::record::LayerPath;

/// What such files are called, what they hold, and what is in those that really do: where that is missing, the file is
/// a harmless one of the same name.
const NAMES: [(&str, &Facts, Option<&str>); 22] = [
    (r"(^|/)\.?(id_rsa|id_dsa|id_ecdsa|id_ed25519|id_ecdsa_sk|id_ed25519_sk)$", kinds::SSH_FILE, None),
    (r"(^|/)ssh_host_[a-z0-9]+_key$", kinds::SSH_HOST, None),
    (r"(^|/)\.aws/credentials$", kinds::AWS_FILE, Some(r"(?i)aws_(?:secret_access_key|session_token)\s*=\s*\S")),
    (
        r"(^|/)\.config/gcloud/(application_default_credentials\.json|credentials\.db)$",
        kinds::GCP_FILE,
        Some(r#""(?:client_secret|refresh_token|private_key)"\s*:\s*"[^"]"#),
    ),
    (
        r"(^|/)\.azure/(accessTokens|azureProfile|msal_token_cache)\.(json|bin)$",
        kinds::AZURE_FILE,
        Some(r#""(?:accessToken|refreshToken|secret|client_secret)"\s*:\s*"[^"]"#),
    ),
    (
        r"(^|/)(\.docker/config\.json|\.dockercfg|containers/auth\.json)$",
        kinds::DOCKER_CONFIG,
        Some(r#""(?:auth|identitytoken|registrytoken|password)"\s*:\s*"[^"]"#),
    ),
    (
        r"(^|/)\.kube/config$",
        kinds::KUBECONFIG,
        Some(r#"(?m)\b(?:token|password|client-key-data|id-token|refresh-token)"?\s*:\s*["']?[^\s"']"#),
    ),
    (r"(^|/)\.?_?netrc$", kinds::NETRC, Some(r"\bpassword\s+\S")),
    (r"(^|/)(\.git-credentials|\.config/git/credentials)$", kinds::GIT, Some(r"://[^/\s:@]*:[^/\s@]+@")),
    (r"(^|/)\.pypirc$", kinds::PYPI_FILE, Some(r"(?im)^\s*password\s*[:=]\s*\S")),
    (
        r"(^|/)\.(npmrc|yarnrc\.yml)$",
        kinds::NPM_FILE,
        Some(r#"(?i)(?:_authToken|_auth|_password|npmAuthToken|npmAuthIdent)"?\s*[:=]\s*["']?[^\s"'$]"#),
    ),
    (r"(^|/)\.gem/credentials$", kinds::RUBYGEMS_FILE, Some(r"(?m)^:?[A-Za-z_]+\s*:\s*\S")),
    (r"(^|/)\.cargo/credentials(\.toml)?$", kinds::CARGO, Some(r#"(?m)^\s*(?:token|secret-key)\s*=\s*["'][^"']"#)),
    (r"(^|/)\.pgpass$", kinds::PASSWORD_FILE, Some(r"(?m)^[^#\n][^\n]*:[^:\n]+$")),
    (r"(^|/)\.my\.cnf$", kinds::PASSWORD_FILE, Some(r"(?m)^\s*password\s*=\s*\S")),
    (r"(^|/)\.htpasswd$", kinds::PASSWORD_FILE, Some(r"(?m)^[^#\s:]+:\S")),
    (r"(^|/)\.vault-token$", kinds::VAULT, Some(r"\S")),
    (r"(^|/)\.gnupg/(secring\.gpg|private-keys-v1\.d/.+)$", kinds::GNUPG, None),
    (
        r"(^|/)\.env(\.(local|production|staging|development))?$",
        kinds::ENV_FILE,
        Some(
            r#"(?im)^\s*(?:export\s+)?[a-z0-9_]*(?:password|passwd|secret|token|api_?key|private_?key|access_?key|credential|_pass|_pwd)[a-z0-9_]*\s*=\s*["']?[^\s"'$]"#,
        ),
    ),
    (
        r"\.tfstate(\.backup)?$",
        kinds::TERRAFORM,
        Some(
            r#""(?:password|secret|token|private_key[a-z_]*|[a-z_]*_key)"\s*:\s*"[^"]|"sensitive_attributes"\s*:\s*\[\s*[^\s\]]"#,
        ),
    ),
    (r"(^|/)rootkey\.csv$", kinds::AWS_FILE, Some(r"AWSSecretKey=\S")),
    (r"\.(p12|pfx|jks)$", kinds::KEYSTORE, None),
];

static PATTERNS: LazyLock<Option<RegexSet>> = LazyLock::new(|| RegexSet::new(NAMES.map(|(pattern, ..)| pattern)).ok());

static CONFIRMATIONS: LazyLock<Vec<Option<Regex>>> = LazyLock::new(|| {
    NAMES.iter().map(|(.., confirm)| confirm.and_then(|confirm| Regex::new(&format!("(?-u){confirm}")).ok())).collect()
});

fn matched(path: &LayerPath) -> Option<usize> {
    PATTERNS.as_ref()?.matches(path.as_bytes()).iter().next()
}

/// What a file of that name is likely to hold.
pub(crate) fn by_name(path: &LayerPath) -> Option<SecretKind> {
    NAMES.get(matched(path)?).map(|(_, kind, _)| SecretKind(kind))
}

/// What a file of that name has in it if it holds what its name says.
pub(super) fn confirmation(path: &LayerPath) -> Option<&'static Regex> {
    CONFIRMATIONS.get(matched(path)?)?.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_told_by_their_names() {
        let by = |path: &str| by_name(&LayerPath::normalise(path.as_bytes()).unwrap()).map_or("", |kind| kind.name());
        assert_eq!(by("root/.ssh/id_rsa"), "ssh-key");
        assert_eq!(by("root/.aws/credentials"), "aws-credentials");
        assert_eq!(by(".netrc"), "netrc");
        assert_eq!(by("root/.docker/config.json"), "docker-credentials");
        assert_eq!(by("home/a/.git-credentials"), "git-credentials");
        assert_eq!(by("app/.env.production"), "env-file");
        assert_eq!(by("infra/terraform.tfstate"), "terraform-state");
        for harmless in
            ["root/.ssh/id_rsa.pub", "etc/ssh/ssh_host_rsa_key.pub", "usr/lib/credentials", "a/config.json", "b.env"]
        {
            assert_eq!(by(harmless), "", "{harmless}");
        }
    }

    #[test]
    fn what_names_promise_is_confirmed_by_the_content() {
        assert_eq!(
            CONFIRMATIONS.iter().flatten().count(),
            NAMES.iter().filter(|(.., confirm)| confirm.is_some()).count()
        );
        let holds = |path: &str, text: &str| {
            confirmation(&LayerPath::normalise(path.as_bytes()).unwrap()).unwrap().is_match(text.as_bytes())
        };
        for (path, with, without) in [
            (".aws/credentials", "[default]\naws_secret_access_key = abc", "[default]\nregion = x"),
            (".docker/config.json", r#"{"auths": {"a": {"auth": "abc"}}}"#, r#"{"auths": {}, "credsStore": "pass"}"#),
            (".kube/config", "users:\n- user:\n    token: abc", "apiVersion: v1\nusers: []"),
            (".netrc", "machine a\n  login b\n  password c", "machine a login b"),
            (".git-credentials", "https://a:b@example.com", "https://example.com"),
            (".pypirc", "[pypi]\npassword = x", "[distutils]\nindex-servers = pypi"),
            (".cargo/credentials.toml", "[registry]\ntoken = \"abc\"", "[registry]\n"),
            (".env", "A=1\nexport DB_PASSWORD='x'", "A=1\nDB_PASSWORD=${X}\n"),
            ("a.tfstate", r#"{"attributes": {"password": "x"}}"#, r#"{"resources": []}"#),
        ] {
            assert!(holds(path, with), "{path}: {with}");
            assert!(!holds(path, without), "{path}: {without}");
        }
    }
}
