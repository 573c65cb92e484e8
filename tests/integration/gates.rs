//! The commands that decide over an image in CI: what `check` finds of secrets, the formats, `.layflat.toml`, and the
//! exit codes of every command.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::fs;
use std::path::Path;
use std::process::Output;

use crate::cli::{place, run, text};
use crate::images::{LAYER, Layout, Tar, digest};
use crate::place::Place;
use serde_json::{Value, json};

/// Written in two parts, so that nobody who searches this repository finds a token.
fn token() -> String {
    ["glpat-", "zQWBuTSOoRi4A9spHcVY"].concat()
}

fn key() -> String {
    format!("-----BEGIN {} KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\n-----END {0} KEY-----\n", "PRIVATE")
}

/// An image `layout` of these layers, with more in its configuration.
fn image(place: &Place, layers: &[Vec<u8>], config: Value, history: Value) {
    let diff_ids: Vec<String> = layers.iter().map(|layer| digest(layer)).collect();
    let config = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": history,
    });
    let mut layout = Layout::default();
    let stored: Vec<(&str, Vec<u8>)> = layers.iter().map(|layer| (LAYER, layer.clone())).collect();
    let descriptor = layout.image_of(&serde_json::to_vec(&config).unwrap(), &stored);
    layout.list(descriptor).write(&place.path("layout"));
}

#[test]
fn annotations_of_the_manifest_are_searched() {
    let place = Place::new();
    image(&place, &[Tar::new().directory("bin").done()], json!({}), json!([]));
    // Annotated as builders do, which gives the manifest another digest.
    let index: Value = serde_json::from_slice(&fs::read(place.path("layout/index.json")).unwrap()).unwrap();
    let blob = |digest: &str| place.path("layout/blobs/sha256").join(digest.strip_prefix("sha256:").unwrap());
    let old = index["manifests"][0]["digest"].as_str().unwrap();
    let mut manifest: Value = serde_json::from_slice(&fs::read(blob(old)).unwrap()).unwrap();
    manifest["annotations"] =
        json!({"org.example.build-token": "hunter2hunter2", "org.opencontainers.image.title": "x"});
    manifest["layers"][0]["annotations"] = json!({"source": format!("https://x/?key={}", token())});
    let bytes = serde_json::to_vec(&manifest).unwrap();
    fs::write(blob(&digest(&bytes)), &bytes).unwrap();
    let mut entry = index["manifests"][0].clone();
    (entry["digest"], entry["size"]) = (json!(digest(&bytes)), json!(bytes.len()));
    let index = json!({"schemaVersion": 2, "manifests": [entry]});
    fs::write(place.path("layout/index.json"), index.to_string()).unwrap();
    let expected = [
        "image warning annotation-secret password annotations/org.example.build-token",
        "0 warning annotation-secret gitlab-token layers/0/annotations/source",
    ];
    assert_eq!(findings(&place, &["--fast"]), expected);
    assert_eq!(findings(&place, &["--fast", "--ignore", "annotation-secret:org.example.build-token"]), expected[1..]);
}

/// An image with a secret in every place.
fn leaking() -> Place {
    let place = Place::new();
    let base = Tar::new()
        .directory("app")
        .file("app/key.pem", key())
        .file("app/settings.txt", format!("# settings\ntoken = {}\n", token()))
        .file("app/deleted.txt", ["hvs.", "zQWBuTSOoRi4A9spHcVY5ncnsDkx"].concat())
        .directory("tests")
        .file("tests/key.pem", key().replace("MIIEvQ", "MIIEvR"))
        .directory("root")
        .file("root/.npmrc", "registry=https://example.com/\n")
        .file("root/.netrc", "machine a login b password c")
        .done();
    let change = Tar::new().file("app/.wh.deleted.txt", "").file("root/.wh..netrc", "").done();
    let config = json!({
        "Env": ["PATH=/bin", "DB_PASSWORD=hunter2hunter2", "EMPTY_TOKEN=", "DB_PASSWORD_FILE=/run/secrets/db"],
        "Labels": {"org.example.source": "https://me:hunter3hunter3@example.com/x", "plain": "text"},
        "Healthcheck": {"Test": ["CMD-SHELL", "curl --token hunter4hunter4 http://localhost"]},
    });
    let history = json!([
        {"created_by": "ENV DB_PASSWORD=hunter2hunter2", "empty_layer": true},
        {"created_by": "COPY . /app"},
        {"created_by": "RUN |1 NPM_TOKEN=hunter5hunter5 /bin/sh -c npm ci # buildkit"},
    ]);
    image(&place, &[base, change], config, history);
    place
}

