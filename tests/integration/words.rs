//! What people type who know other tools, and what the program answers: which words, and what to type instead.

use std::fs;
use std::io::Read as _;

use insta::assert_snapshot;

use super::cli::{layflat, place, run, text};
use crate::images::Tar;
use crate::place::Place;

/// What each command line prints on standard error, behind a line with the command and its exit status.
fn answers(place: &Place, commands: &[&str]) -> String {
    let answer = |command: &&str| {
        let output = run(place, &command.split(' ').collect::<Vec<_>>());
        let status = output.status.code().unwrap();
        format!("$ layflat {command} -> {status}\n{}\n", text(&output.stderr))
    };
    commands.iter().map(answer).collect()
}

#[test]
fn commands_of_other_tools_are_answered_with_ours() {
    let commands = [
        "pull alpine",
        "push",
        "exec",
        "save",
        "load",
        "images",
        "extract",
        "unpack",
        "export",
        "unmount",
        "rmi",
        "login",
        "history",
        "manifest",
        "search",
        "cp",
        "verify",
    ];
    let place = place();
    let tips: String = commands
        .iter()
        .map(|command| {
            let output = run(&place, &command.split(' ').collect::<Vec<_>>());
            assert_eq!(output.status.code(), Some(2), "{command}");
            let said = text(&output.stderr);
            let tips: Vec<&str> = said.lines().filter(|line| line.starts_with("  tip: ")).collect();
            format!("{command}\n{}\n", tips.join("\n"))
        })
        .collect();
    assert_snapshot!(tips);
}

#[test]
fn a_name_that_is_no_file_is_answered_with_the_ways_to_write_it() {
    let place = place();
    fs::create_dir(place.path("dir")).unwrap();
    assert_snapshot!(answers(
        &place,
        &[
            "flatten no-such-alias:latest out",
            "flatten ghcr.io/foo/bar:1 out",
            "flatten https://example.com/x.tar out",
            "flatten ./missing out",
            "flatten missing.tar out",
            "flatten oci:image.tar out",
            "flatten oci:missing out",
            "flatten docker://user:secret@example.com/a out",
            "inspect --platform arm64 image.tar",
            "inspect --platform beos image.tar",
        ],
    ));
}

#[test]
fn the_name_of_the_output_tells_its_format() {
    let place = place();
    let output = run(&place, &["flatten", "-q", "image.tar", "-o", "out.tar"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let written = fs::read(place.path("out.tar")).unwrap();
    let said = run(&place, &["flatten", "-q", "image.tar", "--to", "tar", "-o", "-"]);
    assert_eq!(written, said.stdout);
    assert_snapshot!(answers(
        &place,
        &[
            "flatten image.tar out.tar",
            "flatten image.tar new.tar",
            "layers image.tar new.tar.gz",
            "bundle image.tar new.erofs",
            "flatten image.tar -o out.tar.xz",
            "flatten image.tar -o out.xyz",
            "flatten image.tar -o out.xfs",
            "flatten image.tar --to tar --compression lz4 -o out",
            "flatten image.tar --compression gzip -o out.squashfs",
            "flatten image.tar -o -",
            "flatten image.tar -o out.tar",
            "flatten image.tar dir -o out.tar",
            "flatten image.tar",
        ],
    ));
    // The same archive in all of them.
    for name in ["out.tar.gz", "out.tgz", "out.tar.zst"] {
        let output = run(&place, &["flatten", "-q", "image.tar", "-o", name]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let packed = fs::read(place.path(name)).unwrap();
        let mut unpacked = Vec::new();
        if name.ends_with("zst") {
            unpacked = zstd::decode_all(&packed[..]).unwrap();
        } else {
            flate2::read::GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).unwrap();
        }
        assert!(unpacked == written, "{name}");
    }
    let output = run(&place, &["flatten", "-q", "image.tar", "meant.tar/"]);
    assert!(output.status.success() && place.path("meant.tar/b").is_file(), "{}", text(&output.stderr));
}

#[test]
fn a_path_that_is_not_in_the_image_is_answered_with_what_became_of_it() {
    let place = place();
    fs::write(place.path("a.tar"), Tar::new().directory("d").file("d/key", "key").done()).unwrap();
    fs::write(place.path("b.tar"), Tar::new().file("d/.wh.key", "").done()).unwrap();
    assert_snapshot!(answers(
        &place,
        &[
            "ls layers:a.tar,b.tar d/key",
            "ls layers:a.tar,b.tar d/never",
            "ls layers:a.tar,b.tar never",
            "cat layers:a.tar,b.tar d/key",
            "cat layers:a.tar,b.tar never",
            "cat layers:a.tar,b.tar --layer 1 d/key",
            "log layers:a.tar,b.tar never",
            "find layers:a.tar,b.tar **/key",
        ],
    ));
}

#[test]
fn what_an_option_can_help_against_names_the_option() {
    let place = place();
    fs::create_dir_all(place.path("full/file")).unwrap();
    assert_snapshot!(answers(
        &place,
        &[
            "flatten image.tar full",
            "flatten --limit file-size=1 layers:image.tar out",
            "copy --format oci image.tar docker-archive:out.tar",
            "copy --format docker image.tar oci:out",
            "copy --compression zstd image.tar docker-archive:out.tar",
            "bundle layers:image.tar out",
        ],
    ));
}

/// A reader that goes ends the program as it ends others: by SIGPIPE, and without a word.
#[test]
fn a_reader_that_goes_ends_every_output_quietly() {
    let place = place();
    let many = (0..9000).fold(Tar::new(), |tar, index| tar.file(&format!("a-file-of-many-{index}"), ""));
    fs::write(place.path("many.tar"), many.file("large", "x".repeat(3_000_000)).done()).unwrap();
    for arguments in [
        "ls layers:many.tar",
        "ls --json layers:many.tar",
        "find layers:many.tar **",
        "find --json layers:many.tar **",
        "inspect --json --paths layers:many.tar",
        "cat layers:many.tar large",
        "grep ^x layers:many.tar",
        "copy layers:many.tar docker-archive:-",
        "copy layers:many.tar oci-archive:-",
        "squash layers:many.tar oci-archive:-",
        "flatten layers:many.tar --to tar -o -",
    ] {
        let program = layflat(&place, &[]).get_program().to_owned();
        let script =
            format!("{} {arguments} 2>said | head -c 1 >/dev/null; echo ${{PIPESTATUS[0]}}", program.display());
        let output = std::process::Command::new("bash")
            .args(["-c", &script.replace("**", "'**'")])
            .current_dir(place.directory())
            .output()
            .unwrap();
        let said = fs::read_to_string(place.path("said")).unwrap();
        assert_eq!((text(&output.stdout), said.as_str()), ("141\n", ""), "{arguments}");
    }
}
