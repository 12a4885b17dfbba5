//! Every vendor's callbacks: one that is right, and everything that can be wrong with it.
//!
//! A type that takes callbacks and has no case here fails.

mod random;
mod verify;
mod words;

use std::sync::Arc;

use base64::prelude::{BASE64_STANDARD, Engine};
use holdfast_model::{Action, CallbackRequest, Destination, Heard, Refusal, Timestamp};
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    destinations::CATALOG,
    testing::{build, context},
};

const SECRET: &str = "callback-secret-0123456789";
const OTHER: &str = "another-secret-0123456789";
const WHSEC: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER_WHSEC: &str = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oDb5nK8cA6RcQ=";
const NOW: Timestamp = Timestamp(1_773_123_088_189);
const EVENT: &str = "abcdefghij-42";

type Headers = Vec<(String, Vec<u8>)>;

/// One vendor, and the request of it that is right.
struct Case {
    kind: &'static str,
    body: String,
    sign: fn(&str, &[u8], u64) -> Headers,
    /// Whether the body is what is signed, or only a header is shared.
    signs: bool,
    action: Action,
    remote_id: &'static str,
    named: bool,
    actor: &'static str,
}

fn header(name: &str, value: String) -> (String, Vec<u8>) {
    (name.to_owned(), value.into_bytes())
}

fn tag(secret: &[u8], parts: &[&[u8]]) -> Vec<u8> {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
    hmac::sign(&key, &parts.concat()).as_ref().to_vec()
}

fn slack(secret: &str, body: &[u8], seconds: u64) -> Headers {
    let time = seconds.to_string();
    let tag = tag(secret.as_bytes(), &[b"v0:", time.as_bytes(), b":", body]);
    vec![
        header("x-slack-request-timestamp", time),
        header("x-slack-signature", format!("v0={}", hex::encode(tag))),
    ]
}

fn pagerduty(secret: &str, body: &[u8], _: u64) -> Headers {
    let (other, tag) = (tag(b"nobody's", &[body]), tag(secret.as_bytes(), &[body]));
    let both = format!("v1={},v1={}", hex::encode(other), hex::encode(tag));
    vec![header("x-pagerduty-signature", both)]
}

fn hub(secret: &str, body: &[u8], _: u64) -> Headers {
    let tag = tag(secret.as_bytes(), &[body]);
    vec![header("x-hub-signature", format!("sha256={}", hex::encode(tag)))]
}

fn standard(secret: &str, body: &[u8], seconds: u64) -> Headers {
    let key = secret.strip_prefix("whsec_").unwrap_or(secret);
    let key = BASE64_STANDARD.decode(key).unwrap_or_else(|_| secret.as_bytes().to_vec());
    let time = seconds.to_string();
    let tag = tag(&key, &[b"msg_7", b".", time.as_bytes(), b".", body]);
    vec![
        header("webhook-id", "msg_7".to_owned()),
        header("webhook-timestamp", time),
        header("webhook-signature", format!("v1,AAAA v1,{}", BASE64_STANDARD.encode(tag))),
    ]
}

fn shared(secret: &str, _: &[u8], _: u64) -> Headers {
    vec![header("x-holdfast-secret", secret.to_owned())]
}

fn bearer(secret: &str, _: &[u8], _: u64) -> Headers {
    vec![header("authorization", format!("Bearer {secret}"))]
}

fn telegram(secret: &str, _: &[u8], _: u64) -> Headers {
    vec![header("x-telegram-bot-api-secret-token", secret.to_owned())]
}

fn form(payload: &Value) -> String {
    let mut form = form_urlencoded::Serializer::new(String::new());
    form.append_pair("payload", &payload.to_string()).finish()
}

fn press(action_id: &str, value: &str) -> String {
    form(&json!({
        "type": "block_actions", "trigger_id": "13345224609.738474920.8088930838d88f008e0",
        "user": { "id": "U1", "username": "ann" },
        "container": {
            "type": "message_attachment", "channel_id": "C0123456789",
            "message_ts": "1503435956.000247",
        },
        "actions": [{
            "type": "button", "action_id": action_id, "value": value,
            "action_ts": "1773123088.189000",
        }],
        "response_url": "https://hooks.slack.com/actions/T0/1/x",
    }))
}

fn own() -> String {
    let body = json!({
        "action": "closed", "remote_id": 4711, "event_id": format!("{EVENT}.lane"),
        "delivery_id": "7", "actor": { "id": "U1", "name": "Ann" }, "text": "false alarm",
        "at": "2026-03-10T06:11:28Z", "data": { "verdict": "false_positive" },
    });
    body.to_string()
}

