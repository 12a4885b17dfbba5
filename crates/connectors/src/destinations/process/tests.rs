use std::{fs, path::Path};

use holdfast_model::{Kind as EventKind, Member, Receipt};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, event, fault, shipment},
};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/examples/process.py");

/// Reads requests into the file `seen` and answers each.
const ANSWER_EACH: &str = r#"
while IFS= read -r line; do
    printf '%s\n' "$line" >> seen
    id=${line#*'"id":"'}; id=${id%%'"'*}
    printf '{"id":"%s",%s}\n' "$id" "$1"
done
echo bye > ended
"#;

struct Place {
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    async fn until(&self, name: &str, is_so: impl Fn(&str) -> bool) -> String {
        loop {
            let text = self.read(name);
            if is_so(&text) {
                return text;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    fn shell(&self, script: &str, argument: &str, more: &str) -> Arc<dyn Destination> {
        self.shell_within(script, argument, more, Duration::from_secs(60))
    }

    fn shell_within(
        &self,
        script: &str,
        argument: &str,
        more: &str,
        timeout: Duration,
    ) -> Arc<dyn Destination> {
        let command = serde_json::json!(["/bin/sh", "-c", script, "sh", argument]);
        let folder = self.folder.path().display();
        let table = format!("command = {command}\nfolder = \"{folder}\"\n{more}");
        build_kind(&KIND, &table, &Context { timeout, ..context() }).unwrap()
    }
}

async fn send(
    destination: &Arc<dyn Destination>,
    member: Member,
) -> Result<Receipt, DeliveryError> {
    match destination.deliver(&shipment([member])).await? {
        Delivered::All(receipt) => Ok(receipt),
        Delivered::Each(_) => panic!("one event has one answer"),
    }
}

/// Sends until the program may be started again.
async fn send_patiently(
    destination: &Arc<dyn Destination>,
    seq: u64,
) -> Result<Receipt, DeliveryError> {
    loop {
        match send(destination, alert(seq, "{}")).await {
            Err(error) if error.reason == Reason::Connect => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            said => return said,
        }
    }
}

#[tokio::test]
async fn a_request_has_exactly_these_bytes() {
    let place = Place::new();
    let destination = place.shell(ANSWER_EACH, r#""outcome":"delivered""#, "");
    let mut member = alert(7, "{\"rule\": {\"level\":12},\n \"full_log\":\"é\"}");
    (member.attempt, member.in_doubt) = (3, true);
    send(&destination, member).await.unwrap();
    let expected = concat!(
        r#"{"id":"abcdefghij-7.3","key":"abcdefghij-7.lane","attempt":3,"in_doubt":true,"#,
        r#""event":{"id":"abcdefghij-7","seq":7,"alert":{"rule":{"level":12},"full_log":"é"}}}"#,
        "\n"
    );
    assert_eq!(place.read("seen"), expected);
}

#[tokio::test]
async fn every_sample_is_one_line_and_they_keep_their_order() {
    let place = Place::new();
    let destination = place.shell(ANSWER_EACH, r#""outcome":"delivered""#, "window = 1");
    let mut members: Vec<_> = samples::all().into_iter().map(|(_, member)| member).collect();
    members.push(samples::hostile());
    members.push(event(100, EventKind::Lookup, "{\"hits\": 3}"));
    members.push(event(101, EventKind::Callback, "{oops"));
    for member in &members {
        send(&destination, member.clone()).await.unwrap();
    }
    let seen = place.read("seen");
    assert_eq!(seen.lines().count(), members.len());
    for (line, member) in seen.lines().zip(&members) {
        let request: Value = serde_json::from_str(line).unwrap();
        assert_eq!(request["key"], member.key);
        assert_eq!(request["event"]["id"], member.id.to_string());
        let body = ["alert", "data"].iter().filter(|name| !request["event"][**name].is_null());
        assert_eq!(body.count(), 1, "{line}");
    }
}

#[tokio::test]
async fn the_answers_of_a_lookup_are_objects_and_not_too_many_and_others_have_none() {
    let many: Vec<_> = (0..20).map(|n| serde_json::json!({ "n": n })).collect();
    let many = Value::from(many);
    #[rustfmt::skip]
    let table = [
        (r#""answers":[{"integration":"own"},7,"x",{}]"#.to_owned(), 2),
        (format!(r#""answers":{many}"#),                             16),
        (r#""answers":{"a":1}"#.to_owned(),                          0),
        (r#""answers":null"#.to_owned(),                             0),
    ];
    for (said, count) in table {
        let said = format!(r#""outcome":"delivered",{said}"#);
        let place = Place::new();
        let lookup = place.shell(ANSWER_EACH, &said, "lookup = true");
        assert!(lookup.is_lookup());
        let answers = send(&lookup, alert(1, "{}")).await.unwrap().answers;
        assert_eq!(answers.len(), count, "{said}");
        let plain = place.shell(ANSWER_EACH, &said, "");
        assert!(!plain.is_lookup());
        assert!(send(&plain, alert(1, "{}")).await.unwrap().answers.is_empty());
    }
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    let wait = |seconds| Some(Duration::from_secs(seconds));
    #[rustfmt::skip]
    let table = [
        (r#""outcome":"retry","message":"m""#, Reason::ServerFault, None, "m"),
        (r#""outcome":"throttled","retry_after_seconds":30"#, Reason::Throttled, wait(30), ""),
        (r#""outcome":"throttled","retry_after_seconds":-1"#, Reason::Throttled, None, ""),
        (r#""outcome":"throttled","retry_after_seconds":"x""#, Reason::Throttled, None, ""),
        (r#""outcome":"throttled","retry_after_seconds":1e300"#, Reason::Throttled, Some(crate::http::RETRY_AFTER_MAX), ""),
        (r#""outcome":"refused","message":"no hunter22"#, Reason::BadAnswer, None, ""),
        (r#""outcome":"refused","message":"no hunter22!""#, Reason::Refused, None, "no [masked]!"),
        (r#""outcome":"unauthorized""#, Reason::Unauthorized, None, ""),
        (r#""outcome":"misconfigured","more":[1]"#, Reason::Misconfigured, None, ""),
        (r#""outcome":"ok hunter22""#, Reason::BadAnswer, None, r#"{"id":"abcdefghij-1.1","outcome":"ok [masked]"}"#),
        (r#""outcome":7"#, Reason::BadAnswer, None, r#"{"id":"abcdefghij-1.1","outcome":7}"#),
        (r#""x":1"#, Reason::BadAnswer, None, r#"{"id":"abcdefghij-1.1","x":1}"#),
    ];
    for (said, reason, retry_after, excerpt) in table {
        let place = Place::new();
        let destination = place.shell(ANSWER_EACH, said, "env = { KEY = \"hunter22\" }");
        let error = send(&destination, alert(1, "{}")).await.unwrap_err();
        assert_eq!((error.reason, error.retry_after), (reason, retry_after), "{said}");
        assert!(!error.excerpt.contains("hunter22"), "{said}");
        if !excerpt.is_empty() {
            assert_eq!(error.excerpt, excerpt, "{said}");
        }
    }
}

#[tokio::test]
async fn a_receipt_has_their_id_and_says_what_was_there_before() {
    let table = [
        (r#""outcome":"delivered","remote_id":"T-1""#, Some("T-1"), false),
        (r#""outcome":"delivered","remote_id":17"#, Some("17"), false),
        (r#""outcome":"delivered","remote_id":null"#, None, false),
        (r#""outcome":"duplicate","remote_id":"T 2\n""#, Some("T 2"), true),
    ];
    for (said, remote_id, duplicate) in table {
        let receipt = send(&Place::new().shell(ANSWER_EACH, said, ""), alert(1, "{}")).await;
        let receipt = receipt.unwrap();
        assert_eq!((receipt.remote_id.as_deref(), receipt.duplicate), (remote_id, duplicate));
    }
}

#[tokio::test]
async fn no_more_events_than_the_window_are_with_it_and_answers_may_come_in_any_order() {
    let place = Place::new();
    let script = r#"
        read_one() { IFS= read -r line; printf '%s\n' "$line" >> seen; id=${line#*'"id":"'}; id=${id%%'"'*}; }
        say() { printf '{"id":"%s","outcome":"delivered","remote_id":"%s"}\n' "$1" "$1"; }
        read_one; first=$id; read_one; second=$id
        while [ ! -e go ]; do sleep 0.01; done
        say "$second"; say nobody; say "$first"; echo
        read_one; say "$id"; cat > /dev/null
    "#;
    let destination = place.shell(script, "", "window = 2");
    let sends: Vec<_> = (1..=3)
        .map(|seq| {
            let destination = Arc::clone(&destination);
            tokio::spawn(async move { send(&destination, alert(seq, "{}")).await })
        })
        .collect();
    place.until("seen", |seen| seen.lines().count() == 2).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(place.read("seen").lines().count(), 2);
    fs::write(place.path("go"), "").unwrap();
    for (seq, task) in (1..).zip(sends) {
        let receipt = task.await.unwrap().unwrap();
        assert_eq!(receipt.remote_id, Some(format!("abcdefghij-{seq}.1")), "its own answer");
    }
}

#[tokio::test]
async fn a_program_that_dies_leaves_doubt_and_is_started_again_later() {
    let place = Place::new();
    let script = format!(
        "echo x >> starts\n\
         if [ $(wc -l < starts) = 1 ]; then read -r line; echo \"boom $KEY\" >&2; exit 3; fi\n{ANSWER_EACH}"
    );
    let more = "env = { KEY = \"hunter22\" }";
    let destination = place.shell(&script, r#""outcome":"delivered""#, more);
    let error = send(&destination, alert(1, "{}")).await.unwrap_err();
    assert_eq!(error.reason, Reason::InDoubt);
    assert_eq!(error.excerpt, "the program ended (exit status: 3)\nboom [masked]");
    let error = send(&destination, alert(2, "{}")).await.unwrap_err();
    assert_eq!(error.reason, Reason::Connect);
    send_patiently(&destination, 2).await.unwrap();
    assert_eq!(place.read("starts").lines().count(), 2);
    assert!(place.read("seen").contains("abcdefghij-2.1"));
}

#[test]
fn each_start_waits_longer_until_there_is_an_answer() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let _here = runtime.enter();
    let group = || {
        let mut command = Command::new("/bin/sh");
        Group::start(command.args(["-c", "exit 0"]).stdin(Stdio::piped())).unwrap()
    };
    let run = || Run {
        group: group(),
        variables: Arc::new(no_variables()),
        lane: "lane".into(),
        close_wait: Duration::ZERO,
    };
    let restart_max = Duration::from_secs(5);
    let mut state = State { running: None, restart_max, failures: 0, next_start: None };
    for seconds in [1, 2, 4, 5, 5] {
        let running = running::look_after(run(), 1, |_| {});
        state.running = Some(Arc::clone(&running));
        let before = Instant::now();
        state.forget(&running);
        let wait = state.next_start.unwrap() - before;
        assert_eq!(wait.as_secs_f64().round() as u64, seconds);
        state.forget(&running);
        assert!(state.running.is_none());
    }
}

fn no_variables() -> Variables {
    let faults = std::cell::RefCell::default();
    Variables::read(&Section::new("", 1, &[], &faults)).unwrap()
}

#[tokio::test]
async fn garbage_ends_the_program_and_is_shown() {
    let long = "head -c 70000 /dev/zero | tr '\\0' x; echo";
    for say in ["echo 'hello hunter22'", "echo '{\"outcome\":\"delivered\"}'", "echo '[]'", long] {
        let place = Place::new();
        let script = format!("echo $$ > pid; read -r line; {say}; while :; do sleep 1; done");
        let destination = place.shell(&script, "", "env = { KEY = \"hunter22\" }");
        let error = send(&destination, alert(1, "{}")).await.unwrap_err();
        assert_eq!(error.reason, Reason::BadAnswer, "{say}");
        assert!(!error.excerpt.is_empty() && error.excerpt.len() <= 4096, "{say}");
        assert!(!error.excerpt.contains("hunter22"), "{say}");
        ends(&place.read("pid")).await;
    }
}

/// Waits for a process to be gone, or dead and only not yet buried.
async fn ends(pid: &str) {
    let stat = format!("/proc/{}/stat", pid.trim());
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_program_that_hangs_is_ended_with_all_it_started() {
    let place = Place::new();
    let script = "sleep 1000 & echo $! > child; echo $$ > pid; while :; do sleep 1; done";
    let timeout = Duration::from_secs(3);
    let destination = place.shell_within(script, "", "", timeout);
    let error = send(&destination, alert(1, "{}")).await.unwrap_err();
    assert_eq!(error.reason, Reason::InDoubt);
    ends(&place.until("pid", |pid| pid.ends_with('\n')).await).await;
    ends(&place.read("child")).await;
}

#[tokio::test]
async fn a_program_that_answers_others_is_left_alone() {
    let place = Place::new();
    // It never answers event 1.
    let script = r#"
        echo x >> starts
        while IFS= read -r line; do
            id=${line#*'"id":"'}; id=${id%%'"'*}
            [ "$id" = abcdefghij-1.1 ] || printf '{"id":"%s","outcome":"delivered"}\n' "$id"
        done
    "#;
    let destination = place.shell_within(script, "", "", Duration::from_secs(3));
    let (silent, answered) =
        tokio::join!(send(&destination, alert(1, "{}")), send(&destination, alert(2, "{}")),);
    assert_eq!(silent.unwrap_err().reason, Reason::InDoubt);
    answered.unwrap();
    send(&destination, alert(3, "{}")).await.unwrap();
    assert_eq!(place.read("starts").lines().count(), 1);
}

#[tokio::test]
async fn a_program_that_was_asked_late_does_not_hang() {
    let place = Place::new();
    // Both ends of the comparison are seconds apart, so that a slow machine changes nothing.
    let slow = ANSWER_EACH.replace("\n    id=", "\n    sleep 4\n    id=");
    let script = format!("echo x >> starts{slow}");
    let said = r#""outcome":"delivered""#;
    let destination = place.shell_within(&script, said, "window = 1", Duration::from_secs(7));
    let (first, second) =
        tokio::join!(send(&destination, alert(1, "{}")), send(&destination, alert(2, "{}")),);
    first.unwrap();
    assert_eq!(second.unwrap_err().reason, Reason::InDoubt, "it had too little time");
    // Its late answer is not taken for this one's, and no other program has been started.
    let receipt = send(&destination, alert(3, "{}")).await;
    assert!(receipt.is_ok(), "{receipt:?}");
    assert_eq!(place.read("starts").lines().count(), 1);
}

#[tokio::test]
async fn what_cannot_be_started_is_a_wrong_setting() {
    for program in ["/no/such/program", "/etc/passwd", "/"] {
        let table = format!("command = \"{program}\"");
        let destination = build_kind(&KIND, &table, &context()).unwrap();
        let error = send(&destination, alert(1, "{}")).await.unwrap_err();
        assert_eq!(error.reason, Reason::Misconfigured, "{program}");
    }
}

#[tokio::test]
async fn the_environment_is_ours_to_give() {
    let place = Place::new();
    let script = format!("env | sort > env\n{ANSWER_EACH}");
    let destination = place.shell(&script, r#""outcome":"delivered""#, "env = { A = \"b\" }");
    send(&destination, alert(1, "{}")).await.unwrap();
    let allowed = ["A", "PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"];
    let env = place.read("env");
    assert!(env.contains("A=b\n"));
    for line in env.lines() {
        let (name, _) = line.split_once('=').unwrap();
        assert!(allowed.contains(&name), "{line}");
    }
}

#[tokio::test]
async fn a_new_secret_starts_a_new_program_and_the_old_one_ends_with_its_input() {
    let place = Place::new();
    fs::write(place.path("secret"), "one-one").unwrap();
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    fs::set_permissions(place.path("secret"), mode).unwrap();
    let script = format!("echo \"$KEY\" >> keys\n{ANSWER_EACH}");
    let more = format!("env = {{ KEY = {{ file = \"{}\" }} }}", place.path("secret").display());
    let destination = place.shell(&script, r#""outcome":"delivered""#, &more);
    send(&destination, alert(1, "{}")).await.unwrap();
    assert!(!destination.refresh_secrets().unwrap());
    fs::write(place.path("secret"), "two-two").unwrap();
    assert!(destination.refresh_secrets().unwrap());
    // The new one is not made to wait because the old one ended.
    send(&destination, alert(2, "{}")).await.unwrap();
    assert_eq!(place.read("keys"), "one-one\ntwo-two\n");
    place.until("ended", |text| text == "bye\n").await;
}

#[tokio::test]
async fn a_destination_that_goes_lets_its_program_finish() {
    let place = Place::new();
    let destination = place.shell(ANSWER_EACH, r#""outcome":"delivered""#, "");
    send(&destination, alert(1, "{}")).await.unwrap();
    assert!(!place.path("ended").exists());
    drop(destination);
    place.until("ended", |text| text == "bye\n").await;
}

#[tokio::test]
async fn the_example_program_works() {
    let table = [
        ("201 Created", "Location: /alerts/7\r\n", Ok((Some("/alerts/7"), false))),
        ("409 Conflict", "", Ok((None, true))),
        ("429 Too Many Requests", "Retry-After: 9\r\n", Err(Reason::Throttled)),
        ("400 Bad Request", "", Err(Reason::Refused)),
        ("401 Unauthorized", "", Err(Reason::Unauthorized)),
        ("503 Oops", "", Err(Reason::ServerFault)),
    ];
    assert!(Path::new(EXAMPLE).is_file());
    for (status, headers, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, headers, "said"))]).await;
        let table = format!(
            "command = [\"python3\", \"{EXAMPLE}\"]\nenv = {{ URL = \"{}/alerts\" }}",
            fake.url
        );
        let context = Context { timeout: Duration::from_secs(60), ..context() };
        let destination = build_kind(&KIND, &table, &context).unwrap();
        let said = send(&destination, alert(1, r#"{"rule":{"level":3}}"#)).await;
        let seen = fake.seen();
        assert_eq!(seen[0].line, "POST /alerts HTTP/1.1");
        assert_eq!(seen[0].header("idempotency-key"), Some("abcdefghij-1.lane"));
        let body: Value = serde_json::from_slice(&seen[0].body).unwrap();
        assert_eq!(body["alert"]["rule"]["level"], 3);
        match (said, expected) {
            (Ok(receipt), Ok((remote_id, duplicate))) => {
                assert_eq!(receipt.remote_id.as_deref(), remote_id, "{status}");
                assert_eq!(receipt.duplicate, duplicate, "{status}");
            }
            (Err(error), Err(reason)) => {
                assert_eq!((error.reason, error.excerpt.as_str()), (reason, "said"), "{status}");
                let throttled = (reason == Reason::Throttled).then(|| Duration::from_secs(9));
                assert_eq!(error.retry_after, throttled);
            }
            (said, _) => panic!("{status}: {said:?}"),
        }
    }
}

#[test]
fn commands_and_folders_are_checked() {
    #[rustfmt::skip]
    let table = [
        ("window = 1", "`command` is missing"),
        ("command = []", "it names no program"),
        ("command = \"\"", "it names no program"),
        ("command = [\"a\", \"\\u0000\"]", "holds a NUL"),
        ("command = \"a\"\nfolder = \"b\"", "folder: it must begin at the root"),
        ("command = \"a\"\nwindow = 0", "0 is not within 1 to 1000"),
        ("command = \"a\"\nrestart_max = \"2h\"", "not within 1s to 1h"),
    ];
    for (text, expected) in table {
        let problem = fault(&KIND, text, &context());
        assert!(problem.contains(expected), "{text}: {problem}");
    }
}
