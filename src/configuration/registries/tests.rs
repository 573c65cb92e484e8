use super::*;

fn read(text: &str) -> Registries {
    let mut registries = Registries::default();
    registries.add(Path::new("/a.conf"), text, true).unwrap();
    registries
}

fn places(registries: &Registries, name: &str) -> Vec<String> {
    let name: ImageName = name.parse().unwrap();
    let by_digest = name.digest().is_some();
    let endpoints = registries.pull(&name).unwrap();
    endpoints.iter().filter(|place| place.pulls.suits(by_digest)).map(|place| whole(&place.name)).collect()
}

fn digest() -> String {
    format!("@sha256:{}", "0".repeat(64))
}

#[test]
fn the_longest_prefix_counts_and_ends_at_a_component() {
    let registries = read(
        "[[registry]]\nprefix = 'a.io'\nlocation = 'b.io/all'\n\
         [[registry]]\nprefix = 'a.io/team'\nlocation = 'c.io/'\n\
         [[registry]]\nprefix = '*.d.io'\nlocation = 'e.io/d'\n",
    );
    for (name, expected) in [
        ("a.io/x:1", "b.io/all/x"),
        ("a.io/team/x:1", "c.io/x"),
        ("a.io/teams/x:1", "b.io/all/teams/x"),
        ("a.io:5000/x", "b.io/all:5000/x"),
        ("x.y.d.io/z", "e.io/d/z"),
        ("d.io/z", "d.io/z"),
        ("f.io/x.d.io/z", "f.io/x.d.io/z"),
        ("alpine", "docker.io/library/alpine"),
    ] {
        if name.contains(":5000") {
            // What a port does behind a location with a path makes no name, and is not guessed at.
            let error = registries.pull(&name.parse().unwrap()).unwrap_err().to_string();
            assert!(error.contains("b.io/all:5000/x"), "{error}");
            continue;
        }
        assert_eq!(places(&registries, name), [expected], "{name}");
    }
}

#[test]
fn mirrors_come_first_and_each_for_what_it_is() {
    let registries = read(
        "[[registry]]\nlocation = 'docker.io'\n\
         [[registry.mirror]]\nlocation = 'm.io/hub'\n\
         [[registry.mirror]]\nlocation = 'digest.io'\npull-from-mirror = 'digest-only'\n\
         [[registry.mirror]]\nlocation = 'tag.io'\npull-from-mirror = 'tag-only'\ninsecure = true\n",
    );
    assert_eq!(
        places(&registries, "alpine:3"),
        ["m.io/hub/library/alpine", "tag.io/library/alpine", "docker.io/library/alpine"]
    );
    let name = format!("alpine{}", digest());
    assert_eq!(
        places(&registries, &name),
        ["m.io/hub/library/alpine", "digest.io/library/alpine", "docker.io/library/alpine"]
    );
    let insecure: Vec<bool> =
        registries.pull(&name.parse().unwrap()).unwrap().iter().map(|place| place.insecure).collect();
    assert_eq!(insecure, [false, false, true, false]);

    let registries =
        read("[[registry]]\nlocation = 'a.io'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'm.io'\n");
    assert_eq!(places(&registries, "a.io/x"), ["a.io/x"]);
    assert_eq!(places(&registries, &format!("a.io/x{}", digest())), ["m.io/x", "a.io/x"]);
}

#[test]
fn what_is_blocked_is_blocked_by_either_name_and_its_mirrors_are_not() {
    let registries = read(
        "[[registry]]\nlocation = 'a.io'\nblocked = true\n[[registry.mirror]]\nlocation = 'm.io'\n\
         [[registry]]\nprefix = 'b.io'\nlocation = 'a.io'\nblocked = true\n",
    );
    let blocked = |name: &str| -> Vec<bool> {
        registries.pull(&name.parse().unwrap()).unwrap().iter().map(|place| place.blocked.is_some()).collect()
    };
    assert_eq!(blocked("a.io/x"), [false, true]);
    assert_eq!(blocked("b.io/x"), [true]);
    assert_eq!(blocked("m.io/x"), [false]);
    assert!(registries.push(&"a.io/x".parse().unwrap()).blocked.is_some());
}

#[test]
fn a_later_file_replaces_a_prefix_and_adds_the_others() {
    let mut registries =
        read("[[registry]]\nlocation = 'a.io'\nblocked = true\n[[registry]]\nlocation = 'b.io'\nblocked = true\n");
    registries.add(Path::new("/b.conf"), "[[registry]]\nlocation = 'a.io'\n", false).unwrap();
    assert_eq!(registries.push(&"a.io/x".parse().unwrap()).blocked, None);
    assert_eq!(
        registries.push(&"b.io/x".parse().unwrap()).blocked,
        Some(("b.io".to_owned(), PathBuf::from("/a.conf")))
    );
}

