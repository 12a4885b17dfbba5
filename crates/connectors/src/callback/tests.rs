//! Every vendor's callbacks: one that is right, and everything that can be wrong with it.
//!
//! A type that takes callbacks and has no case here fails.

use std::sync::{Arc, LazyLock};

use base64::prelude::{BASE64_STANDARD, Engine};
use holdfast_model::{Action, CallbackRequest, Destination, Heard, Refusal, Timestamp};
use proptest::{collection::vec, prelude::*};
use ring::hmac;
use serde_json::{Value, json};

use crate::{
    destinations::CATALOG,
    testing::{build, context, fault},
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

#[test]
fn every_type_that_takes_callbacks_has_a_case() {
    let takes = |kind: &&crate::destinations::Kind| {
        kind.settings.iter().any(|setting| setting.name == "callback")
    };
    let cases = cases();
    for kind in CATALOG.iter().filter(takes) {
        assert!(cases.iter().any(|case| case.kind == kind.name), "{} has no case", kind.name);
        let without = build(kind, kind.example, &context()).unwrap();
        assert!(without.callbacks().is_none(), "{}: not set up", kind.name);
    }
}

#[test]
fn a_valid_callback_says_what_was_done_to_what_by_whom() {
    for case in cases() {
        let body = case.body.as_bytes();
        let heard = hear(&case.usual(), &case.signed(body), body, NOW).unwrap();
        let [notice] = heard.notices.as_slice() else { panic!("{}: {heard:?}", case.kind) };
        assert_eq!(notice.action, case.action, "{}", case.kind);
        let known = notice.remote_ids.iter().any(|id| id == case.remote_id);
        assert!(known, "{}: {:?}", case.kind, notice.remote_ids);
        let event = notice.event.as_ref().map(ToString::to_string);
        assert_eq!(event.as_deref(), case.named.then_some(EVENT), "{}", case.kind);
        assert_eq!(notice.actor.as_ref().map(|actor| actor.id.as_str()), Some(case.actor));
        assert!(!notice.delivery_id.is_empty(), "{}", case.kind);
        let again = hear(&case.usual(), &case.signed(body), body, NOW).unwrap();
        assert_eq!(again, heard, "{}: the same for a repeat", case.kind);
        let ignoring = format!("secret = \"{}\"\nignore = [\"U1\"]", case.secret());
        let ignoring = case.destination(&ignoring.replace('\n', ", "));
        let heard = hear(&ignoring, &case.signed(body), body, NOW).unwrap();
        assert_eq!(heard.notices, [], "{}: its doings are ours", case.kind);
    }
}

#[test]
fn a_wrong_signature_is_refused_whatever_is_wrong_with_it() {
    for case in cases() {
        let (destination, body) = (case.usual(), case.body.as_bytes());
        let refused = |what: &str, headers: &[(String, Vec<u8>)], body: &[u8]| {
            let said = hear(&destination, headers, body, NOW);
            assert_eq!(said, Err(Refusal::Signature), "{}: {what}", case.kind);
        };
        let good = case.signed(body);
        refused("no header", &[], body);
        refused("another secret", &(case.sign)(case.other(), body, NOW.0 / 1000), body);
        refused("an empty secret", &(case.sign)("", body, NOW.0 / 1000), body);
        for left_out in 0..good.len() {
            let mut headers = good.clone();
            headers.remove(left_out);
            refused("a header is missing", &headers, body);
            let mut headers = good.clone();
            headers.push(good[left_out].clone());
            refused("a header is there twice", &headers, body);
            let mut headers = good.clone();
            headers[left_out].1.pop();
            refused("a header is cut", &headers, body);
            headers[left_out].1 = vec![0xFF];
            refused("a header is no text", &headers, body);
        }
        if case.signs {
            let mut changed = body.to_vec();
            changed[body.len() / 2] ^= 1;
            refused("a byte is changed", &good, &changed);
            refused("a byte is missing", &good, &body[1..]);
            refused("nothing is there", &good, b"");
        }
        if case.kind == "pagerduty" {
            let upper = String::from_utf8(good[0].1.clone()).unwrap().to_uppercase();
            refused("other letters", &[header(&good[0].0, upper)], body);
        }
    }
}

#[test]
fn an_old_one_and_one_from_the_future_are_stale() {
    for case in cases() {
        let window_s = match case.kind {
            "slack" | "webhook" => 300,
            "pagerduty" | "jira" => 49 * 3600,
            // Nothing they send says when it was sent.
            _ => continue,
        };
        let (destination, body) = (case.usual(), case.body.as_bytes());
        let headers = case.signed(body);
        let at = |seconds: i64| Timestamp(NOW.0.saturating_add_signed(seconds * 1000));
        for seconds in [window_s - 1, 1 - window_s] {
            let said = hear(&destination, &headers, body, at(seconds));
            assert!(said.is_ok(), "{} {seconds}: {said:?}", case.kind);
        }
        for seconds in [window_s + 1, -window_s - 1, 10 * window_s] {
            let said = hear(&destination, &headers, body, at(seconds));
            assert_eq!(said, Err(Refusal::Stale), "{} {seconds}", case.kind);
        }
    }
}

#[test]
fn either_of_two_secrets_is_enough_while_they_are_changed() {
    for case in cases() {
        let both = format!("secret = [\"{}\", \"{}\"]", case.secret(), case.other());
        let (destination, body) = (case.destination(&both), case.body.as_bytes());
        for secret in [case.secret(), case.other()] {
            let headers = (case.sign)(secret, body, NOW.0 / 1000);
            assert!(hear(&destination, &headers, body, NOW).is_ok(), "{}", case.kind);
        }
        let third = (case.sign)("a-third-secret", body, NOW.0 / 1000);
        assert_eq!(hear(&destination, &third, body, NOW), Err(Refusal::Signature), "{}", case.kind);
    }
}

#[test]
fn what_is_signed_and_makes_no_sense_is_malformed_and_names_what() {
    for case in cases() {
        let destination = case.usual();
        for body in ["", "{", "[]", "7", "{}", "payload=", "payload=%7B", "payload=[]", "a=b"] {
            let said = hear(&destination, &case.signed(body.as_bytes()), body.as_bytes(), NOW);
            assert!(matches!(said, Err(Refusal::Malformed(_))), "{} {body}: {said:?}", case.kind);
        }
    }
    let own = cases().pop().unwrap();
    #[rustfmt::skip]
    let table = [
        (json!({ "action": "closed" }), "remote_id"),
        (json!({ "action": "shrugged", "remote_id": "1" }), "shrugged"),
        (json!({ "action": "closed", "remote_id": "1", "colour": "red" }), "colour"),
        (json!({ "action": "closed", "event_id": "nonsense" }), "event_id"),
        (json!({ "action": "closed", "remote_id": "1", "at": "yesterday" }), "3339"),
        (json!({ "action": "closed", "remote_id": "1", "request": "block" }), "request"),
        (json!({ "action": "action_requested", "remote_id": "1" }), "request"),
        (json!({ "action": "action_requested", "remote_id": "1", "request": "rm -rf /" }), "request"),
    ];
    for (body, named) in table {
        let body = body.to_string();
        let said = hear(&own.usual(), &own.signed(body.as_bytes()), body.as_bytes(), NOW);
        let Err(Refusal::Malformed(text)) = said else { panic!("{body}: {said:?}") };
        assert!(text.contains(named), "{body}: {text}");
    }
}

#[test]
fn a_client_certificate_may_stand_for_the_secret() {
    let case = cases().pop().unwrap();
    let body = case.body.as_bytes();
    let hear = |destination: &Arc<dyn Destination>, headers: &Headers, client_certified| {
        let request = CallbackRequest { headers, query: "", body, client_certified, now: NOW };
        destination.callbacks().unwrap().hear(&request).is_ok()
    };
    let alone = case.destination("client_certificate = true");
    assert!(hear(&alone, &Vec::new(), true) && !hear(&alone, &Vec::new(), false));
    let both =
        case.destination(&format!("client_certificate = true, secret = \"{}\"", case.secret()));
    let good = case.signed(body);
    assert!(hear(&both, &good, true) && !hear(&both, &good, false));
    assert!(!hear(&both, &Vec::new(), true));
    let header = case.destination(&format!("header = \"X-Own\", secret = \"{}\"", case.secret()));
    assert!(!hear(&header, &good, true), "the usual header is not looked at");
    let own = vec![("x-own".to_owned(), case.secret().as_bytes().to_vec())];
    assert!(hear(&header, &own, false));
}

#[test]
fn a_wrong_table_is_a_fault_that_repeats_no_secret() {
    #[rustfmt::skip]
    let table = [
        ("jira", "", "callback: `secret` is missing"),
        ("jira", "secret = []", "callback.secret: give one secret"),
        ("jira", "secret = [\"a\", \"b\", \"c\"]", "callback.secret: give one secret"),
        ("jira", "secret = 7", "callback.secret: it must be a text"),
        ("jira", "secret = \"x\", header = \"X\"", "callback.header: there is no such key"),
        ("jira", "secret = \"x\", action_ttl = \"1s\"", "callback.action_ttl: 1s is not within"),
        ("jira", "secret = \"x\", operators = [\"\"]", "callback.operators: at most 200"),
        ("webhook", "secret = \"hunter2\"", "callback.secret: it must begin with `whsec_`"),
        ("telegram", "secret = \"hunter 2\"", "callback.secret: Telegram takes"),
        ("xsoar", "secret = \"x\", header = \"a b\"", "callback.a b: it is not a header's name"),
    ];
    for (kind, callback, expected) in table {
        let kind = CATALOG.iter().find(|known| known.name == kind).unwrap();
        let table = format!("callback = {{ {callback} }}\n{}", kind.example);
        let said = fault(kind, &table, &context());
        let expected = format!("destinations.lane.{expected}");
        assert!(said.starts_with(&expected) && !said.contains("hunter"), "{callback}: {said}");
    }
}

/// A body that is like the right one, with anything in the place of some of its values.
fn changed(value: &Value, picks: &mut std::slice::Iter<'_, u8>) -> Value {
    let odd = match picks.next() {
        Some(0) => Some(Value::Null),
        Some(1) => Some(json!(-1)),
        Some(2) => Some(json!(1e300)),
        Some(3) => Some(json!("")),
        Some(4) => Some(json!([])),
        Some(5) => Some(json!({})),
        Some(6) => Some(json!("é\u{0}.,/~18446744073709551616")),
        Some(7) => Some(json!([[{ "text": 7 }]])),
        Some(8) => Some(json!(u64::MAX)),
        Some(9) => Some(json!(true)),
        _ => None,
    };
    match (odd, value) {
        (Some(odd), _) => odd,
        (None, Value::Object(map)) => {
            map.iter().map(|(key, value)| (key.clone(), changed(value, picks))).collect()
        }
        (None, Value::Array(list)) => list.iter().map(|value| changed(value, picks)).collect(),
        (None, value) => value.clone(),
    }
}

/// Made once, because building reads the network's settings.
static ALL: LazyLock<Vec<(Case, Arc<dyn Destination>)>> = LazyLock::new(|| {
    cases().into_iter().map(|case| (case.usual(), case)).map(|(d, c)| (c, d)).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_signed_there_is_an_answer_and_no_panic(
        bytes in vec(any::<u8>(), 0..300), picks in vec(0u8..60, 0..80),
    ) {
        for (case, destination) in ALL.iter() {
            hear(destination, &case.signed(&bytes), &bytes, NOW).ok();
            let like = match case.kind {
                "slack" => {
                    let payload = form_urlencoded::parse(case.body.as_bytes()).next().unwrap().1;
                    let payload = serde_json::from_str(&payload).unwrap();
                    form(&changed(&payload, &mut picks.iter()))
                }
                _ => {
                    let body = serde_json::from_str(&case.body).unwrap();
                    changed(&body, &mut picks.iter()).to_string()
                }
            };
            let said = hear(destination, &case.signed(like.as_bytes()), like.as_bytes(), NOW);
            prop_assert_ne!(said, Err(Refusal::Signature));
        }
    }

    #[test]
    fn no_changed_byte_is_accepted(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        for (case, destination) in ALL.iter() {
            let good = case.body.as_bytes();
            let headers = case.signed(good);
            if case.signs {
                let mut body = good.to_vec();
                body[at.index(good.len())] ^= 1 << bit;
                let said = hear(destination, &headers, &body, NOW);
                prop_assert_eq!(said, Err(Refusal::Signature), "{}", case.kind);
            }
            for name in 0..headers.len() {
                let mut headers = headers.clone();
                let value = &mut headers[name].1;
                // The first of two signatures is nobody's, and may be anything.
                let from = if case.kind == "pagerduty" { value.len() - 67 } else { 0 };
                let from = if headers_is_standard(case, name) { value.len() - 47 } else { from };
                let index = from + at.index(value.len() - from);
                value[index] ^= 1 << bit;
                let said = hear(destination, &headers, good, NOW);
                prop_assert_eq!(said, Err(Refusal::Signature), "{}", case.kind);
            }
        }
    }
}

fn headers_is_standard(case: &Case, name: usize) -> bool {
    case.kind == "webhook" && name == 2
}
