//! Signed webhooks, judged by a library that we did not write: PyPI's `standardwebhooks` in a
//! receiver of its own (`tests/data/verify_signatures.py`).

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
};

use serde_json::Value;

use crate::support::{Config, Gateway, alerts, config::write_private, eventually, wait::holds};

const OLD: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NEW: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDb5nK8cA6RcQ=";

/// Fewer than would make a lane doubt itself.
const ALERTS: u64 = 6;

/// The receiver, and what it has said of each request.
struct Judge {
    child: Child,
    port: u16,
    said: Arc<Mutex<Vec<Value>>>,
}

impl Judge {
    fn start() -> Self {
        let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
        let output = Command::new(tests.join("verifier")).output().expect("run tests/verifier");
        assert!(
            output.status.success(),
            "tests/verifier: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let python = String::from_utf8(output.stdout).expect("a path");
        let mut child = Command::new(python.trim())
            .arg(tests.join("data/verify_signatures.py"))
            .args([OLD, NEW])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .expect("start the receiver");
        let mut lines = BufReader::new(child.stdout.take().expect("its output")).lines();
        let port = lines.next().expect("a first line").expect("a text").parse();
        let said = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&said);
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                heard.lock().unwrap().push(serde_json::from_str(&line).expect("JSON"));
            }
        });
        Self { child, port: port.expect("a port"), said }
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    /// What it said since the last time, when it is so much.
    #[track_caller]
    fn verdicts(&self, count: usize) -> Vec<Value> {
        eventually(&format!("{count} verdicts"), || {
            holds(self.said.lock().unwrap().len() >= count)
        });
        let said = std::mem::take(&mut *self.said.lock().unwrap());
        assert_eq!(said.len(), count, "{said:#?}");
        said
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        self.child.kill().and_then(|()| self.child.wait()).ok();
    }
}

/// Holds for whatever was verified.
#[track_caller]
fn believed_as_sent(verdicts: &[Value], signatures: u64) {
    for verdict in verdicts {
        assert_eq!(verdict["verified"], true, "{verdict}");
        assert_eq!(verdict["believed_though_changed"], Value::Array(Vec::new()), "{verdict}");
        assert_eq!(verdict["id"], verdict["key"], "{verdict}");
        assert_eq!(verdict["signatures"], signatures, "{verdict}");
    }
}

#[test]
fn each_delivery_verifies_and_nothing_in_it_can_be_changed() {
    let judge = Judge::start();
    let signed = format!("signing_secret = \"{OLD}\"");
    let batch = "batch = { max_events = 100, max_wait = \"1s\", format = \"array\" }";
    let config = Config::new()
        .webhook("single", &judge.url("/old"), &signed)
        .webhook("many", &judge.url("/old"), &format!("{signed}\n{batch}"))
        .webhook(
            "own",
            &judge.url("/old"),
            &format!("{signed}\nbody = \"\"\"{{{{ message.text }}}} é\"\"\""),
        );
    let mut gateway = Gateway::start(config);
    let ndjson = alerts::ndjson(0..ALERTS);
    gateway.accept(&ndjson);
    for lane in ["single", "many", "own"] {
        gateway.wait_for_term(lane, "delivered", ALERTS);
        assert_eq!(gateway.lane(lane)["ledger"]["dead"], 0, "{lane}");
    }
    let all = std::mem::take(&mut *judge.said.lock().unwrap());
    believed_as_sent(&all, 1);
    let whole = |verdict: &&Value| ndjson.lines().any(|line| verdict["body"] == line);
    assert_eq!(all.iter().filter(whole).count() as u64, ALERTS, "as Wazuh wrote them");
    assert!(all.iter().any(|verdict| verdict["body"].as_str().unwrap().starts_with("[{")));
    gateway.finish();
}

#[test]
fn a_secret_is_changed_without_a_delivery_that_is_not_believed() {
    let judge = Judge::start();
    let config = Config::new();
    let (first, second) = (config.secret("first", OLD), config.secret("second", NEW));
    let file = |path: &Path| format!("{{ file = {path:?} }}");
    let keys = format!("signing_secret = [{}, {}]", file(&second), file(&first));
    // Both lanes sign with both, once the new one is there.
    let config = config.webhook("knows-old", &judge.url("/old"), &keys).webhook(
        "knows-new",
        &judge.url("/new"),
        &keys,
    );
    write_private(&second, OLD);
    let mut gateway = Gateway::start(config);

    // Before: whoever knows the old one believes, whoever does not refuses.
    gateway.accept(&alerts::ndjson(0..ALERTS));
    gateway.wait_for_term("knows-old", "delivered", ALERTS);
    gateway.wait_for_term("knows-new", "dead", ALERTS);
    let said = judge.verdicts(2 * ALERTS as usize);
    let (old, new): (Vec<_>, Vec<_>) = said.into_iter().partition(|said| said["path"] == "/old");
    believed_as_sent(&old, 2);
    assert!(new.iter().all(|verdict| verdict["verified"] == false), "{new:#?}");
    for letter in gateway.dead_letters("destination=knows-new") {
        assert_eq!(letter["reason"], "refused", "{letter}");
    }

    // Meanwhile: signed with both, so either is enough.
    write_private(&second, NEW);
    assert_eq!(gateway.terminate(), Some(0), "{}", gateway.last_words());
    gateway.restart();
    gateway.accept(&alerts::ndjson(ALERTS..2 * ALERTS));
    gateway.wait_for_term("knows-old", "delivered", 2 * ALERTS);
    gateway.wait_for_term("knows-new", "delivered", ALERTS);
    believed_as_sent(&judge.verdicts(2 * ALERTS as usize), 2);

    // Afterwards: only the new one is left.
    write_private(&first, NEW);
    assert_eq!(gateway.terminate(), Some(0), "{}", gateway.last_words());
    gateway.restart();
    gateway.accept(&alerts::ndjson(2 * ALERTS..3 * ALERTS));
    gateway.wait_for_term("knows-new", "delivered", 2 * ALERTS);
    gateway.wait_for_term("knows-old", "dead", ALERTS);
    let said = judge.verdicts(2 * ALERTS as usize);
    let (old, new): (Vec<_>, Vec<_>) = said.into_iter().partition(|said| said["path"] == "/old");
    believed_as_sent(&new, 2);
    assert!(old.iter().all(|verdict| verdict["verified"] == false), "{old:#?}");
    gateway.finish();
}