fn checked(place: &Place, arguments: &[&str]) -> Output {
    run(place, &[&["check", "oci:layout"], arguments].concat())
}

/// What `check` finds: layer, severity, rule, kind of secret, and where.
fn findings(place: &Place, arguments: &[&str]) -> Vec<String> {
    let output = checked(place, &[arguments, &["--json"]].concat());
    let line = |line: &str| {
        let finding: Value = serde_json::from_str(line).unwrap();
        assert_eq!(finding["kind"], finding["rule"]);
        assert!(!finding["fix"].as_str().unwrap().is_empty(), "{finding}");
        let layer = finding["layer"].as_u64().map_or("image".to_owned(), |layer| layer.to_string());
        let words = ["severity", "rule", "secret", "path", "place"].iter().filter_map(|name| finding[name].as_str());
        [vec![layer.as_str()], words.collect()].concat().join(" ")
    };
    text(&output.stdout).lines().map(line).collect()
}

#[test]
fn secrets_are_found_wherever_they_are() {
    let expected = [
        "image warning env-secret password config/Env/DB_PASSWORD",
        "image warning label-secret url-password config/Labels/org.example.source",
        "image warning config-secret password config/Healthcheck/Test",
        "0 warning hidden-secret vault-token app/deleted.txt",
        "0 warning hidden-secret netrc root/.netrc",
        "0 warning visible-secret private-key app/key.pem",
        "0 warning visible-secret gitlab-token app/settings.txt",
        "0 note visible-secret private-key tests/key.pem",
        "1 warning history-secret password history/2",
    ];
    let place = leaking();
    assert_eq!(findings(&place, &[]), expected);
    assert_eq!(findings(&place, &["--jobs", "1"]), expected);
    let stated = ["env-secret", "label-secret", "config-secret", "history-secret"];
    let fast: Vec<&str> = expected.into_iter().filter(|line| stated.iter().any(|rule| line.contains(rule))).collect();
    assert_eq!(findings(&place, &["--fast"]), fast, "--fast reads no layer");
    assert_eq!(findings(&place, &["--secrets=false"]), [""; 0]);
    assert_eq!(checked(&place, &[]).status.code(), Some(0), "warnings fail only with --fail-on");
    assert_eq!(checked(&place, &["--fail-on", "warning"]).status.code(), Some(1));
}

#[test]
fn no_value_is_printed_whole() {
    let place = leaking();
    for format in ["text", "json", "sarif", "github", "gitlab"] {
        let output = checked(&place, &["--format", format]);
        let printed = [output.stdout, output.stderr].concat();
        assert!(text(&printed).contains("hidden-secret"), "{format}: {}", text(&printed));
        for value in [&token()[5..], "hunter", "zQWBuTSO", "MIIEvQ"] {
            assert!(!text(&printed).contains(value), "{format}: {value}: {}", text(&printed));
        }
    }
}

#[test]
fn a_mild_finding_in_a_file_does_not_hide_what_its_name_says() {
    let web = ["eyJhbGciOiJIUzI1NiJ9", "eyJzdWIiOiIxMjM0NTY3ODkwIn0", "zQWBuTSOoRi4A9spHcVY"].join(".");
    let layer = Tar::new()
        .directory("a")
        .file("a/.netrc", format!("machine a login b password {web}\n"))
        .file("a/.npmrc", format!("# {web}\nregistry=https://example.com/\n"))
        .file("a/.vault-token", token())
        .directory("b")
        .file("b/.netrc", format!("machine b login c password {web}\n"))
        .done();
    let change = Tar::new().file("b/.wh..netrc", "").done();
    let place = Place::new();
    image(&place, &[layer, change], json!({}), json!([]));
    let expected = [
        "0 warning hidden-secret netrc b/.netrc",
        "0 warning visible-secret gitlab-token a/.vault-token",
        "0 warning visible-secret netrc a/.netrc",
        "0 note hidden-secret jwt b/.netrc",
        "0 note visible-secret jwt a/.netrc",
        "0 note visible-secret jwt a/.npmrc",
    ];
    let mut found = findings(&place, &[]);
    found.sort_unstable();
    let mut sorted = expected;
    sorted.sort_unstable();
    assert_eq!(found, sorted);
}

