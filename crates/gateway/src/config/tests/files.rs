use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use super::*;

/// A configuration file in a folder of its own.
fn file(content: impl AsRef<[u8]>, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("holdfast.toml");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

/// The one fault of a file, as it is printed.
#[track_caller]
fn fault(path: &Path) -> String {
    let faults = load(path).map(|_| ()).unwrap_err();
    assert_eq!(faults.len(), 1, "{faults:?}");
    Located(path, &faults[0]).to_string()
}

#[test]
fn an_empty_file_is_a_configuration() {
    let (_folder, path) = file("", 0o644);
    let config = load(&path).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:9470");
    assert_eq!(config.server.hosts, ["localhost"]);
    assert_eq!(config.queue.path, Path::new("/var/lib/holdfast/queue"));
    assert!(config.sources.is_empty() && config.destinations.is_empty());
    assert!(!config.node.name.is_empty());
}

#[test]
fn a_file_that_is_none_is_said_so() {
    let (folder, path) = file("", 0o644);
    let missing = folder.path().join("none.toml");
    assert!(
        fault(&missing).starts_with(&format!("{}: the file cannot be read: ", missing.display()))
    );
    assert!(fault(&missing).contains("No such file"));
    assert!(fault(folder.path()).contains("the file cannot be read: Is a directory"));
    fs::write(&path, b"[node]\nname = \"a\"\n# \xff\n").unwrap();
    assert_eq!(fault(&path), format!("{}:3: it is not UTF-8 text", path.display()));
    fs::write(&path, "#".repeat(4 * 1024 * 1024 + 1)).unwrap();
    assert!(fault(&path).ends_with("it is longer than 4194304 bytes"));
    fs::write(&path, "[node]\nstate = 1\n").unwrap();
    let shown = format!("{}:2: node.state: it is a whole number, ", path.display());
    assert!(fault(&path).starts_with(&shown));
}

#[test]
fn a_file_with_a_secret_that_others_can_reach_is_refused() {
    let literal = "[server]\ntokens = [\n  { name = \"soc\", role = \"admin\", token = \"0123456789abcdef\" },\n]\n";
    #[rustfmt::skip]
    let table = [
        (0o600, None),
        (0o400, None),
        (0o640, None), // The group is this process's own.
        (0o660, Some("its group can write it")),
        (0o644, Some("everybody can read it")),
        (0o602, Some("everybody can write it")),
    ];
    for (mode, expected) in table {
        let (_folder, path) = file(literal, mode);
        let Some(exposure) = expected else {
            assert!(load(&path).is_ok(), "{mode:o}");
            continue;
        };
        let shown = path.display();
        let fault = fault(&path);
        assert!(fault.starts_with(&format!("{shown}:3: server.tokens[0].token: ")), "{fault}");
        assert!(fault.contains(exposure), "{fault}");
        assert!(fault.contains(&format!("run `chmod 600 {shown}`")), "{fault}");
        assert!(!fault.contains("0123456789abcdef"), "{fault}");
    }
}

#[test]
fn a_file_without_a_secret_may_be_read_by_everybody() {
    let (_folder, path) = file("[destinations.out]\ntype = \"stdout\"\n", 0o644);
    assert!(load(&path).is_ok());
    let (_folder, path) =
        file("[destinations.out]\ntype = \"webhook\"\nurl = \"http://[::1]/\"\n", 0o644);
    assert!(fault(&path).contains(":3: destinations.out.url: "), "an address may hold a token");
}
