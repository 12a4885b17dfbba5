mod contract;

use std::{
    io::Write as _,
    os::unix::fs::PermissionsExt,
    process::{Command as StdCommand, Stdio as StdStdio},
    sync::Arc,
};

use holdfast_model::{Kind as EventKind, Name};
use tempfile::TempDir;

use super::{super::Context, *};
use crate::{
    http::fake::{Act, Fake, answer},
    message::samples,
    testing::{alert, build as build_kind, context, event, fault, shipment},
};

const EXAMPLE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../../config/examples/custom-example.py");

/// Shows everything a script can see, one thing a line.
const SHOW: &str = r#"
echo "cwd=$(pwd -P)"
echo "count=$#"
for arg in "$@"; do echo "arg=$arg"; done
echo "mode=$(stat -c %a "$1") folder=$(stat -c %a "$(dirname "$1")")"
echo "alert=$(cat "$1")"
if [ -n "$5" ]; then echo "options=$(cat "$5") mode=$(stat -c %a "$5")"; fi
env | sort | grep -v -e '^_=' -e '^PWD=' -e '^SHLVL=' -e '^OLDPWD=' | sed 's/^/env /'
exit 9
"#;

/// A Wazuh home of its own.
struct Home {
    root: TempDir,
}

impl Home {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("home/integrations")).unwrap();
        fs::create_dir_all(root.path().join("home/logs")).unwrap();
        Self { root }
    }

    fn with(body: &str) -> Self {
        let home = Self::new();
        home.write("custom-x", &format!("#!/bin/sh\n{body}\n"), "750");
        home
    }

    /// Written by another process: a file that this one has open for writing while a test beside
    /// it forks could not be run for a moment (ETXTBSY).
    fn write(&self, name: &str, text: &str, mode: &str) {
        let mut writer = StdCommand::new("/bin/sh")
            .args(["-c", "cat > \"$0\" && chmod \"$1\" \"$0\""])
            .arg(self.home().join("integrations").join(name))
            .arg(mode)
            .stdin(StdStdio::piped())
            .spawn()
            .unwrap();
        writer.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        assert!(writer.wait().unwrap().success());
    }

    fn home(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap().join("home")
    }

    fn files(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap().join("run/lane")
    }

    fn left(&self) -> usize {
        fs::read_dir(self.files()).map_or(0, Iterator::count)
    }

    fn destination(&self, script: &str, more: &str) -> Arc<dyn Destination> {
        self.destination_within(script, more, Duration::from_secs(60))
    }

    fn destination_within(
        &self,
        script: &str,
        more: &str,
        timeout: Duration,
    ) -> Arc<dyn Destination> {
        let root = self.root.path().canonicalize().unwrap();
        let table = format!(
            "script = \"{script}\"\nwazuh_home = \"{}\"\nruntime_dir = \"{}\"\n{more}",
            self.home().display(),
            root.join("run").display(),
        );
        build_kind(&KIND, &table, &Context { timeout, ..context() }).unwrap()
    }

    async fn run(&self, more: &str, member: Member) -> Result<Delivered, DeliveryError> {
        self.destination("custom-x", more).deliver(&shipment([member])).await
    }
}

fn lines<'a>(text: &'a str, prefix: &str) -> Vec<&'a str> {
    text.lines().filter_map(|line| line.strip_prefix(prefix)).collect()
}

#[tokio::test]
async fn the_arguments_files_and_folder_are_wazuhs() {
    let home = Home::with(SHOW);
    let body = r#"{"rule":{"level":12},"full_log":"$(touch x) `id` ' \" é"}"#;
    let more = "api_key = \"k y\"\nhook_url = \"http://h\"\noptions = '{\"a\":1}'\n\
                request_timeout = \"25s\"\nrequest_retries = 7";
    let error = home.run(more, alert(1, body)).await.unwrap_err();
    let shown = &error.excerpt;
    let args = lines(shown, "arg=");
    assert_eq!(lines(shown, "count="), ["8"], "{shown}");
    let stem = args[0].strip_suffix(".alert").unwrap();
    let name = Path::new(stem).file_name().unwrap().to_str().unwrap();
    let parts: Vec<_> = name.strip_prefix("custom-x-").unwrap().split('-').collect();
    assert!(parts.len() == 2 && parts.iter().all(|part| part.parse::<u64>().is_ok()), "{name}");
    assert_eq!(Path::new(stem).parent(), Some(home.files().as_path()));
    let options = format!("{stem}.options");
    // The address has 8 characters and is masked; the key is too short to be.
    let rest = ["k y", "[masked]", "", options.as_str(), "25", "7", "> /dev/null 2>&1"];
    assert_eq!(args[1..], rest);
    assert_eq!(lines(shown, "cwd="), [home.home().to_str().unwrap()]);
    assert_eq!(lines(shown, "mode="), ["600 folder=700"]);
    assert_eq!(lines(shown, "alert="), [body]);
    assert_eq!(lines(shown, "options="), ["[masked] mode=600"]);
    assert_eq!(home.left(), 0);
}

