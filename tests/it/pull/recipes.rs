//! The recipes of `docs/pull`, run as they stand there.

use std::{fs, path::Path, process::Command};

use serde_json::{Value, json};

use super::{ack, ids, kept, made, next, numbers};
use crate::support::{Gateway, alerts, config::TOKEN};

fn recipe(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/pull").join(name);
    path.display().to_string()
}

/// What it printed, once it ended well.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn numbers_of(lines: &str) -> Vec<u64> {
    let event = |line| serde_json::from_str::<Value>(line).unwrap();
    lines.lines().map(|line| event(line)["alert"]["number"].as_u64().unwrap()).collect()
}

#[test]
fn splunk_s_scripted_input_writes_every_event_once_over_restarts() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..1_500));
    let file = |name: &str| gateway.config.file(name).display().to_string();
    let (settings, token, cursor) = (file("splunk.json"), file("token"), file("cursor"));
    fs::write(&token, format!("{TOKEN}\n")).unwrap();
    let write = |gateway: &Gateway| {
        let url = format!("http://127.0.0.1:{}", gateway.port);
        let text = json!({"url": url, "token_file": token, "cursor_file": cursor});
        fs::write(&settings, text.to_string()).unwrap();
    };
    let pull =
        || run(Command::new("python3").arg(recipe("splunk/holdfast_pull.py")).arg(&settings));
    write(&gateway);
    assert_eq!(numbers_of(&pull()), (0..1_500).collect::<Vec<_>>());
    assert_eq!(pull(), "");
    gateway.kill();
    let down = Command::new("python3")
        .arg(recipe("splunk/holdfast_pull.py"))
        .arg(&settings)
        .output()
        .unwrap();
    assert_eq!((down.status.code(), down.stdout.as_slice()), (Some(1), &b""[..]));
    gateway.restart();
    write(&gateway);
    gateway.accept(&alerts::ndjson(1_500..1_510));
    assert_eq!(numbers_of(&pull()), (1_500..1_510).collect::<Vec<_>>());
    gateway.finish();
}

#[test]
fn the_shell_s_loop_writes_every_event_once_over_restarts() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..1_200));
    let cursor = gateway.config.file("cursor");
    let pull = |gateway: &Gateway| {
        let url = format!("http://127.0.0.1:{}", gateway.port);
        let mut command = Command::new("sh");
        command.arg(recipe("pull.sh")).arg(&cursor).arg("level=0");
        run(command.env("HOLDFAST_URL", url).env("HOLDFAST_TOKEN", TOKEN))
    };
    assert_eq!(numbers_of(&pull(&gateway)), (0..1_200).collect::<Vec<_>>());
    gateway.kill();
    gateway.restart();
    gateway.accept(&alerts::ndjson(1_200..1_203));
    assert_eq!(numbers_of(&pull(&gateway)), [1_200, 1_201, 1_202]);
    assert_eq!(pull(&gateway), "");
    gateway.finish();
}

const DEMISTO: &str = "import json, os, pathlib
STATE = pathlib.Path(os.environ['STATE'])
def params(): return json.loads(os.environ['PARAMS'])
def command(): return os.environ['COMMAND']
def getLastRun(): return json.loads(STATE.read_text()) if STATE.exists() else {}
def setLastRun(run): STATE.write_text(json.dumps(run))
def incidents(found): print(json.dumps(found))
def results(text): print(text)
def error(text): print(text)
";

#[test]
fn xsoar_fetches_each_alert_as_one_incident() {
    let mut gateway = Gateway::start(kept());
    let folder = gateway.config.file("xsoar");
    fs::create_dir(&folder).unwrap();
    fs::write(folder.join("demistomock.py"), DEMISTO).unwrap();
    let params = json!({"url": format!("http://127.0.0.1:{}", gateway.port), "token": TOKEN,
        "max_fetch": "20"});
    let call = |command: &str| {
        run(Command::new("python3")
            .arg(recipe("xsoar/HoldfastPull.py"))
            .env("PYTHONPATH", &folder)
            .env("STATE", folder.join("last-run"))
            .env("PARAMS", params.to_string())
            .env("COMMAND", command))
    };
    let fetch = || -> Vec<Value> { serde_json::from_str(&call("fetch-incidents")).unwrap() };
    gateway.accept(&alerts::ndjson(0..5));
    assert_eq!(call("test-module").trim(), "ok");
    assert_eq!(fetch(), [] as [Value; 0], "it begins with what comes from now on");
    gateway.accept(&alerts::ndjson(5..35));
    let all: Vec<Value> = [fetch(), fetch(), fetch()].concat();
    let number = |one: &Value| {
        let raw: Value = serde_json::from_str(one["rawJSON"].as_str().unwrap()).unwrap();
        assert_eq!(raw["id"], one["dbotMirrorId"]);
        assert!((1..=4).contains(&one["severity"].as_u64().unwrap()), "{one}");
        raw["alert"]["number"].as_u64().unwrap()
    };
    assert_eq!(all.iter().map(number).collect::<Vec<_>>(), (5..35).collect::<Vec<_>>());
    gateway.finish();
}

/// The two requests of n8n's and Shuffle's recipe; a run that fails between them is repeated.
#[test]
fn a_workflow_without_memory_is_given_what_it_did_not_finish() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..80));
    made(&gateway, "n8n", &json!({}));
    // Two runs fail behind their first request, and come again.
    let failed = [next(&gateway, "n8n", "limit=50"), next(&gateway, "n8n", "limit=50")];
    for page in &failed {
        let back = gateway.post("/v1/consumers/n8n/nack", &ids(page));
        assert_eq!(back.status, 200, "{}", back.text);
    }
    let mut all = Vec::new();
    for expected in [50, 30] {
        let page = next(&gateway, "n8n", "limit=50");
        all.extend(numbers(&page));
        let done = ack(&gateway, "n8n", &json!({"up_to": page["next_cursor"]}));
        assert_eq!(done["count"], expected, "no more than what it had is acknowledged");
    }
    assert_eq!(all, (0..80).collect::<Vec<_>>());
    assert_eq!(numbers(&next(&gateway, "n8n", "")), [] as [u64; 0]);
    gateway.finish();
}
