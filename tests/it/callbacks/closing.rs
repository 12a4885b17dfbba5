//! One alert is a case, a page and a ticket; the case is closed, and so is all the rest. The gateway
//! is killed between any two steps, and what is down meanwhile gets its part later.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use serde_json::{Value, json};

use super::SECRET;
use crate::support::{
    Config, Gateway, Receiver, Reply, Request, alerts, eventually, http::Call, wait::holds,
};

/// Three systems at one address. What is not up answers 503.
#[derive(Default)]
struct World {
    up: BTreeSet<&'static str>,
    cases: Vec<String>,
    /// `event_action` and `dedup_key`, in order.
    pages: Vec<(String, String)>,
    /// The labels of the tickets, and whether each is done.
    tickets: Vec<(Vec<Value>, bool)>,
}

impl World {
    fn answer(&mut self, request: &Request) -> Reply {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let system = request.path.split('/').nth(1).unwrap_or_default();
        if !self.up.contains(system) {
            return Reply::status(503);
        }
        let said = |status, body: Value| Reply::text(status, &body.to_string());
        match (request.method.as_str(), request.path.as_str()) {
            ("POST", "/cases/api/v1/alert") => {
                let reference = body["sourceRef"].as_str().unwrap().to_owned();
                if self.cases.contains(&reference) {
                    let message = "Alert wazuh:holdfast:x already exist in organisation soc";
                    return said(400, json!({ "type": "CreateError", "message": message }));
                }
                self.cases.push(reference);
                said(201, json!({ "_id": "~7" }))
            }
            ("POST", "/oncall/v2/enqueue") => {
                let text = |name: &str| body[name].as_str().unwrap().to_owned();
                self.pages.push((text("event_action"), text("dedup_key")));
                said(202, json!({ "status": "success", "dedup_key": body["dedup_key"] }))
            }
            ("POST", "/tickets/rest/api/3/search/jql") => {
                let jql = body["jql"].as_str().unwrap();
                let found = self.tickets.iter().enumerate().filter(|(_, (labels, done))| {
                    let labelled = labels
                        .iter()
                        .any(|label| jql.contains(&format!("\"{}\"", label.as_str().unwrap())));
                    labelled && !(*done && jql.contains("statusCategory != Done"))
                });
                let row = |(number, (labels, _)): (usize, &(Vec<Value>, bool))| json!({ "key": format!("SEC-{number}"), "fields": { "labels": labels } });
                said(200, json!({ "issues": found.map(row).collect::<Vec<_>>() }))
            }
            ("POST", "/tickets/rest/api/3/issue") => {
                let labels = body["fields"]["labels"].as_array().unwrap().clone();
                self.tickets.push((labels, false));
                said(201, json!({ "key": format!("SEC-{}", self.tickets.len() - 1) }))
            }
            ("GET", "/tickets/rest/api/3/issue/SEC-0/transitions") => {
                said(200, json!({ "transitions": [{ "id": "31", "name": "Done" }] }))
            }
            ("POST", "/tickets/rest/api/3/issue/SEC-0/transitions") => {
                assert_eq!(body["transition"]["id"], "31");
                self.tickets[0].1 = true;
                Reply::status(204)
            }
            other => panic!("nobody asks {other:?}"),
        }
    }
}

fn config(receiver: &Receiver) -> Config {
    let retry = "retry = { initial = \"20ms\", max = \"100ms\" }";
    let url = |path: &str| receiver.url(path);
    Config::new().queue("reserve = \"1MiB\"").table(&format!(
        "[destinations.cases]\ntype = \"thehive\"\nurl = \"{}\"\napi_key = \"k\"\n{retry}\n\
         callback = {{ secret = \"{SECRET}\" }}\n\
         [destinations.oncall]\ntype = \"pagerduty\"\nrouting_key = \"{}\"\nurl = \"{}\"\n{retry}\n\
         follow = [\"closed\"]\n\
         [destinations.tickets]\ntype = \"jira\"\nurl = \"{}\"\nemail = \"a@b.c\"\ntoken = \"t\"\n\
         project = \"SEC\"\ntransition = \"Done\"\nsearch_lag = \"0s\"\n{retry}\nfollow = [\"closed\"]",
        url("/cases"),
        "0".repeat(32),
        url("/oncall/v2/enqueue"),
        url("/tickets"),
    ))
}

