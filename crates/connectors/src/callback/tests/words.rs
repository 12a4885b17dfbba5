//! What a vendor's own words are in ours.

use Action::{Acknowledged, Assigned, Closed, Commented, Reopened, Verdict};

use super::*;
use crate::testing::fault;

fn said(kind: &str, body: Value) -> Vec<Action> {
    let case = cases().into_iter().find(|case| case.kind == kind).unwrap();
    let body = body.to_string();
    let heard = hear(&case.usual(), &case.signed(body.as_bytes()), body.as_bytes(), NOW);
    heard.unwrap().notices.iter().map(|notice| notice.action).collect()
}

#[test]
fn pagerdutys_words() {
    let pager = |kind: &str| {
        let event = json!({ "id": "e", "event_type": kind, "occurred_at": NOW.to_string(),
            "data": { "content": "a note" } });
        said("pagerduty", json!({ "event": event }))
    };
    for (kind, expected) in [
        ("incident.acknowledged", vec![Acknowledged]),
        ("incident.unacknowledged", vec![Reopened]),
        ("incident.resolved", vec![Closed]),
        ("incident.reopened", vec![Reopened]),
        ("incident.reassigned", vec![Assigned]),
        ("incident.escalated", vec![Assigned]),
        ("incident.annotated", vec![Commented]),
        ("incident.triggered", vec![]),
        ("pagey.ping", vec![]),
    ] {
        assert_eq!(pager(kind), expected, "{kind}");
    }
}

#[test]
fn jiras_words() {
    let jira = |category: &str, items: Value| {
        let fields = json!({ "status": { "statusCategory": { "key": category } } });
        let body = json!({ "timestamp": NOW.0, "webhookEvent": "jira:issue_updated",
            "issue": { "key": "S-1", "fields": fields }, "changelog": { "items": items } });
        said("jira", body)
    };
    let status = json!({ "field": "status", "toString": "x" });
    let unresolved = json!({ "field": "resolution", "from": "10000", "to": null });
    assert_eq!(jira("done", json!([status])), [Closed]);
    assert_eq!(jira("indeterminate", json!([status])), [Acknowledged]);
    assert_eq!(jira("indeterminate", json!([status, unresolved])), [Reopened]);
    assert_eq!(jira("new", json!([status])), [Reopened]);
    assert_eq!(jira("done", json!([{ "field": "assignee" }, status])), [Assigned, Closed]);
    assert_eq!(jira("done", json!([{ "field": "priority" }])), []);
}

#[test]
fn thehives_words() {
    let hive = |details: Value, object: Value| {
        let body = json!({ "operation": "Update", "objectType": "case", "objectId": "~1",
            "details": details, "object": object });
        said("thehive", body)
    };
    let four = json!({ "status": "Resolved", "resolutionStatus": "FalsePositive" });
    assert_eq!(hive(four.clone(), four), [Verdict, Closed]);
    let five = json!({ "status": "TruePositive", "stage": "Closed" });
    assert_eq!(hive(json!({ "status": "TruePositive" }), five), [Verdict, Closed]);
    let own = json!({ "status": "Contained", "stage": "InProgress" });
    assert_eq!(hive(json!({ "status": "Contained" }), own), [Acknowledged]);
    assert_eq!(hive(json!({ "status": "New" }), json!({})), [Reopened]);
    assert_eq!(hive(json!({ "assignee": "ann" }), json!({})), [Assigned]);
    assert_eq!(hive(json!({ "title": "x" }), json!({})), []);
}

#[test]
fn opsgenies_words() {
    let genie = |action: &str| said("opsgenie", json!({ "action": action, "alert": {} }));
    assert_eq!(genie("Acknowledge"), [Acknowledged]);
    assert_eq!(genie("AddNote"), [Commented]);
    assert_eq!(genie("TakeOwnership"), [Assigned]);
    assert_eq!(genie("Create"), []);
}

#[test]
fn slacks_words() {
    let slack = |event: Value| {
        said("slack", json!({ "type": "event_callback", "event_id": "E", "event": event }))
    };
    let reply = json!({ "type": "message", "channel": "C", "thread_ts": "1.2", "text": "hm" });
    assert_eq!(slack(reply.clone()), [Commented]);
    let mut bot = reply.clone();
    bot["bot_id"] = "B1".into();
    assert_eq!(slack(bot), [], "what a bot says is no answer");
    let eyes = json!({ "channel": "C", "ts": "1.2" });
    let eyes = json!({ "type": "reaction_added", "reaction": "eyes", "item": eyes });
    assert_eq!(slack(eyes), [Acknowledged]);
    assert_eq!(slack(json!({ "type": "message", "channel": "C", "text": "hm" })), []);
}

#[test]
fn a_press_of_a_button_names_its_event_and_asks_for_what_the_button_says() {
    let case = cases().into_iter().find(|case| case.kind == "slack").unwrap();
    let hear = |action_id: &str, value: &str| {
        let body = press(action_id, value);
        hear(&case.usual(), &case.signed(body.as_bytes()), body.as_bytes(), NOW)
    };
    let heard = hear("holdfast_block", EVENT).unwrap();
    let notice = &heard.notices[0];
    assert_eq!(
        (notice.action, &notice.data["request"]),
        (Action::ActionRequested, &json!("block"))
    );
    assert_eq!(notice.at, Some(NOW));
    assert_eq!(heard.reply.body, "", "Slack wants nothing");
    assert_eq!(hear("somebody_elses", "x").unwrap().notices, []);
    for (action_id, value) in
        [("holdfast_block", "x"), ("holdfast_block", ""), ("holdfast_rm", EVENT)]
    {
        let said = hear(action_id, value);
        assert!(matches!(said, Err(Refusal::Malformed(_))), "{action_id} {value}: {said:?}");
    }
}

#[test]
fn buttons_need_callbacks_and_are_ours() {
    let kind = CATALOG.iter().find(|kind| kind.name == "slack").unwrap();
    let problem = |keys: &str| fault(kind, &format!("{keys}\n{}", kind.example), &context());
    assert!(problem("buttons = [\"block\"]").contains("they need `callback`"));
    let with = "callback = { secret = \"x\" }";
    assert!(
        problem(&format!("buttons = [\"reboot\"]\n{with}")).contains("\"reboot\" is not one of")
    );
    assert!(problem(&format!("buttons = [\"close\", \"close\"]\n{with}")).contains("twice"));
}