#[tokio::test]
async fn nothing_given_is_an_empty_argument_and_debug_has_no_last_one() {
    let home = Home::with(SHOW);
    let shown = home.run("", alert(1, "{}")).await.unwrap_err().excerpt;
    assert_eq!(lines(&shown, "arg=")[1..], ["", "", "", "", "10", "3", "> /dev/null 2>&1"]);
    let shown = home.run("debug = true", alert(1, "{}")).await.unwrap_err().excerpt;
    assert_eq!(lines(&shown, "arg=")[1..], ["", "", "debug", "", "10", "3"]);
}

#[tokio::test]
async fn the_environment_is_ours_to_give() {
    let home = Home::with(SHOW);
    let mut member = alert(7, "{}");
    (member.attempt, member.in_doubt) = (3, true);
    let error = home.run("env = { http_proxy = \"http://p\", A1 = \"x\" }", member).await;
    let shown = error.unwrap_err().excerpt;
    let mut expected = vec![
        "A1=x".to_owned(),
        "HOLDFAST_ATTEMPT=3".into(),
        "HOLDFAST_IN_DOUBT=1".into(),
        "HOLDFAST_KEY=abcdefghij-7.lane".into(),
        format!("WAZUH_PATH={}", home.home().display()),
        "http_proxy=[masked]".into(),
        format!("PATH={}", std::env::var("PATH").unwrap()),
    ];
    for name in ["HOME", "LANG"] {
        expected.extend(std::env::var(name).ok().map(|value| format!("{name}={value}")));
    }
    expected.sort();
    let mut seen = lines(&shown, "env ");
    seen.sort_unstable();
    assert_eq!(seen, expected, "cargo's own variables, for one, are not there");
}

#[tokio::test]
async fn the_file_holds_every_sample_as_one_line_of_json() {
    let home = Home::with(r#"cp "$1" "$WAZUH_PATH/seen""#);
    let destination = home.destination("custom-x", "");
    let mut members = samples::all();
    members.push(("hostile".into(), samples::hostile()));
    members.push(("a lookup".into(), event(9, EventKind::Lookup, "{\"hits\": 3}")));
    for (name, member) in members {
        let expected = body::single(&member, Shape::Bare).unwrap();
        destination.deliver(&shipment([member])).await.unwrap();
        let seen = fs::read(home.home().join("seen")).unwrap();
        assert_eq!(seen, [&expected[..], b"\n"].concat(), "{name}");
        assert_eq!(seen.iter().filter(|byte| **byte == b'\n').count(), 1, "{name}");
        serde_json::from_slice::<serde_json::Value>(&seen).expect(&name);
    }
    assert_eq!(home.left(), 0);
}

#[tokio::test]
async fn each_exit_code_has_its_meaning() {
    let changed = r#"exit_codes = { "2" = "refused", "3" = "throttled", "77" = "retry" }"#;
    #[rustfmt::skip]
    let table = [
        ("exit 1", "", Reason::ServerFault, Some(1)),
        ("exit 75", "", Reason::ServerFault, Some(75)),
        ("exit 77", "", Reason::Unauthorized, Some(77)),
        ("exit 78", "", Reason::Misconfigured, Some(78)),
        ("exit 126", "", Reason::Misconfigured, Some(126)),
        ("/no/such/program", "", Reason::Misconfigured, Some(127)),
        ("exit 255", "", Reason::ServerFault, Some(255)),
        ("exit 2", changed, Reason::Refused, Some(2)),
        ("exit 3", changed, Reason::Throttled, Some(3)),
        ("exit 77", changed, Reason::ServerFault, Some(77)),
        ("exit 78", changed, Reason::Misconfigured, Some(78)),
        ("kill -9 $$", "", Reason::InDoubt, None),
    ];
    for (script, more, expected, status) in table {
        let home = Home::with(script);
        let error = home.run(more, alert(1, "{}")).await.unwrap_err();
        assert_eq!((error.reason, error.status), (expected, status), "{script} {more}");
        assert_eq!(home.left(), 0, "{script}");
    }
    let more = r#"exit_codes = { "4" = "duplicate" }"#;
    let delivered = Home::with("exit 4").run(more, alert(1, "{}")).await.unwrap();
    assert!(matches!(delivered, Delivered::All(Receipt { duplicate: true, .. })));
}

#[tokio::test]
async fn what_cannot_be_run_is_a_wrong_setting_and_nothing_is_left() {
    #[rustfmt::skip]
    let table = [
        ("#!/bin/sh\n", "640"),
        ("#!/bin/sh\n", "770"),
        ("#!/bin/sh\n", "752"),
        ("#!/no/such/interpreter\n", "750"),
        ("no first line\n", "750"),
    ];
    for (text, mode) in table {
        let home = Home::new();
        home.write("custom-x", text, mode);
        let error = home.run("", alert(1, "{}")).await.unwrap_err();
        assert_eq!(error.reason, Reason::Misconfigured, "{text} {mode}");
        assert_eq!(home.left(), 0, "{text} {mode}");
    }
    let error = Home::new().run("", alert(1, "{}")).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured);
}

