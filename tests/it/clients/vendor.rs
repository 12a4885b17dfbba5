//! A receiver that satisfies every vendor's client: it knows vendors by their paths.

use serde_json::{Value, json};

use crate::support::{Reply, Request};

pub(super) fn answer(request: &Request) -> Reply {
    let path = request.path.split('?').next().unwrap_or_default();
    let (status, body) = match path {
        "/v2/enqueue" => (202, json!({ "status": "success", "message": "m", "dedup_key": "k" })),
        "/v2/alerts" => (202, json!({ "result": "r", "took": 0.1, "requestId": "r" })),
        "/api/v1/alert" => (201, json!({ "_id": "~1" })),
        "/warninglists/checkValue" => (200, json!([])),
        "/sightings/add" => (200, json!({ "Sighting": { "id": "1" } })),
        "/events/add" => {
            let uuid = "89c243a3-bb7a-52b9-88fe-3e598f7940e2";
            (200, json!({ "Event": { "id": "1", "uuid": uuid, "info": "x" } }))
        }
        "/users/view/me" => {
            (200, json!({ "User": { "id": "1" }, "Role": { "id": "1" }, "UserSetting": [] }))
        }
        "/graphql" => (200, json!({ "data": graphql() })),
        "/api/chat.postMessage" => (200, json!({ "ok": true, "ts": "1.2", "channel": "C" })),
        "/services/collector/event" => (200, json!({ "text": "Success", "code": 0 })),
        "/_bulk" => {
            let first = request.text().lines().next().unwrap_or_default().to_owned();
            let mut item: Value = serde_json::from_str(&first).unwrap_or_default();
            item["create"]["status"] = 201.into();
            (200, json!({ "errors": false, "took": 1, "items": [item] }))
        }
        "/services/T0/B0/x" => return Reply::text(200, "ok"),
        path => by_beginning(path),
    };
    let reply = Reply::text(status, &body.to_string());
    // Elastic's client refuses to speak to anybody else.
    reply.with("Content-Type", "application/json").with("X-Elastic-Product", "Elasticsearch")
}

fn by_beginning(path: &str) -> (u16, Value) {
    let begins = |beginning: &str| path.starts_with(beginning);
    if begins("/rest/api/") {
        (201, json!({ "id": "1", "key": "SEC-1", "self": "x" }))
    } else if begins("/servers/") {
        (200, json!({ "version": "2.5.34", "perm_sighting": true, "perm_sync": false }))
    } else if begins("/bot") {
        let chat = json!({ "id": -1, "type": "group" });
        (200, json!({ "ok": true, "result": { "message_id": 1, "date": 1, "chat": chat } }))
    } else if begins("/api/now/") {
        (201, json!({ "result": { "sys_id": "a".repeat(32), "number": "INC1" } }))
    } else {
        (200, json!({ "id": "1" }))
    }
}

/// The same thing under every name that is asked for.
fn graphql() -> Value {
    let node = json!({ "id": "i1", "standard_id": "x", "revoked": false });
    json!({
        "incidentAdd": node, "indicatorAdd": node, "stixSightingRelationshipAdd": node,
        "indicators": { "edges": [{ "node": node }] },
    })
}