#[test]
fn short_names_are_only_ever_suggested() {
    let mut registries = read(
        "unqualified-search-registries = ['docker.io', 'quay.io']\n[aliases]\nfedora = 'registry.fedoraproject.org/fedora'\n",
    );
    let meant = |registries: &Registries, word| registries.meant_by(word).unwrap_or_default();
    assert_eq!(
        meant(&registries, "fedora:40"),
        "docker://registry.fedoraproject.org/fedora:40, the alias of \"fedora\" in \"/a.conf\""
    );
    assert_eq!(
        meant(&registries, "x:1"),
        "docker://x:1 or docker://quay.io/x:1 (the unqualified-search-registries of \"/a.conf\")"
    );
    assert_eq!(registries.meant_by("image.tar"), None);
    assert_eq!(places(&registries, "fedora"), ["docker.io/library/fedora"]);
    // An empty one takes an earlier one back.
    registries
        .add(Path::new("/b.conf"), "unqualified-search-registries = []\n[aliases]\nfedora = ''\n", false)
        .unwrap();
    assert_eq!(registries.meant_by("fedora"), None);
}

#[test]
fn version_1_is_read_as_containers_image_reads_it() {
    let old = "[registries.search]\nregistries = ['docker.io']\n[registries.insecure]\nregistries = ['a.io']\n\
               [registries.block]\nregistries = ['b.io']\n";
    let registries = read(old);
    assert!(registries.push(&"a.io/x".parse().unwrap()).insecure);
    assert!(registries.push(&"b.io/x".parse().unwrap()).blocked.is_some());
    let problem =
        |text: &str, is_main| Registries::default().add(Path::new("/a.conf"), text, is_main).unwrap_err().to_string();
    assert!(problem(old, false).contains("version 1"));
    assert!(problem(&format!("{old}[[registry]]\nlocation = 'c.io'\n"), true).contains("are mixed"));
}

#[test]
fn what_is_wrong_is_said_with_its_line() {
    for (text, expected) in [
        ("\n[[registry]\n", "\"/a.conf\" line 2: "),
        (
            "[[registry]]\nlocation = 'a.io'\nblocked = 'yes'\n",
            "line 3: invalid type: string \"yes\", expected a boolean",
        ),
        ("[[registry]]\n", "line 1: a [[registry]] needs a prefix or a location"),
        ("\n[[registry]]\nprefix = 'a.io'\n", "line 2: the [[registry]] of the prefix \"a.io\" needs a location"),
        ("[[registry]]\nlocation = 'https://a.io'\n", "must not begin with a scheme"),
        ("[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\ninsecure = true\n", "needs a location"),
        (
            "[[registry]]\nlocation = 'a.io'\n[[registry.mirror]]\nlocation = 'b.io'\npull-from-mirror = 'never'\n",
            "expected all, digest-only or tag-only",
        ),
        ("[[registry]]\nlocation = 'a.io'\npull-from-mirror = 'all'\n", "belongs into a [[registry.mirror]]"),
        (
            "[[registry]]\nlocation = 'a.io'\nmirror-by-digest-only = true\n[[registry.mirror]]\nlocation = 'b.io'\npull-from-mirror = 'all'\n",
            "mirror-by-digest-only",
        ),
        (
            "[[registry]]\nlocation = 'a.io'\nblocked = true\n[[registry]]\nprefix = 'b.io'\nlocation = 'a.io'\n",
            "not all have blocked = true",
        ),
        ("unqualified-search-registries = ['a.io/b']\n", "which is not HOST[:PORT]"),
    ] {
        let error = Registries::default().add(Path::new("/a.conf"), text, true).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    // A location without a host is not Docker Hub's.
    let registries = read("[[registry]]\nprefix = 'a.io'\nlocation = 'mirror'\n");
    assert!(registries.pull(&"a.io/x".parse().unwrap()).unwrap_err().to_string().contains("\"mirror/x\""));
}

#[test]
fn keys_are_known_in_any_case_and_the_others_are_named() {
    let registries = read(
        "short-name-mode = 'disabled'\ncredential-helpers = ['containers-auth.json', 'x']\nother = 1\n\
         [[registry]]\nLocation = 'a.io'\nBLOCKED = true\nblockd = true\n\
         [[registry.mirror]]\nlocation = 'b.io'\nblocked = true\n",
    );
    assert_eq!(registries.pull(&"a.io/x".parse().unwrap()).unwrap().len(), 2);
    assert!(registries.push(&"a.io/x".parse().unwrap()).blocked.is_some());
    let note = |key: &str| format!("\"/a.conf\": {key} is not supported and is ignored");
    let keys = ["other", "credential-helpers", "[[registry]] blockd", "[[registry.mirror]] blocked"];
    assert_eq!(registries.notes(), keys.map(note));
}