#[tokio::test]
async fn a_script_that_hangs_is_ended_in_time_and_in_doubt() {
    // How the whole group ends, and that it has time to clean up, is tested with `child`.
    let home = Home::with("trap '' TERM\nwhile :; do sleep 1; done");
    let destination = home.destination_within("custom-x", "", Duration::from_secs(1));
    let error = destination.deliver(&shipment([alert(1, "{}")])).await.unwrap_err();
    assert_eq!(error.reason, Reason::InDoubt);
    assert!(error.source.unwrap().to_string().contains("1s"));
    assert_eq!(home.left(), 0);
}

/// Waits for a process to be gone, or dead and only not yet buried by whoever inherited it.
async fn ends(pid: &str) {
    let stat = format!("/proc/{}/stat", pid.trim());
    while fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn an_attempt_that_is_given_up_leaves_neither_process_nor_file() {
    let home = Home::with(
        "sleep 1000 &\necho $! > \"$WAZUH_PATH/pid.new\"; mv \"$WAZUH_PATH/pid.new\" \"$WAZUH_PATH/pid\"\nwait",
    );
    let destination = home.destination("custom-x", "");
    let shipment = shipment([alert(1, "{}")]);
    let pid = home.home().join("pid");
    let begun = async {
        while !pid.exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        _ = destination.deliver(&shipment) => panic!("it hangs"),
        () = begun => {}
    }
    assert_eq!(home.left(), 0);
    ends(&fs::read_to_string(&pid).unwrap()).await;
}

#[tokio::test]
async fn what_a_script_says_is_kept_from_its_end_without_secrets() {
    let home = Home::with(
        "exec 2>&1; i=0; while [ $i -lt 3000 ]; do echo \"noise $2 $3\"; i=$((i+1)); done\n\
         echo \"no host for url: /services/T0/B0/token\" >&2; echo last; exit 1",
    );
    let more = "api_key = \"hunter22\"\nhook_url = \"https://h.example/services/T0/B0/token\"";
    let error = home.run(more, alert(1, "{}")).await.unwrap_err();
    assert!(error.excerpt.len() <= 4096 && error.excerpt.ends_with("last"), "{}", error.excerpt);
    assert!(error.excerpt.contains("no host for url: [masked]"), "{}", error.excerpt);
    assert!(!error.excerpt.contains("hunter22") && !error.excerpt.contains("token"));
    let error = Home::with("echo oops >&2; exit 1").run(more, alert(1, "{}")).await.unwrap_err();
    assert_eq!(error.excerpt, "oops");
}

#[tokio::test]
async fn files_that_a_killed_process_left_are_removed() {
    let home = Home::with("exit 0");
    let destination = home.destination("custom-x", "");
    destination.deliver(&shipment([alert(1, "{}")])).await.unwrap();
    let (old, new) = (home.files().join("custom-x-1-1.alert"), home.files().join("y.alert"));
    fs::write(&new, "in use by the lane before a reload").unwrap();
    fs::write(&old, "left").unwrap();
    let file = fs::File::options().write(true).open(&old).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(9)).unwrap();
    destination.deliver(&shipment([alert(2, "{}")])).await.unwrap();
    assert!(!old.exists() && new.exists());
}

