//! Wazuh's contract with its integrations, argument by argument, as one table; and a script as
//! people share them.

use super::*;

/// Writes down everything that a script is given, then does what the row says.
const WRITE_DOWN: &str = r#"
{
    echo "count=$#"
    for arg in "$@"; do echo "arg=$arg"; done
    echo "cwd=$(pwd -P)"
    echo "home=$WAZUH_PATH"
    echo "stdin=$(readlink /proc/self/fd/0)"
    echo "key=$HOLDFAST_KEY"
    echo "extra=$EXTRA"
    echo "alert=$(stat -c %a "$1") $(tr '\n' '|' < "$1")"
    if [ -n "$5" ]; then echo "options=$(stat -c %a "$5") $(cat "$5")"; fi
} > "$WAZUH_PATH/seen"
"#;

struct Row {
    what: &'static str,
    settings: &'static str,
    body: &'static [u8],
    /// Arguments 2 to 8; the file of the options is written `OPTIONS`.
    arguments: &'static [&'static str],
    /// What is in the alert's file, with `|` for a line break.
    alert: &'static str,
    options: Option<&'static str>,
    extra: &'static str,
    /// What the script does then.
    end: &'static str,
    /// `None`: delivered.
    reason: Option<Reason>,
    status: Option<u16>,
    /// What the attempt keeps of its words.
    output: &'static str,
}

/// A script without settings that does nothing.
const PLAIN: Row = Row {
    what: "nothing is set",
    settings: "",
    body: b"{\"rule\": {\"level\": 3}}",
    arguments: &["", "", "", "", "10", "3", "> /dev/null 2>&1"],
    alert: "{\"rule\": {\"level\": 3}}|",
    options: None,
    extra: "",
    end: "exit 0",
    reason: None,
    status: None,
    output: "",
};

const KEYS: &str = "api_key = \"the key\"\nhook_url = \"https://h.example/a b?c=$d\"";
const REST: [&str; 4] = ["", "10", "3", "> /dev/null 2>&1"];
const TIMEOUT: Duration = Duration::from_secs(3);

