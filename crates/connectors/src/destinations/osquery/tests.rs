use serde_json::{Value, json};

use super::*;
use crate::{
    fleet::{Reply, Served},
    testing::{alert, build as build_kind, context, fault, shipment},
};

const ALERT: &str = r#"{"id":"1773123633.1","agent":{"id":"005","name":"web-01","ip":"10.0.0.1"},
    "syscheck":{"path":"/tmp/it's"}}"#;

const QUERY_KEY: &str =
    "query = \"SELECT * FROM processes WHERE path = {{ alert.syscheck.path }}\"";

fn destination(source: &str, more: &str, timeout_ms: u64) -> Arc<dyn Destination> {
    let table = format!("source = \"{source}\"\n{QUERY_KEY}\n{more}");
    let timeout = Duration::from_millis(timeout_ms);
    build_kind(&KIND, &table, &Context { timeout, ..context() }).unwrap()
}

fn served(source: &str) -> Served {
    let served = fleet::serve(source, 9);
    assert!(served.fleet().heard("uuid-1", "web-01", [10, 0, 0, 1].into()));
    served
}

/// Asks of `ALERT`, and has the host answer.
async fn ask(source: &str, more: &str, reply: Option<Reply>) -> Result<Value, Reason> {
    let served = served(source);
    let hosts = served.fleet();
    let destination = destination(source, more, if reply.is_some() { 10_000 } else { 50 });
    let answering = async {
        let Some(reply) = reply else { return };
        let (id, query) = hosts.question("uuid-1").await;
        assert_eq!(query, "SELECT * FROM processes WHERE path = '/tmp/it''s'");
        assert!(hosts.answer("uuid-1", &id, reply));
    };
    let sent = shipment([alert(7, ALERT)]);
    let (delivered, ()) = tokio::join!(destination.deliver(&sent), answering);
    assert_eq!(hosts.questions("uuid-1"), [], "nothing waits any more");
    match delivered {
        Ok(Delivered::All(receipt)) => {
            assert_eq!(receipt.answers.len(), 1);
            Ok(serde_json::from_slice(&receipt.answers[0]).unwrap())
        }
        Ok(Delivered::Each(_)) => panic!("one event has one answer"),
        Err(error) => Err(error.reason),
    }
}

fn rows(rows: Vec<Value>) -> Option<Reply> {
    Some(Reply { status: 0, message: String::new(), rows })
}

#[tokio::test]
async fn the_hosts_rows_are_the_answer() {
    let row = json!({ "pid": "97830", "name": "sh" });
    let mut said = ask("t-rows", "", rows(vec![row.clone()])).await.unwrap();
    assert!(said["osquery"]["unixTime"].take().is_u64());
    let expected = json!({ "integration": "osquery", "osquery": {
        "name": "lane", "hostIdentifier": "uuid-1", "unixTime": null,
        "query": "SELECT * FROM processes WHERE path = '/tmp/it''s'",
        "source": { "alert_id": "1773123633.1", "agent": "web-01" },
        "action": "snapshot", "found": 1, "rows": 1, "truncated": false, "snapshot": [row],
    } });
    assert_eq!(said, expected);
    let said = ask("t-none", "", rows(Vec::new())).await.unwrap();
    assert_eq!((&said["osquery"]["found"], &said["osquery"]["snapshot"]), (&json!(0), &json!([])));
}

#[tokio::test]
async fn an_answer_has_limits_and_says_that_it_was_cut() {
    let many = (0..9).map(|pid| json!({ "pid": pid })).collect();
    let said = ask("t-many", "max_rows = 2", rows(many)).await.unwrap();
    let said = &said["osquery"];
    assert_eq!((&said["rows"], &said["truncated"]), (&json!(9), &json!(true)));
    assert_eq!(said["snapshot"].as_array().unwrap().len(), 2);
    let large = vec![json!({ "pad": "x".repeat(20_000) }); 9];
    let said = ask("t-large", "", rows(large)).await.unwrap();
    assert_eq!(said["osquery"]["snapshot"].as_array().unwrap().len(), 2);
    assert!(said.to_string().len() < 65_000);
}

#[tokio::test]
async fn that_there_is_no_answer_is_an_answer_or_tried_again() {
    let said = ask("t-silent", "", None).await.unwrap();
    assert_eq!(said["osquery"]["error"], "silent_host");
    assert_eq!(ask("t-retry", "when_silent = \"retry\"", None).await, Err(Reason::ServerFault));
    let failed = Reply { status: 1, message: "no such table".into(), rows: Vec::new() };
    let said = ask("t-failed", "", Some(failed)).await.unwrap();
    assert_eq!(said["osquery"]["error"], "query_failed");
    assert_eq!(said["osquery"]["description"], "no such table");
}

#[tokio::test]
async fn only_a_host_that_is_surely_meant_is_asked() {
    let of = async |source: &str, body: &str| {
        let built = destination(source, "", 50);
        match built.deliver(&shipment([alert(7, body.to_owned())])).await {
            Ok(Delivered::All(receipt)) => {
                let answers = receipt.answers.iter();
                answers.map(|one| serde_json::from_slice::<Value>(one).unwrap()).collect::<Vec<_>>()
            }
            other => panic!("{other:?}"),
        }
    };
    let hosts = served("t-meant");
    hosts.fleet().heard("uuid-2", "WEB-01", [10, 0, 0, 2].into());
    let error = |said: &[Value]| said[0]["osquery"]["error"].clone();
    let path = r#""syscheck":{"path":"/tmp/x"}"#;
    let several = format!(r#"{{"agent":{{"name":"web-01","ip":"any"}},{path}}}"#);
    assert_eq!(error(&of("t-meant", &several).await), "several_hosts");
    for unknown in [r#"{"name":"other","ip":"127.0.0.1"}"#, r#"{"ip":"0.0.0.0"}"#, "null"] {
        let body = format!(r#"{{"agent":{unknown},{path}}}"#);
        assert_eq!(error(&of("t-meant", &body).await), "unknown_host", "{unknown}");
    }
    assert_eq!(of("t-meant", r#"{"agent":{"name":"web-01"}}"#).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_host_that_comes_after_a_start_is_waited_for() {
    let served = fleet::serve("t-late", 9);
    let hosts = served.fleet();
    let built = destination("t-late", "", 10_000);
    let sent = shipment([alert(7, ALERT)]);
    let coming = async {
        tokio::task::yield_now().await;
        hosts.heard("uuid-1", "web-01", [10, 0, 0, 1].into());
        let (id, _) = hosts.question("uuid-1").await;
        assert!(hosts.answer("uuid-1", &id, rows(Vec::new()).unwrap()));
    };
    let (delivered, ()) = tokio::join!(built.deliver(&sent), coming);
    assert!(delivered.is_ok(), "{delivered:?}");
}

#[test]
fn wrong_settings_are_faults() {
    for (table, expected) in [
        (QUERY_KEY.to_owned(), "destinations.lane: `source` is missing"),
        ("source = \"x\"".to_owned(), "destinations.lane: `query` is missing"),
        ("source = \"x\"\nquery = \"SELECT '{{ alert.id }}'\"".to_owned(), "brings its own quotes"),
        (format!("source = \"x\"\n{QUERY_KEY}\nmax_rows = 0"), "lane.max_rows: 0 is not within"),
        (format!("source = \"x\"\n{QUERY_KEY}\nwhen_silent = \"no\""), "lane.when_silent: "),
    ] {
        let problem = fault(&KIND, &table, &context());
        assert!(problem.contains(expected), "{problem}");
    }
}