#[tokio::test]
async fn a_folder_that_others_can_use_is_refused() {
    for (folder, mode) in [("run", 0o1777), ("run", 0o770), ("run/lane", 0o750)] {
        let home = Home::with("exit 0");
        fs::create_dir_all(home.files()).unwrap();
        fs::set_permissions(home.files(), PermissionsExt::from_mode(0o700)).unwrap();
        let folder = home.root.path().join(folder);
        fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
        let error = home.run("", alert(1, "{}")).await.unwrap_err();
        assert_eq!(error.reason, Reason::Misconfigured, "{folder:?}");
    }
    let home = Home::with("exit 0");
    fs::create_dir_all(home.root.path().join("run/else")).unwrap();
    std::os::unix::fs::symlink("else", home.files()).unwrap();
    let error = home.run("", alert(1, "{}")).await.unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured, "a link");
}

#[tokio::test]
async fn the_example_script_runs_unchanged() {
    let table = [
        ("200 OK", None),
        ("400 Bad Request", Some(Reason::Refused)),
        ("401 Unauthorized", Some(Reason::Unauthorized)),
        ("500 Oops", Some(Reason::ServerFault)),
    ];
    for (status, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", "said s3cret-key"))]).await;
        let home = Home::new();
        home.write("custom-example.py", &fs::read_to_string(EXAMPLE).unwrap(), "750");
        let more = format!(
            "api_key = \"s3cret-key\"\nhook_url = \"{}/hook\"\noptions = '{{\"tags\":[\"soc\"]}}'\n\
             debug = true\nexit_codes = {{ \"65\" = \"refused\" }}",
            fake.url
        );
        let destination = home.destination("custom-example.py", &more);
        let (_, member) = samples::all().swap_remove(0);
        let sent = destination.deliver(&shipment([member])).await;
        let seen = fake.seen();
        assert_eq!(seen[0].line, "POST /hook HTTP/1.1");
        assert_eq!(seen[0].header("authorization"), Some("Bearer s3cret-key"));
        let body: serde_json::Value = serde_json::from_slice(&seen[0].body).unwrap();
        assert_eq!(body["tags"][0], "soc");
        assert_eq!(body["key"], "abcdefghij-1.lane");
        assert!(body["title"].as_str().is_some_and(|title| title != "N/A"), "{body}");
        let log = fs::read_to_string(home.home().join("logs/integrations.log")).unwrap();
        assert!(log.contains("Sending: "), "{log}");
        assert_eq!(sent.as_ref().err().map(|error| error.reason), expected, "{status}");
        if let Err(error) = sent {
            assert!(error.excerpt.ends_with("said [masked]"), "{}", error.excerpt);
        }
    }
}

#[tokio::test]
async fn the_check_says_whether_the_script_can_run_and_log() {
    let home = Home::with("exit 0");
    let destination = home.destination("custom-x", "");
    let error = destination.check().await.unwrap().unwrap_err();
    assert_eq!(error.reason, Reason::Misconfigured);
    let problem = error.source.unwrap().to_string();
    assert!(problem.contains("integrations.log") && problem.contains("group wazuh"), "{problem}");
    fs::write(home.home().join("logs/integrations.log"), "").unwrap();
    assert!(destination.check().await.is_none());
    let missing = home.destination("custom-missing", "").check().await.unwrap().unwrap_err();
    assert!(missing.source.unwrap().to_string().contains("there is no script"));
}

#[test]
fn names_folders_and_codes_are_checked() {
    let context = Context { name: Name::new("lane").unwrap(), ..context() };
    #[rustfmt::skip]
    let table = [
        ("script = \"a/b\"", "without `/` and `..`"),
        ("script = \"..\"", "without `/` and `..`"),
        ("script = \"a..b\"", "without `/` and `..`"),
        ("script = \"\"", "without `/` and `..`"),
        ("wazuh_home = \"/x\"", "`script` is missing"),
        ("script = \"x\"\nwazuh_home = \"ossec\"", "wazuh_home: it must begin at the root"),
        ("script = \"x\"\nruntime_dir = \"/tmp/\"", "all users share"),
        ("script = \"x\"\nexit_codes = { \"0\" = \"retry\" }", "no exit code from 1 to 255"),
        ("script = \"x\"\nexit_codes = { \"9\" = \"ok\" }", "one of delivered, duplicate"),
        ("script = \"x\"\nenv = { \"A=B\" = \"c\" }", "no variable's name"),
        ("script = \"x\"\napi_key = \"a\\u0000b\"", "holds a NUL"),
    ];
    for (text, expected) in table {
        let problem = fault(&KIND, text, &context);
        assert!(problem.contains(expected), "{text}: {problem}");
    }
}