#[rustfmt::skip]
const TABLE: &[Row] = &[
    PLAIN,
    Row { what: "blanks shift nothing", settings: KEYS,
        arguments: &["the key", "https://h.example/a b?c=$d", "", REST[0], REST[1], REST[2], REST[3]], ..PLAIN },
    Row { what: "debug has no last argument", settings: "debug = true",
        arguments: &["", "", "debug", "", "10", "3"], ..PLAIN },
    Row { what: "options are a file", settings: "options = '{\"a\": \"b c\"}'",
        arguments: &["", "", "", "OPTIONS", "10", "3", "> /dev/null 2>&1"],
        options: Some("600 {\"a\": \"b c\"}"), ..PLAIN },
    Row { what: "timeout and retries are whole numbers", settings: "request_timeout = \"2m\"\nrequest_retries = 0",
        arguments: &["", "", "", "", "120", "0", "> /dev/null 2>&1"], ..PLAIN },
    Row { what: "a variable of one's own", settings: "env = { EXTRA = \"x y\" }", extra: "x y", ..PLAIN },
    Row { what: "the alert is one line", body: b"{\n \"a\": \"b  c\",\r\n \"n\": 1.50 }",
        alert: "{\"a\":\"b  c\",\"n\":1.50}|", ..PLAIN },
    Row { what: "nothing in it is the shell's", body: b"{\"a\":\"$(id) `id` ' \\\" ; > x\"}",
        alert: "{\"a\":\"$(id) `id` ' \\\" ; > x\"}|", ..PLAIN },
    Row { what: "it is UTF-8", body: b"{\"a\":\"\xff\xc3\xa9\"}", alert: "{\"a\":\"\u{fffd}\u{e9}\"}|", ..PLAIN },
    Row { what: "the other format has seven lines", settings: "alert_format = \"text\"",
        body: b"{\"timestamp\":\"t\",\"location\":\"l\",\"rule\":{\"id\":\"7\",\"level\":3,\"description\":\"d\"},\"full_log\":\"a;b\",\"data\":{\"srcip\":\"10.0.0.1\"}}",
        alert: "alertdate='t'|alertlocation='l'|ruleid='7'|alertlevel='3'|ruledescription='d'|alertlog='a,b'|srcip='10.0.0.1'", ..PLAIN },
    Row { what: "words on success are no failure", end: "echo said >&2; exit 0", ..PLAIN },
    // Two pipes have no order between them, so each stream has a row of its own.
    Row { what: "1: again", end: "echo out; exit 1",
        reason: Some(Reason::ServerFault), status: Some(1), output: "out", ..PLAIN },
    Row { what: "1: again, in its words of error", end: "echo err >&2; exit 1",
        reason: Some(Reason::ServerFault), status: Some(1), output: "err", ..PLAIN },
    Row { what: "2: again, Wazuh's bad arguments", end: "exit 2", reason: Some(Reason::ServerFault), status: Some(2), ..PLAIN },
    Row { what: "75: again", end: "exit 75", reason: Some(Reason::ServerFault), status: Some(75), ..PLAIN },
    Row { what: "77: a credential", end: "exit 77", reason: Some(Reason::Unauthorized), status: Some(77), ..PLAIN },
    Row { what: "78: a setting", end: "exit 78", reason: Some(Reason::Misconfigured), status: Some(78), ..PLAIN },
    Row { what: "126: a setting", end: "exit 126", reason: Some(Reason::Misconfigured), status: Some(126), ..PLAIN },
    Row { what: "127: a setting", end: "exit 127", reason: Some(Reason::Misconfigured), status: Some(127), ..PLAIN },
    Row { what: "a code of one's own", settings: "exit_codes = { \"6\" = \"refused\" }", end: "exit 6",
        reason: Some(Reason::Refused), status: Some(6), ..PLAIN },
    Row { what: "a duplicate is delivered", settings: "exit_codes = { \"9\" = \"duplicate\" }", end: "exit 9", ..PLAIN },
    Row { what: "a signal", end: "kill -TERM $$", reason: Some(Reason::InDoubt), ..PLAIN },
    Row { what: "a secret in its words", settings: KEYS, end: "echo \"no $2 at $3\"; exit 1",
        arguments: &["the key", "https://h.example/a b?c=$d", "", REST[0], REST[1], REST[2], REST[3]],
        reason: Some(Reason::ServerFault), status: Some(1), output: "no [masked] at [masked]", ..PLAIN },
    Row { what: "too slow", end: "echo began; sleep 1000", reason: Some(Reason::InDoubt), output: "began", ..PLAIN },
    Row { what: "a child that is too slow", end: "echo began; sleep 1000 & echo $! > child; exit 0",
        reason: Some(Reason::InDoubt), output: "began", ..PLAIN },
];

#[tokio::test]
async fn the_contract_holds_argument_by_argument() {
    for row in TABLE {
        let home = Home::with(&format!("{WRITE_DOWN}\n{}", row.end));
        let slow = row.what.contains("too slow");
        let timeout = if slow { TIMEOUT } else { Duration::from_secs(60) };
        let destination = home.destination_within("custom-x", row.settings, timeout);
        let sent = destination.deliver(&shipment([alert(7, row.body)])).await;
        judge(row, &home, sent);
        assert_eq!(home.left(), 0, "{}: files stay", row.what);
        if let Ok(pid) = fs::read_to_string(home.home().join("child")) {
            ends(&pid).await;
        }
    }
}

