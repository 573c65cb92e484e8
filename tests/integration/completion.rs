//! What shells are told of words that are not finished.

#![allow(clippy::unwrap_used, reason = "clippy exempts only #[test] functions, not their helpers")]

use std::fs;

use crate::cli::{place, run, text};
use crate::images::Tar;
use crate::place::Place;

/// The candidates for the last word, without what they mean.
fn completed(place: &Place, words: &[&str]) -> Vec<String> {
    let output = run(place, &[&["complete", "--"], words].concat());
    assert!(output.status.success() && output.stderr.is_empty(), "{words:?}: {}", text(&output.stderr));
    text(&output.stdout).lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
}

/// A place with an image that has something to complete, in an archive and in a layout.
fn with_images() -> Place {
    let place = place();
    let base =
        Tar::new().directory("etc").file("etc/motd", "1").file("etc/mode", "2").directory("usr").directory("usr/lib");
    fs::write(place.path("base.tar"), base.file("etc/a b", "3").file("etc/\x1b[31m", "4").done()).unwrap();
    fs::write(place.path("top.tar"), Tar::new().file("etc/.wh.motd", "").done()).unwrap();
    for tag in ["one", "two"] {
        run(&place, &["append", "--quiet", "layers:base.tar", "top.tar", &format!("oci:layout:{tag}")]);
    }
    run(&place, &["copy", "--quiet", "oci:layout:one", "docker-archive:app.tar:app:1"]);
    place
}

#[test]
fn paths_in_images_come_from_the_cache_alone() {
    let place = with_images();
    fs::remove_dir_all(place.path("home/.cache")).ok();
    let nothing = [""; 0];
    assert_eq!(completed(&place, &["cat", "app.tar", "etc/m"]), nothing);
    assert!(!place.path("home/.cache").exists(), "something was written");
    run(&place, &["ls", "app.tar"]);
    assert_eq!(completed(&place, &["cat", "app.tar", ""]), ["etc/", "usr/"]);
    assert_eq!(completed(&place, &["cat", "app.tar", "/etc/m"]), ["/etc/mode"]);
    assert_eq!(completed(&place, &["cat", "app.tar", "etc/"]), ["etc/a b", "etc/mode"], "no name steers the terminal");
    assert_eq!(completed(&place, &["cat", "--layer", "0", "app.tar", "etc/mo"]), ["etc/mode", "etc/motd"]);
    assert_eq!(completed(&place, &["cat", "app.tar", "etc/mo", "--layer", ""]), ["0", "1"]);
    assert_eq!(completed(&place, &["ls", "-l", "oci:layout:two", "us"]), ["usr/"]);
    assert_eq!(completed(&place, &["cp", "app.tar:/usr/"]), ["app.tar:/usr/lib/"]);
    assert_eq!(completed(&place, &["cp", "oci:layout:one:etc/mod"]), ["oci:layout:one:etc/mode"]);
    assert_eq!(completed(&place, &["cat", "missing.tar", "e"]), nothing);
}

#[test]
fn names_of_images_are_those_of_files_and_what_is_in_them() {
    let place = with_images();
    assert_eq!(completed(&place, &["inspect", "app"]), ["app.tar"]);
    assert_eq!(completed(&place, &["inspect", "docker-"]), ["docker-archive:", "docker-daemon:"]);
    assert_eq!(completed(&place, &["inspect", "oci:layout"]), ["oci:layout/", "oci:layout:one", "oci:layout:two"]);
    assert_eq!(completed(&place, &["inspect", "oci:layout:t"]), ["oci:layout:two"]);
    assert_eq!(completed(&place, &["copy", "app.tar", "oci:layout:o"]), ["oci:layout:one"]);
    assert_eq!(
        completed(&place, &["inspect", "docker-archive:app.tar:"]),
        ["docker-archive:app.tar:docker.io/library/app:1"]
    );
    assert_eq!(completed(&place, &["inspect", "layers:base.tar,to"]), ["layers:base.tar,top.tar"]);
    // Nobody is asked.
    assert_eq!(completed(&place, &["inspect", "docker://127.0.0.1:1/app"]), [""; 0]);
    assert_eq!(completed(&place, &["cat", "docker://127.0.0.1:1/app", "e"]), [""; 0]);
    assert_eq!(completed(&place, &["flatten", "app.tar", "--config", "to"]), ["top.tar"]);
}

/// Readline breaks words at colons, and replaces only what stands behind the last.
#[test]
fn bash_completes_words_with_colons_and_spaces() {
    let place = with_images();
    run(&place, &["ls", "app.tar"]);
    fs::write(place.path("layflat.bash"), run(&place, &["completions", "bash"]).stdout).unwrap();
    let bin = place.path("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(crate::place::layflat(), bin.join("layflat")).unwrap();
    let reply = |words: &[&str], line: &str| {
        let script = r#"
            PATH=$1:$PATH COMP_WORDBREAKS=$' \t\n"\'><=;|&(:' COMP_LINE=$2 COMP_POINT=${#2}
            shift 2
            COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
            . ./layflat.bash; _layflat; printf '%s\n' "${COMPREPLY[@]}""#;
        let mut command = place.command("bash");
        let output = command.args(["--norc", "-c", script, "bash"]).arg(&bin).arg(line).args(words).output().unwrap();
        text(&output.stdout).lines().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(
        reply(&["layflat", "cp", "app.tar", ":", "/etc/"], "layflat cp app.tar:/etc/"),
        ["/etc/a\\ b", "/etc/mode"]
    );
    assert_eq!(reply(&["layflat", "inspect", "oci", ":", "layout", ":", "t"], "layflat inspect oci:layout:t"), ["two"]);
    assert_eq!(reply(&["layflat", "cat", "app.tar", "\"etc/a"], "layflat  cat app.tar \"etc/a"), ["etc/a b"]);
    assert_eq!(reply(&["layflat", "flatten", "--compression", "=", "l"], "layflat flatten --compression=l"), ["lz4"]);
    // The cursor may stand before the end of the line.
    assert_eq!(reply(&["layflat", "insp"], "layflat insp"), ["inspect"]);
}