/// TheHive's notifier, about a case that was made of the alert.
fn case_closed(gateway: &Gateway, event: &str) -> u16 {
    let body = json!({
        "operation": "update", "objectType": "case", "objectId": "~9",
        "details": { "status": "TruePositive" },
        "object": { "status": "TruePositive", "stage": "Closed", "summary": "malware",
            "tags": ["wazuh", format!("holdfast:{event}")], "_updatedBy": "jane@soc.example" },
    });
    Call::new(gateway.port, "POST", "/v1/callbacks/cases")
        .header("Authorization", &format!("Bearer {SECRET}"))
        .body("application/json", body.to_string())
        .send()
        .unwrap()
        .status
}

#[test]
fn a_closed_case_resolves_the_page_and_the_ticket_of_the_same_event_through_every_kill() {
    let world = Arc::new(Mutex::new(World::default()));
    let far = Arc::clone(&world);
    let receiver = Receiver::start(move |request| far.lock().unwrap().answer(request));
    let up = |system: &'static str| world.lock().unwrap().up.insert(system);
    let mut gateway = Gateway::start(config(&receiver));
    let kill = |gateway: &mut Gateway| {
        gateway.kill();
        gateway.restart();
    };

    let event = gateway.accept(&alerts::ndjson(0..1))["first"].as_str().unwrap().to_owned();
    kill(&mut gateway);
    up("cases");
    gateway.wait_for_term("cases", "delivered", 1);
    kill(&mut gateway);
    // The case is closed before there is a page or a ticket to close.
    assert_eq!(case_closed(&gateway, &event), 200);
    kill(&mut gateway);
    assert_eq!(case_closed(&gateway, &event), 200, "TheHive does not repeat, others do");
    up("oncall");
    gateway.wait_for_term("oncall", "delivered", 2);
    kill(&mut gateway);
    up("tickets");
    gateway.wait_for_term("tickets", "delivered", 2);
    kill(&mut gateway);
    eventually("the ticket is done", || holds(world.lock().unwrap().tickets.iter().all(|t| t.1)));

    let found = world.lock().unwrap();
    assert_eq!(found.cases, [format!("{event}.cases")]);
    let key = format!("{event}.oncall");
    let pages: Vec<_> = found.pages.iter().map(|(action, of)| (action.as_str(), of)).collect();
    let resolved = pages.iter().position(|(action, _)| *action == "resolve").expect("a resolve");
    assert!(pages.iter().all(|(_, of)| **of == key), "one page: {pages:?}");
    assert!(pages[..resolved].iter().all(|(action, _)| *action == "trigger"), "{pages:?}");
    assert!(pages[resolved..].iter().all(|(action, _)| *action == "resolve"), "{pages:?}");
    assert_eq!(found.tickets.len(), 1, "one ticket");
    drop(found);

    // The whole story stands with the alert.
    let story = gateway.get(&format!("/v1/alerts/{event}")).json();
    let told: Vec<_> = story["children"].as_array().expect("children").iter().collect();
    let closed = |child: &&&Value| child["data"]["action"] == "closed";
    assert_eq!(told.iter().filter(closed).count(), 1, "told twice, kept once: {told:?}");
    let lanes = story["timeline"].as_array().expect("a timeline");
    for lane in ["cases", "oncall", "tickets"] {
        let of = lanes.iter().find(|one| one["destination"] == lane).expect(lane);
        assert_eq!(of["state"], "settled", "{of}");
    }
    gateway.finish();
}
