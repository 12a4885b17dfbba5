use std::path::Path;

use holdfast_model::{EventId, LogId, Parent};
use serde_json::json;

use super::*;
use crate::testing::{self, alert, context, event, shipment};

const FIM: &str = r#"{"agent":{"id":"001","name":"web01","ip":"fe80::1"},"id":"1.2"}"#;

/// A lookup's answer, compact, as a lookup may keep it.
const ANSWER: &str = r#"{"virustotal":{"found":1,"malicious":0,"source":{"alert_id":"1.2","file":"/a: b","md5":"x","sha1":"é"}},"integration":"virustotal"}"#;

/// The same by Wazuh's own script.
const SCRIPT: &str = r#"{"virustotal": {"found": 1, "malicious": 0, "source": {"alert_id": "1.2", "file": "/a: b", "md5": "x", "sha1": "\u00e9"}}, "integration": "virustotal"}"#;

fn about(mut member: Member, alert_body: Option<&str>) -> Member {
    let id: EventId = LogId::new("abcdefghij").unwrap().event(1);
    let event = alert_body.map(|body| Arc::clone(&alert(1, body.to_owned()).event));
    member.parent = Some(Arc::new(Parent {
        id,
        key: "k".to_owned(),
        remote_id: None,
        links: Vec::new(),
        event,
    }));
    member
}

fn lookup(body: &str, alert_body: Option<&str>) -> Member {
    about(event(2, EventKind::Lookup, body.to_owned()), alert_body)
}

fn built(path: &Path, more: &str) -> Arc<dyn Destination> {
    let table = format!("path = {path:?}\n{more}");
    let context = Context { timeout: Duration::from_millis(200), ..context() };
    testing::build(&KIND, &table, &context).unwrap()
}

async fn sent(more: &str, member: Member) -> Result<String, Reason> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue");
    let server = UnixDatagram::bind(&path).unwrap();
    let result = built(&path, more).deliver(&shipment([member])).await;
    result.map_err(|error| error.reason)?;
    let mut bytes = vec![0; 70_000];
    let length = server.recv(&mut bytes).await.unwrap();
    Ok(String::from_utf8(bytes[..length].to_vec()).unwrap())
}

#[tokio::test]
async fn a_lookups_answer_is_byte_for_byte_what_wazuhs_script_sends() {
    let agent = "[001] (web01) fe80|:|:1";
    let expected = format!("1:{agent}->virustotal:{SCRIPT}");
    assert_eq!(sent("", lookup(ANSWER, Some(FIM))).await, Ok(expected.clone()));
    assert_eq!(sent("", lookup(SCRIPT, Some(FIM))).await, Ok(expected));
    let any = FIM.replace(r#","ip":"fe80::1""#, "").replace("web01", "a|b:c");
    let expected = format!("1:[001] (a||b|:c) any->virustotal:{SCRIPT}");
    assert_eq!(sent("", lookup(ANSWER, Some(&any))).await, Ok(expected));
    for manager in [Some(r#"{"agent":{"id":"000","name":"m"}}"#), Some("{}"), None] {
        let expected = format!("1:virustotal:{SCRIPT}");
        assert_eq!(sent("", lookup(ANSWER, manager)).await, Ok(expected), "{manager:?}");
    }
    let failed =
        r#"{"virustotal": {"error": 204, "description": "x"}, "integration": "virustotal"}"#;
    let expected = format!("1:virustotal:{failed}");
    assert_eq!(sent("", lookup(failed, Some(FIM))).await, Ok(expected), "nobody's");
}

#[tokio::test]
async fn what_is_no_answer_is_under_holdfast_and_its_agent_is_the_alerts() {
    let body = json!({ "action": "closed", "agent": { "id": "666", "name": "evil" } });
    let callback = about(event(2, EventKind::Callback, body.to_string()), Some(FIM));
    let text = sent("location = \"soc:x\"", callback).await.unwrap();
    let (place, said) = text.split_once(":{").unwrap();
    assert_eq!(place, "1:[001] (web01) fe80|:|:1->soc|:x");
    let said: Value = serde_json::from_str(&format!("{{{said}")).unwrap();
    assert_eq!(said["integration"], "holdfast");
    assert_eq!(said["holdfast"]["kind"], "callback");
    assert_eq!(said["holdfast"]["alert_id"], "1.2");
    assert_eq!(said["holdfast"]["data"]["action"], "closed");
    let text = sent("", alert(1, FIM)).await.unwrap();
    assert!(text.starts_with("1:[001] (web01) fe80|:|:1->holdfast:{\"integration\":\"holdfast\""));
    let text = sent("template = \"hit {{ alert.id }}\"", alert(1, FIM)).await.unwrap();
    assert!(text.ends_with("->holdfast:hit 1.2"), "{text}");
}

#[tokio::test]
async fn what_wazuh_would_cut_is_not_sent() {
    let long = |bytes: usize| json!({ "x": "y".repeat(bytes) }).to_string();
    let head = sent("", event(1, EventKind::Lookup, long(1))).await.unwrap().len() - 1;
    let whole = event(1, EventKind::Lookup, long(EVENT_BYTES_MAX - head));
    assert_eq!(sent("", whole).await.map(|text| text.len()), Ok(EVENT_BYTES_MAX));
    let more = event(1, EventKind::Lookup, long(EVENT_BYTES_MAX - head + 1));
    assert_eq!(sent("", more).await, Err(Reason::TooLarge));
}

#[tokio::test]
async fn a_manager_that_went_away_is_found_again() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("queue");
    let destination = built(&path, "");
    let send = || async { destination.deliver(&shipment([alert(1, FIM)])).await };
    let reason =
        |result: Result<_, DeliveryError>| result.map(|_: Delivered| ()).map_err(|e| e.reason);
    assert_eq!(reason(send().await), Err(Reason::Connect), "there is no socket");
    let server = UnixDatagram::bind(&path).unwrap();
    assert_eq!(reason(send().await), Ok(()));
    drop(server);
    assert_eq!(reason(send().await), Err(Reason::Connect), "nobody behind it");
    std::fs::remove_file(&path).unwrap();
    let server = UnixDatagram::bind(&path).unwrap();
    assert_eq!(reason(send().await), Ok(()));
    assert!(server.recv(&mut [0; 9]).await.is_ok());
    // Full, until somebody reads.
    let mut result = Ok(());
    for _ in 0..10_000 {
        result = reason(send().await);
        if result.is_err() {
            break;
        }
    }
    assert_eq!(result, Err(Reason::ServerFault), "it is full");
    assert!(server.recv(&mut [0; 9]).await.is_ok());
    assert_eq!(reason(send().await), Ok(()));
}

#[test]
fn it_acts_on_wazuh() {
    assert!(built(Path::new("/x"), "").acts_on_wazuh());
}