#[track_caller]
fn judge(row: &Row, home: &Home, sent: Result<Delivered, DeliveryError>) {
    let Row { what, .. } = row;
    let seen = fs::read_to_string(home.home().join("seen")).unwrap();
    let one = |prefix: &str| lines(&seen, prefix).first().copied().unwrap_or("MISSING");
    let arguments = lines(&seen, "arg=");
    assert_eq!(one("count="), (row.arguments.len() + 1).to_string(), "{what}");
    let (file, rest) = arguments.split_first().unwrap();
    let stem = file.strip_suffix(".alert").unwrap();
    assert!(stem.starts_with(home.files().join("custom-x-").to_str().unwrap()), "{what}: {file}");
    let options = format!("{stem}.options");
    let expected: Vec<_> =
        row.arguments.iter().map(|arg| if *arg == "OPTIONS" { &*options } else { arg }).collect();
    assert_eq!(rest, expected, "{what}");
    let folder = home.home();
    let folder = folder.to_str().unwrap();
    assert_eq!((one("cwd="), one("home=")), (folder, folder), "{what}");
    assert_eq!((one("stdin="), one("key=")), ("/dev/null", "abcdefghij-7.lane"), "{what}");
    assert_eq!(one("extra="), row.extra, "{what}");
    assert_eq!(one("alert="), format!("600 {}", row.alert), "{what}");
    assert_eq!(lines(&seen, "options=").first().copied(), row.options, "{what}");
    match (sent, row.reason) {
        (Ok(Delivered::All(receipt)), None) => {
            assert_eq!(receipt.duplicate, what.contains("duplicate"), "{what}");
        }
        (Err(error), Some(reason)) => {
            assert_eq!((error.reason, error.status), (reason, row.status), "{what}");
            assert!(error.excerpt.starts_with(row.output), "{what}: {}", error.excerpt);
        }
        other => panic!("{what}: {other:?}"),
    }
}

#[tokio::test]
async fn a_binarys_name_is_integrations() {
    let home = Home::new();
    fs::copy("/bin/sleep", home.home().join("integrations/custom-x")).unwrap();
    fs::set_permissions(
        home.home().join("integrations/custom-x"),
        PermissionsExt::from_mode(0o750),
    )
    .unwrap();
    let error = home.run("", alert(1, "{}")).await.unwrap_err();
    assert!(error.excerpt.starts_with("integrations: invalid time interval"), "{}", error.excerpt);
}

#[tokio::test]
async fn a_script_of_the_community_runs_unchanged() {
    let options = "options = '{\"channel\": \"#soc\"}'";
    let table = [
        ("200 OK", options, None),
        ("200 OK", "debug = true", None),
        ("500 Oops", "", Some((Reason::ServerFault, "HTTP Error 500"))),
        ("401 Unauthorized", "debug = true", Some((Reason::ServerFault, "HTTP Error 401"))),
        (
            "200 OK",
            "options = 'no JSON'\ndebug = true",
            Some((Reason::ServerFault, "JSON options")),
        ),
    ];
    for (status, more, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", "ok"))]).await;
        let home = Home::new();
        home.write("custom-community.py", include_str!("custom-community.py"), "750");
        let hook = format!("{}/services/T0/B0", fake.url);
        let more = format!("api_key = \"s3cret-key\"\nhook_url = \"{hook}\"\n{more}");
        let destination = home.destination("custom-community.py", &more);
        let (_, member) = samples::all().swap_remove(0);
        let alert: serde_json::Value = serde_json::from_slice(&member.event.body).unwrap();
        let sent = destination.deliver(&shipment([member])).await;
        match expected {
            None => assert!(sent.is_ok(), "{status} {more}: {sent:?}"),
            Some((reason, said)) => {
                let error = sent.unwrap_err();
                assert_eq!(error.reason, reason, "{status} {more}");
                assert!(error.excerpt.contains(said), "{status}: {}", error.excerpt);
                assert!(!error.excerpt.contains("s3cret-key"), "{}", error.excerpt);
            }
        }
        let log = fs::read_to_string(home.home().join("logs/integrations.log")).unwrap();
        assert!(log.contains(".alert s3cret-key http"), "{log}");
        if more.contains("no JSON") {
            assert!(fake.seen().is_empty());
            continue;
        }
        let seen = fake.only();
        assert_eq!(seen.line, "POST /services/T0/B0 HTTP/1.1");
        assert_eq!(seen.header("x-api-key"), Some("s3cret-key"));
        let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
        assert_eq!((&body["id"], &body["text"]), (&alert["id"], &alert["full_log"]));
        let channel = if more.contains("#soc") { Some("#soc") } else { None };
        assert_eq!(body["channel"].as_str(), channel);
    }
}