fn cases() -> Vec<Case> {
    let case = |kind, body: Value, sign, action, remote_id, named| Case {
        kind,
        body: body.to_string(),
        sign,
        signs: true,
        action,
        remote_id,
        named,
        actor: "U1",
    };
    let jira = json!({
        "timestamp": NOW.0, "webhookEvent": "jira:issue_updated",
        "user": { "accountId": "U1", "displayName": "Ann" },
        "issue": { "id": "10000", "key": "SEC-24", "fields": {
            "labels": ["wazuh", format!("{EVENT}.lane")],
            "status": { "name": "Done", "statusCategory": { "key": "done" } } } },
        "changelog": { "items": [
            { "field": "status", "fromString": "To Do", "toString": "Done" }] },
    });
    let pager = json!({ "event": {
        "id": "01BBYA", "event_type": "incident.resolved", "resource_type": "incident",
        "occurred_at": NOW.to_string(), "agent": { "id": "U1", "summary": "Ann" },
        "data": { "id": "PGR0VU2", "incident_key": format!("{EVENT}.lane"), "status": "resolved",
            "html_url": "https://acme.pagerduty.com/incidents/PGR0VU2", "assignees": [] } } });
    let reply = json!({ "update_id": 10000, "message": {
        "message_id": 9, "date": NOW.0 / 1000, "chat": { "id": -1001 },
        "from": { "id": "U1", "first_name": "Ann" }, "text": "/close no threat",
        "reply_to_message": { "message_id": 7, "chat": { "id": -1001 } } } });
    let hive = json!({
        "operation": "update", "objectType": "Case", "objectId": "~4144", "rootId": "~4144",
        "requestId": "r1", "startDate": NOW.0, "details": { "status": "Other", "stage": "Closed" },
        "object": { "_id": "~4144", "number": 7, "stage": "Closed", "status": "Other",
            "tags": ["wazuh", format!("holdfast:{EVENT}")], "_updatedBy": "U1" } });
    let genie = json!({ "action": "Close", "integrationName": "soc", "alert": {
        "alertId": "70413a06", "alias": format!("{EVENT}.lane"), "userId": "U1",
        "username": "ann@example.com", "note": "" } });
    let closed = Action::Closed;
    let mut cases = vec![
        Case {
            body: press("holdfast_close", EVENT),
            ..case("slack", json!({}), slack, closed, "C0123456789/1503435956.000247", true)
        },
        case("pagerduty", pager, pagerduty, closed, "abcdefghij-42.lane", true),
        case("jira", jira, hub, closed, "SEC-24", true),
        Case { signs: false, ..case("telegram", reply, telegram, closed, "-1001/7", false) },
        Case { signs: false, ..case("thehive", hive, bearer, closed, "~4144", true) },
        Case { signs: false, ..case("opsgenie", genie, shared, closed, "70413a06", true) },
        Case { body: own(), ..case("webhook", json!({}), standard, closed, "4711", true) },
    ];
    for kind in ["servicenow", "shuffle", "xsoar"] {
        let case = case(kind, json!({}), shared, closed, "4711", true);
        cases.push(Case { body: own(), signs: false, ..case });
    }
    cases
}

impl Case {
    fn secret(&self) -> &'static str {
        if self.kind == "webhook" { WHSEC } else { SECRET }
    }

    fn other(&self) -> &'static str {
        if self.kind == "webhook" { OTHER_WHSEC } else { OTHER }
    }

    fn destination(&self, callback: &str) -> Arc<dyn Destination> {
        let kind = CATALOG.iter().find(|kind| kind.name == self.kind).unwrap();
        let table = format!("callback = {{ {callback} }}\n{}", kind.example);
        build(kind, &table, &context()).unwrap()
    }

    fn usual(&self) -> Arc<dyn Destination> {
        self.destination(&format!("secret = \"{}\"", self.secret()))
    }

    fn signed(&self, body: &[u8]) -> Headers {
        (self.sign)(self.secret(), body, NOW.0 / 1000)
    }
}

fn hear(
    destination: &Arc<dyn Destination>,
    headers: &[(String, Vec<u8>)],
    body: &[u8],
    now: Timestamp,
) -> Result<Heard, Refusal> {
    let request = CallbackRequest { headers, query: "", body, client_certified: false, now };
    destination.callbacks().unwrap().hear(&request)
}