#[test]
fn what_is_stated_in_the_wrong_place_is_not_printed_whole() {
    let place = Place::new();
    let config = json!({"Env": ["hunter2hunter2"], "Cmd": ["/bin/serve --key hunter3hunter3"]});
    image(&place, &[Tar::new().file("a", "text").done()], config, json!([]));
    let output = checked(&place, &[]);
    let printed = text(&output.stdout);
    assert!(printed.contains("the environment has \"hunt\"…, 14 characters, expected NAME=VALUE"), "{printed}");
    assert!(printed.contains("the image starts \"/bin/serve\"…, which is not in the image"), "{printed}");
    assert!(!printed.contains("hunter"), "{printed}");
}

#[test]
fn findings_can_be_ignored_by_rule_kind_and_place() {
    let place = leaking();
    let all = findings(&place, &[]);
    let without = |ignored: &[&str]| {
        let arguments: Vec<&str> = ignored.iter().flat_map(|ignored| ["--ignore", ignored]).collect();
        let found = findings(&place, &arguments);
        all.iter()
            .filter(|line| !found.contains(line))
            .map(|line| line.split(' ').next_back().unwrap())
            .collect::<Vec<_>>()
    };
    assert_eq!(without(&["hidden-secret"]), ["app/deleted.txt", "root/.netrc"]);
    assert_eq!(without(&["private-key"]), ["app/key.pem", "tests/key.pem"]);
    assert_eq!(
        without(&["visible-secret:/tests/**", "env-secret:DB_PASSWORD"]),
        ["config/Env/DB_PASSWORD", "tests/key.pem"]
    );
    assert_eq!(without(&["*:/app/**"]), ["app/deleted.txt", "app/key.pem", "app/settings.txt"]);
    assert_eq!(without(&["manifest:*"]), [""; 0]);
    assert!(text(&checked(&place, &["--ignore", "jwt", "--ignore", "netrc"]).stderr).contains(", 1 ignored"));
    let unknown = checked(&place, &["--ignore", "hiden-secret"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(text(&unknown.stderr).contains("there is no rule \"hiden-secret\""), "{}", text(&unknown.stderr));
}

/// The essentials of the standard (OASIS SARIF 2.1.0, and what GitHub requires of it).
#[test]
fn sarif_is_as_the_standard_says() {
    let place = leaking();
    let output = checked(&place, &["--format", "sarif", "--fail-on", "warning"]);
    assert_eq!(output.status.code(), Some(1));
    let log: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(log["version"], "2.1.0");
    assert!(log["$schema"].as_str().unwrap().contains("sarif-2.1.0"));
    let run = &log["runs"][0];
    let driver = &run["tool"]["driver"];
    assert_eq!(driver["name"], "layflat");
    let rules = driver["rules"].as_array().unwrap();
    for rule in rules {
        let levels = ["error", "warning", "note"];
        assert!(levels.contains(&rule["defaultConfiguration"]["level"].as_str().unwrap()), "{rule}");
        assert!(rule["shortDescription"]["text"].is_string() && rule["help"]["text"].is_string(), "{rule}");
    }
    let results = run["results"].as_array().unwrap();
    assert_eq!(results.len(), 9);
    let mut fingerprints = std::collections::BTreeSet::new();
    for result in results {
        let rule = &rules[result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(result["level"].is_string() && result["message"]["text"].is_string(), "{result}");
        let physical = &result["locations"][0]["physicalLocation"];
        let uri = physical["artifactLocation"]["uri"].as_str().unwrap();
        assert!(!uri.starts_with('/') && !uri.contains([' ', ':', '%']) || uri == "oci%3Alayout", "{uri}");
        assert!(physical["region"].is_null() || physical["region"]["startLine"].as_u64().unwrap() > 0);
        assert!(!result["locations"][0]["logicalLocations"].as_array().unwrap().is_empty(), "{result}");
        assert!(fingerprints.insert(result["partialFingerprints"]["layflatFinding/v1"].as_str().unwrap().to_owned()));
    }
    let again: Value = serde_json::from_slice(&checked(&place, &["--format", "sarif"]).stdout).unwrap();
    assert_eq!(again, log, "the same image has the same fingerprints");
}

#[test]
fn github_shows_annotations_and_the_worst_first() {
    let place = leaking();
    let output = checked(&place, &["--format", "github"]);
    let lines: Vec<&str> = text(&output.stdout).lines().collect();
    assert_eq!(lines.len(), 9);
    assert!(lines.iter().all(|line| line.starts_with("::warning title=layflat%3A ") || line.starts_with("::notice ")));
    assert!(
        lines[8].starts_with("::notice title=layflat%3A visible-secret::oci:layout: layer 0: tests/key.pem: holds ")
    );
    assert!(lines[0].contains("To fix it: "), "{}", lines[0]);
}

#[test]
fn gitlab_reads_a_code_quality_report() {
    let place = leaking();
    let report: Value = serde_json::from_slice(&checked(&place, &["--format", "gitlab"]).stdout).unwrap();
    let report = report.as_array().unwrap();
    assert_eq!(report.len(), 9);
    let mut fingerprints = std::collections::BTreeSet::new();
    for finding in report {
        assert!(finding["description"].is_string() && finding["check_name"].is_string());
        assert!(["info", "minor", "major", "critical", "blocker"].contains(&finding["severity"].as_str().unwrap()));
        assert!(!finding["location"]["path"].as_str().unwrap().starts_with('/'));
        assert!(finding["location"]["lines"]["begin"].as_u64().unwrap() >= 1);
        assert!(fingerprints.insert(finding["fingerprint"].as_str().unwrap()));
    }
}

/// What would end a command of GitHub's, a string of JSON, or a line of the terminal.
const HOSTILE: &str = "a\n::error title=x::y\r%0A,:\"\\\u{1b}[2J\u{202e}z";

#[test]
fn hostile_names_stay_names_in_every_format() {
    let place = Place::new();
    let layer = Tar::new().directory("d").file(&format!("d/{HOSTILE}"), key()).done();
    let label =
        json!({"Labels": {HOSTILE: token()}, "Env": [format!("{HOSTILE}=x"), format!("A{HOSTILE}_TOKEN=hunter2")]});
    image(&place, &[layer], label, json!([{"created_by": format!("RUN x {HOSTILE} {}", key())}]));
    for format in ["text", "json", "sarif", "github", "gitlab"] {
        let output = checked(&place, &["--format", format]);
        let printed = text(&output.stdout);
        assert!(printed.contains("visible-secret") && printed.contains("label-secret"), "{format}: {printed}");
        assert!(!printed.contains(['\u{1b}', '\u{202e}', '\r']), "{format}: {printed}");
        match format {
            "sarif" | "gitlab" => drop(serde_json::from_str::<Value>(printed).unwrap()),
            "json" => printed.lines().for_each(|line| drop(serde_json::from_str::<Value>(line).unwrap())),
            "github" => {
                for line in printed.lines() {
                    assert!(line.starts_with("::warning title=layflat%3A ") || line.starts_with("::notice "), "{line}");
                }
            }
            _ => assert!(printed.lines().all(|line| line.starts_with("warning") || line.starts_with("note"))),
        }
    }
}

#[test]
fn waste_speaks_to_ci_systems_too() {
    let place = place();
    let annotated = run(&place, &["waste", "--format", "github", "--max-wasted", "1", "image.tar"]);
    assert_eq!(annotated.status.code(), Some(1));
    let lines: Vec<&str> = text(&annotated.stdout).lines().collect();
    assert!(lines[0].starts_with("::error title=layflat%3A max-wasted::image.tar: "), "{}", lines[0]);
    assert!(lines[1..].iter().all(|line| line.starts_with("::notice title=layflat%3A wasted-file::")), "{lines:?}");
    let sarif: Value =
        serde_json::from_slice(&run(&place, &["waste", "--format", "sarif", "image.tar"]).stdout).unwrap();
    assert!(sarif["runs"][0]["results"].as_array().unwrap().iter().all(|result| result["ruleId"] == "wasted-file"));
    let both = run(&place, &["waste", "--json", "--format", "github", "image.tar"]);
    assert_eq!(both.status.code(), Some(2));
    assert!(text(&both.stderr).contains("name different formats"), "{}", text(&both.stderr));
}

#[test]
fn the_rules_of_a_repository_are_in_its_working_directory() {
    let place = leaking();
    let write = |text: &str| fs::write(place.path(".layflat.toml"), text).unwrap();
    write("[check]\nfail-on = \"warning\"\nignore = [\"hidden-secret\"]\n\n[waste]\nmax-wasted = 1\n");
    assert_eq!(checked(&place, &[]).status.code(), Some(1));
    assert!(!findings(&place, &[]).iter().any(|line| line.contains("hidden-secret")));
    assert_eq!(checked(&place, &["--fail-on", "error"]).status.code(), Some(0), "an option wins");
    assert_eq!(checked(&place, &["--no-config"]).status.code(), Some(0));
    assert!(findings(&place, &["--no-config"]).iter().any(|line| line.contains("hidden-secret")));
    assert_eq!(run(&place, &["waste", "oci:layout"]).status.code(), Some(1));
    assert_eq!(run(&place, &["waste", "--max-wasted", "1GB", "oci:layout"]).status.code(), Some(0));
    write("[check]\nsecrets = false\n");
    assert_eq!(findings(&place, &[]), [""; 0]);
    assert!(!findings(&place, &["--secrets"]).is_empty());
    fs::write(place.path("other.toml"), "[check]\nignore = [\"*:**\"]\n").unwrap();
    let all = findings(&place, &["--no-config"]);
    assert!(findings(&place, &["--config", "other.toml"]).len() < all.len());
    let both = checked(&place, &["--config", "other.toml", "--no-config"]);
    assert_eq!(both.status.code(), Some(2));
}

#[test]
fn what_is_wrong_in_the_rules_is_named_with_file_line_and_key() {
    let place = leaking();
    for (text_, expected) in [
        (
            "[check]\nfail-onn = \"warning\"\n",
            "layflat: .layflat.toml:2: unknown key `fail-onn`, expected one of `fail-on`",
        ),
        ("\n[wast]\n", "layflat: .layflat.toml:2: unknown key `wast`, expected `waste` or `check`"),
        ("[check]\nignore = [\"no-such-rule\"]\n", "there is no rule \"no-such-rule\""),
        ("[check\n", "layflat: .layflat.toml:1: "),
    ] {
        fs::write(place.path(".layflat.toml"), text_).unwrap();
        let output = checked(&place, &[]);
        let message = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected) && message.lines().count() == 1, "{message}");
    }
    let missing = checked(&place, &["--config", "missing.toml"]);
    assert!(text(&missing.stderr).starts_with("layflat: cannot read \"missing.toml\": "), "{}", text(&missing.stderr));
    // What never ends does no harm.
    fs::remove_file(place.path(".layflat.toml")).unwrap();
    std::os::unix::fs::symlink("/dev/zero", place.path(".layflat.toml")).unwrap();
    let endless = checked(&place, &[]);
    assert_eq!(endless.status.code(), Some(2));
    assert!(text(&endless.stderr).contains("\".layflat.toml\" is not a regular file"), "{}", text(&endless.stderr));
    let asked = checked(&place, &["--config", "/dev/zero"]);
    assert_eq!(asked.status.code(), Some(2));
    assert!(text(&asked.stderr).contains("rules have at most 1048576 bytes"), "{}", text(&asked.stderr));
    // It is the working directory's, and not the image's.
    fs::remove_file(place.path(".layflat.toml")).unwrap();
    let layer = Tar::new().file(".layflat.toml", "[nonsense]\n").done();
    image(&place, &[layer], json!({}), json!([]));
    assert_eq!(checked(&place, &[]).status.code(), Some(0));
}

#[test]
fn docs_checks_md_lists_every_rule() {
    let place = Place::new();
    let listed = run(&place, &["check", "--list-rules", "--json"]);
    assert!(listed.status.success(), "{}", text(&listed.stderr));
    let document = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/checks.md");
    let document = fs::read_to_string(document).unwrap();
    let mut expected = Vec::new();
    for line in text(&listed.stdout).lines() {
        let listed: Value = serde_json::from_str(line).unwrap();
        let word = |name: &str| listed[name].as_str().unwrap_or_default().to_owned();
        let last = if listed["rule"].is_string() { word("fix") } else { word("source") };
        expected.push(format!(
            "| `{}{}` | {} | {} | {last} |",
            word("rule"),
            word("secret"),
            word("severity"),
            word("meaning")
        ));
    }
    assert!(expected.len() > 60);
    let found: Vec<&str> = document.lines().filter(|line| line.starts_with("| `") && line.contains("` | ")).collect();
    let tables: Vec<&str> = found.into_iter().filter(|line| line.matches(" | ").count() >= 3).collect();
    assert_eq!(tables, expected, "docs/checks.md is what `check --list-rules --json` says");
    let people = text(&run(&place, &["check", "--list-rules"]).stdout).lines().count();
    assert_eq!(people, expected.len() + 3);
}

/// As README, the manual and `--help` state them.
#[test]
fn every_command_ends_with_the_codes_that_are_documented() {
    let place = place();
    let code = |arguments: &[&str]| run(&place, arguments).status.code().unwrap();
    let with_image = ["inspect", "ls", "log", "cat", "waste", "check", "digest", "tags", "find"];
    for command in
        ["flatten", "layers", "mount", "umount", "bundle", "unshare", "diff", "copy", "squash", "pack", "cache"]
            .iter()
            .chain(&with_image)
            .chain(&["completions", "man", "report"])
    {
        // What unshare does not know is the command to run.
        if *command != "unshare" {
            assert_eq!(code(&[command, "--no-such-option"]), 2, "{command}");
        }
        assert_eq!(code(&[command, "--help"]), 0, "{command}");
    }
    for arguments in [
        &["flatten", "image.tar", "rootfs"][..],
        &["layers", "image.tar", "layers"],
        &["inspect", "image.tar"],
        &["tags", "image.tar"],
        &["digest", "image.tar"],
        &["ls", "image.tar"],
        &["find", "image.tar", "*"],
        &["log", "image.tar", "b"],
        &["cat", "image.tar", "b"],
        &["waste", "image.tar"],
        &["check", "image.tar"],
        &["report", "image.tar", "-o", "report.html"],
        &["diff", "image.tar", "image.tar"],
        &["copy", "image.tar", "oci:copy"],
        &["squash", "image.tar", "oci:squashed"],
        &["cache", "ls"],
        &["cache", "verify"],
        &["completions", "bash"],
        &["man", "man"],
    ] {
        assert_eq!(code(arguments), 0, "{arguments:?}: {}", text(&run(&place, arguments).stderr));
    }
    for arguments in [
        &["flatten", "missing.tar", "out"][..],
        &["layers", "missing.tar", "out"],
        &["mount", "missing.tar", "out"],
        &["umount", "missing"],
        &["bundle", "missing.tar", "out"],
        &["inspect", "missing.tar"],
        &["tags", "missing.tar"],
        &["digest", "missing.tar"],
        &["ls", "missing.tar"],
        &["find", "missing.tar", "x"],
        &["find", "image.tar", "no such name"],
        &["log", "missing.tar", "x"],
        &["cat", "image.tar", "no/such/file"],
        &["report", "missing.tar", "-o", "out.html"],
        &["copy", "missing.tar", "oci:out"],
        &["squash", "missing.tar", "oci:out"],
        &["pack", "missing", "-o", "out.tar"],
        &["waste", "--max-wasted", "1", "image.tar"],
        &["check", "--fail-on", "note", "--ignore", "jwt", "layers:damaged.tar"],
    ] {
        fs::write(place.path("damaged.tar"), [b'x'; 1024]).unwrap();
        assert_eq!(code(arguments), 1, "{arguments:?}");
    }
    fs::create_dir_all(place.path("looped/blobs")).unwrap();
    std::os::unix::fs::symlink("sha256", place.path("looped/blobs/sha256")).unwrap();
    for arguments in [
        &["diff", "image.tar", "missing"][..],
        &["check", "missing.tar"],
        &["waste", "missing.tar"],
        &["cache", "verify", "--cache-dir", "looped"],
    ] {
        assert_eq!(code(arguments), 2, "{arguments:?}");
    }
    fs::create_dir(place.path("empty")).unwrap();
    assert_eq!(code(&["diff", "rootfs", "empty"]), 1);
    if code(&["unshare", "true"]) == 0 {
        assert_eq!(code(&["unshare", "sh", "-c", "exit 7"]), 7);
        assert_eq!(code(&["unshare", "no-such-command"]), 127);
        assert_eq!(code(&["unshare", "./image.tar"]), 126);
    }
}
