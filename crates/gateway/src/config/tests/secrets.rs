use std::{env, fs, os::unix::fs::PermissionsExt, process::Command};

use super::*;

const SECRET: &str = "hunter2-hunter2-hunter2";

/// Set in the child of [`a_secret_comes_from_where_the_configuration_says`] alone.
const CHILD: &str = "HOLDFAST_TEST_CHILD";

fn token(value: &str) -> String {
    format!("[server]\ntokens = [{{ name = \"soc\", role = \"admin\", token = {value} }}]\n")
}

#[test]
fn a_secret_comes_from_where_the_configuration_says() {
    if env::var_os(CHILD).is_some() {
        return in_the_child();
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    fs::write(&path, format!("{SECRET}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    for value in [format!("\"{SECRET}\""), format!("{{ file = \"{}\" }}", path.display())] {
        let config = read(&token(&value)).unwrap();
        assert_eq!(config.server.tokens[0].secret.current().expose(), SECRET);
    }
    // The environment belongs to the whole process, so another one is asked.
    let test = "config::tests::secrets::a_secret_comes_from_where_the_configuration_says";
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, SECRET)
        .env("CREDENTIALS_DIRECTORY", folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{child:?}");
}

fn in_the_child() {
    for value in [format!("{{ env = \"{CHILD}\" }}"), "{ credential = \"token\" }".to_owned()] {
        let config = read(&token(&value)).unwrap();
        assert_eq!(config.server.tokens[0].secret.current().expose(), SECRET);
    }
}

#[test]
fn a_token_that_can_be_guessed_is_refused_by_its_name() {
    let short = faults(&token("\"0123456789abcde\""));
    let expected = "2 server.tokens[0].token: the token of `soc` has fewer than 16 characters";
    assert_eq!(short, [expected]);
    assert!(read(&token("\"0123456789abcdef\"")).is_ok());
    let odd = faults(&token("\"0123456789 abcdef\""));
    assert!(odd[0].ends_with("the token of `soc` holds more than visible ASCII characters"));
}

#[test]
fn a_secret_that_is_not_there_is_a_fault_with_its_place() {
    let table = [
        ("{ env = \"HOLDFAST_TEST_UNSET\" }", "variable `HOLDFAST_TEST_UNSET` is not set"),
        (
            "{ file = \"/nonexistent/token\" }",
            "the file `/nonexistent/token` cannot be read: No such",
        ),
        ("{ credential = \"a/b\" }", "`a/b` is not a credential's name"),
        ("\"\"", "the text in the configuration is empty"),
        ("{ env = 1 }", "it must be a text, { env = "),
    ];
    for (value, expected) in table {
        let faults = faults(&token(value));
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("2 server.tokens[0].token: "), "{faults:?}");
        assert!(faults[0].contains(expected), "{faults:?}");
    }
}

#[test]
fn a_secret_of_others_is_refused_with_the_remedy() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    fs::write(&path, SECRET).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let path = path.display();
    let text = format!(
        "[destinations.d]\ntype = \"webhook\"\nurl = \"http://[::1]/\"\nbearer = {{ file = \"{path}\" }}"
    );
    let faults = faults(&text);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert!(faults[0].starts_with("4 destinations.d.bearer: "), "{faults:?}");
    assert!(faults[0].ends_with(&format!("run `chmod 600 {path}`")), "{faults:?}");
}

#[test]
fn no_fault_and_no_print_shows_a_secret() {
    let webhook = |rest: &str| format!("[destinations.d]\ntype = \"webhook\"\n{rest}\n");
    let texts = [
        token(&format!("[\"{SECRET}\"]")),
        token(&format!("{{ flie = \"{SECRET}\" }}")),
        token(&format!("{{ file = [\"{SECRET}\"] }}")),
        token(&format!("\"{SECRET} \"")),
        token(&format!("\"{SECRET}\", tokn = \"{SECRET}\"")),
        token(&format!("\"{SECRET}\"").replace("r2-", "r2\\u0007-")),
        token(SECRET),
        token(&format!("\"{SECRET}")),
        format!("[server]\ntokens = [\"{SECRET}\"]"),
        format!("[server]\ntokens = \"{SECRET}\""),
        format!("[server]\ntoken = \"{SECRET}\""),
        webhook(&format!("url = \"{SECRET}\"")),
        webhook(&format!("url = \"ftp://{SECRET}@x/{SECRET}\"")),
        webhook(&format!("url = \"http://u:{SECRET}@x/\"")),
        webhook(&format!("url = \"http://[{SECRET}/\"")),
        webhook(&format!("url = \"http://x/\"\nbearer = [\"{SECRET}\"]")),
        webhook(&format!("url = \"http://x/\"\nbearer = \"a\\n{SECRET}\"")),
        webhook(&format!(
            "url = \"http://x/\"\nbasic = {{ user = \"a:b\", password = \"{SECRET}\" }}"
        )),
        webhook(&format!("url = \"http://x/\"\nheaders = {{ X = {{ y = \"{SECRET}\" }} }}")),
        webhook(&format!("url = \"http://x/\"\npasswort = \"{SECRET}\"")),
    ];
    for text in texts {
        let faults = faults(&text).concat();
        assert!(!faults.contains("hunter2"), "{text:?}: {faults}");
    }
    let config = read(
        &(token(&format!("\"{SECRET}\""))
            + &webhook(&format!("url = \"http://x/{SECRET}\"\nbearer = \"{SECRET}\""))),
    )
    .unwrap();
    assert!(!format!("{config:?}").contains("hunter2"));
}
