use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

/// A file of its own, and the folder that holds it.
fn secret_file(content: impl AsRef<[u8]>, mode: u32) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, content).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    (folder, path)
}

fn spec(path: &Path) -> SecretSpec {
    SecretSpec::File(path.to_str().unwrap().to_owned())
}

fn resolve(path: &Path) -> Result<String, String> {
    match LiveSecret::resolve(&spec(path)) {
        Ok(secret) => Ok(secret.current().expose().to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

#[test]
fn one_line_break_at_the_end_is_cut_and_nothing_else() {
    let table = [
        ("s", "s"),
        ("s\n", "s"),
        ("s\r\n", "s"),
        ("s\n\n", "s\n"),
        (" s \n", " s "),
        ("a\nb", "a\nb"),
    ];
    for (content, expected) in table {
        let (_folder, path) = secret_file(content, 0o600);
        assert_eq!(resolve(&path).as_deref(), Ok(expected), "{content:?}");
    }
}

#[test]
fn a_file_that_others_can_read_is_refused_with_the_remedy_and_without_the_value() {
    let (_folder, path) = secret_file("hunter2", 0o644);
    let shown = path.display();
    let expected = format!(
        "the file `{shown}` is refused, because everybody can read it; run `chmod 600 {shown}`"
    );
    assert_eq!(resolve(&path), Err(expected.clone()));
    assert_eq!(check_config_file(&path).unwrap_err().to_string(), expected);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(resolve(&path).as_deref(), Ok("hunter2"));
    assert!(check_config_file(&path).is_ok());
}

#[test]
fn the_target_of_a_link_is_judged() {
    // A link's own mode is always 0777.
    let (folder, path) = secret_file("hunter2", 0o600);
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(&path, &link).unwrap();
    assert_eq!(resolve(&link).as_deref(), Ok("hunter2"));
    fs::set_permissions(&path, fs::Permissions::from_mode(0o604)).unwrap();
    assert!(resolve(&link).unwrap_err().contains("everybody can read it"));
}

#[test]
fn what_is_no_secret_is_refused() {
    let (folder, path) = secret_file("\n", 0o600);
    assert!(resolve(&path).unwrap_err().ends_with("is empty"));
    fs::write(&path, b"hunter2\xff").unwrap();
    assert!(resolve(&path).unwrap_err().ends_with("is not UTF-8 text"));
    fs::write(&path, "x".repeat(SECRET_BYTES_MAX) + "\r\n").unwrap();
    assert_eq!(resolve(&path).unwrap().len(), SECRET_BYTES_MAX);
    fs::write(&path, "x".repeat(SECRET_BYTES_MAX + 1)).unwrap();
    assert!(resolve(&path).unwrap_err().contains("more than"));
    fs::write(&path, "x".repeat(SECRET_BYTES_MAX * 3)).unwrap();
    assert!(resolve(&path).unwrap_err().contains("more than"));
    assert!(resolve(folder.path()).unwrap_err().ends_with("is not a regular file"));
    assert!(resolve(&folder.path().join("none")).unwrap_err().ends_with("cannot be read"));
    let pipe = folder.path().join("pipe");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &pipe,
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    assert!(resolve(&pipe).unwrap_err().ends_with("is not a regular file"), "and did not hang");
}

#[test]
fn the_environment_and_systemd_are_asked_by_name() {
    let home = LiveSecret::resolve(&SecretSpec::Env("PATH".into())).unwrap();
    assert_eq!(home.current().expose(), env::var("PATH").unwrap());
    assert!(!home.refresh().unwrap());
    let error = |spec| LiveSecret::resolve(&spec).unwrap_err().to_string();
    let unset = error(SecretSpec::Env("HOLDFAST_TEST_UNSET".into()));
    assert!(unset.starts_with("the environment variable `HOLDFAST_TEST_UNSET` is not set"));
    assert!(error(SecretSpec::Env("A=B".into())).contains("is not set"));
    assert!(error(SecretSpec::Env(String::new())).contains("is not set"));
    for bad in ["", "..", ".", "a/b", "/etc/shadow"] {
        assert!(error(SecretSpec::Credential(bad.into())).contains("not a credential's name"));
    }
    if env::var_os(CREDENTIALS_DIRECTORY).is_none() {
        let none = error(SecretSpec::Credential("slack".into()));
        assert!(none.contains("LoadCredential=slack:"), "{none}");
    }
    let literal = SecretSpec::Literal(Secret::new(""));
    assert_eq!(error(literal), "the text in the configuration is empty");
}

#[test]
fn a_refresh_takes_the_new_value_and_a_failing_one_keeps_the_old() {
    let (_folder, path) = secret_file("old", 0o600);
    let secret = LiveSecret::resolve(&spec(&path)).unwrap();
    assert!(!secret.refresh().unwrap(), "nothing changed");
    fs::write(&path, "new\n").unwrap();
    assert!(secret.refresh().unwrap());
    assert_eq!(secret.current().expose(), "new");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    assert!(secret.refresh().is_err());
    fs::remove_file(&path).unwrap();
    assert!(secret.refresh().is_err());
    assert_eq!(secret.current().expose(), "new");
}

#[test]
fn a_secret_that_could_forge_a_header_is_refused_and_none_is_printed() {
    for bad in ["a\r\nX-Evil: 1", "a\nb", "a\0b", "a\x1bb"] {
        let secret = LiveSecret::resolve(&SecretSpec::Literal(Secret::new(bad))).unwrap();
        let error = secret.header("Bearer ").unwrap_err();
        assert!(matches!(error, SecretError::NotForHeaders(Place::Configuration)), "{bad:?}");
    }
    let secret = LiveSecret::resolve(&SecretSpec::Literal(Secret::new("hunter2"))).unwrap();
    let value = secret.header("Bearer ").unwrap();
    assert_eq!(value.as_bytes(), b"Bearer hunter2");
    assert!(!format!("{value:?} {secret:?}").contains("hunter2"));
}
