//! Each vendor's callback, over the wire: right, wrong, changed and repeated, each with its counter.

use serde_json::{Value, json};

use super::{SECRET, callbacks, counter, now_s, tag};
use crate::support::{Config, Gateway, http::Call};

/// A destination's type, what it needs to be built, and how its requests prove themselves.
struct Vendor {
    kind: &'static str,
    keys: &'static str,
    body: Value,
    sign: fn(&str) -> Vec<(&'static str, String)>,
    signs_body: bool,
}

fn vendors() -> Vec<Vendor> {
    let ours = json!({ "action": "closed", "remote_id": "7", "delivery_id": "d7" });
    let shared = |_: &str| vec![("X-Holdfast-Secret", SECRET.to_owned())];
    let own =
        |kind, keys| Vendor { kind, keys, body: ours.clone(), sign: shared, signs_body: false };
    vec![
        Vendor {
            kind: "jira",
            keys: "url = \"http://127.0.0.1:1\"\nemail = \"a@b.c\"\ntoken = \"t\"\nproject = \"S\"",
            body: json!({
                "timestamp": now_s() * 1000, "webhookEvent": "comment_created",
                "issue": { "key": "SEC-7" }, "comment": { "body": "seen" },
            }),
            sign: |body| vec![("X-Hub-Signature", format!("sha256={}", tag(&[body.as_bytes()])))],
            signs_body: true,
        },
        Vendor {
            kind: "slack",
            keys: "webhook_url = \"http://127.0.0.1:1/x\"",
            body: json!({
                "type": "event_callback", "event_id": "Ev7",
                "event": { "type": "message", "channel": "C1", "thread_ts": "1.2", "text": "hm" },
            }),
            sign: |body| {
                let time = now_s().to_string();
                let tag = tag(&[b"v0:", time.as_bytes(), b":", body.as_bytes()]);
                vec![
                    ("X-Slack-Request-Timestamp", time),
                    ("X-Slack-Signature", format!("v0={tag}")),
                ]
            },
            signs_body: true,
        },
        Vendor {
            kind: "telegram",
            keys: "token = \"1:a\"\nchat_id = 7\napi_url = \"http://127.0.0.1:1\"",
            body: json!({ "update_id": 7, "message": {
                "chat": { "id": 7 }, "text": "hm", "reply_to_message": { "message_id": 1 } } }),
            sign: |_| vec![("X-Telegram-Bot-Api-Secret-Token", SECRET.to_owned())],
            signs_body: false,
        },
        Vendor {
            kind: "thehive",
            keys: "url = \"http://127.0.0.1:1\"\napi_key = \"k\"",
            body: json!({ "operation": "delete", "objectType": "Alert", "objectId": "~7" }),
            sign: |_| vec![("Authorization", format!("Bearer {SECRET}"))],
            signs_body: false,
        },
        Vendor {
            kind: "opsgenie",
            keys: "api_key = \"k\"\nurl = \"http://127.0.0.1:1\"",
            body: json!({ "action": "Close", "alert": { "alertId": "7", "alias": "x" } }),
            sign: shared,
            signs_body: false,
        },
        own("servicenow", "url = \"http://127.0.0.1:1\"\nuser = \"u\"\npassword = \"p\""),
        own("xsoar", "url = \"http://127.0.0.1:1\"\napi_key = \"k\"\nkey_id = \"7\""),
        own("shuffle", "url = \"http://127.0.0.1:1/webhook_00000000-1111-2222-3333-444444444444\""),
    ]
}

fn send(gateway: &Gateway, lane: &str, body: &str, headers: &[(&str, String)]) -> u16 {
    loop {
        let mut call = Call::new(gateway.port, "POST", &format!("/v1/callbacks/{lane}"));
        for (name, value) in headers {
            call = call.header(name, value);
        }
        match call.body("application/json", body).send().expect("an answer").status {
            429 => std::thread::yield_now(),
            status => return status,
        }
    }
}

#[test]
fn of_every_vendor_a_right_one_is_kept_once_and_every_other_is_counted() {
    let mut config = Config::new().queue("reserve = \"1MiB\"");
    for Vendor { kind, keys, .. } in vendors() {
        config = config.table(&format!(
            "[destinations.{kind}-1]\ntype = \"{kind}\"\n{keys}\ncallback = {{ secret = \"{SECRET}\" }}"
        ));
    }
    let mut gateway = Gateway::start(config);
    for (number, Vendor { kind, body, sign, signs_body, .. }) in vendors().into_iter().enumerate() {
        let (lane, body) = (format!("{kind}-1"), body.to_string());
        let good = sign(&body);
        let refused = |reason: &str| counter(&gateway, "callbacks_refused_total", &lane, reason);
        assert_eq!(send(&gateway, &lane, &body, &[]), 401, "{kind}: no signature");
        let mut wrong = good.clone();
        wrong.iter_mut().for_each(|(_, value)| value.insert(value.len() - 1, '0'));
        assert_eq!(send(&gateway, &lane, &body, &wrong), 401, "{kind}: a wrong one");
        assert_eq!(refused("signature"), 2.0, "{kind}");
        if signs_body {
            assert_eq!(send(&gateway, &lane, &format!("{body} "), &good), 401, "{kind}: changed");
            assert_eq!(refused("signature"), 3.0, "{kind}");
        }
        assert_eq!(send(&gateway, &lane, "{", &sign("{")), 400, "{kind}: no JSON");
        assert_eq!(refused("malformed"), 1.0, "{kind}");
        assert_eq!(send(&gateway, &lane, &body, &good), 200, "{kind}");
        assert_eq!(send(&gateway, &lane, &body, &good), 200, "{kind}: a repeat");
        assert_eq!(counter(&gateway, "callbacks_total", &lane, "unmatched"), 1.0, "{kind}");
        assert_eq!(counter(&gateway, "callbacks_total", &lane, "repeat"), 1.0, "{kind}");
        let all = callbacks(&gateway);
        assert_eq!(all.len(), number + 1, "{kind}");
        assert_eq!(all[number]["source"], *lane);
    }
    gateway.finish();
}

#[test]
fn slacks_handshake_is_answered_and_an_old_signature_is_not_taken() {
    let config = Config::new().table(&format!(
        "[destinations.chat]\ntype = \"slack\"\nwebhook_url = \"http://127.0.0.1:1/x\"\n\
         callback = {{ secret = \"{SECRET}\" }}"
    ));
    let mut gateway = Gateway::start(config);
    let body = json!({ "type": "url_verification", "challenge": "3eZbrw1a" }).to_string();
    let signed = |seconds: u64| {
        let time = seconds.to_string();
        let tag = tag(&[b"v0:", time.as_bytes(), b":", body.as_bytes()]);
        Call::new(gateway.port, "POST", "/v1/callbacks/chat")
            .header("X-Slack-Request-Timestamp", &time)
            .header("X-Slack-Signature", &format!("v0={tag}"))
            .body("application/json", &body)
            .send()
            .unwrap()
    };
    let answer = signed(now_s());
    assert_eq!((answer.status, answer.json()), (200, json!({ "challenge": "3eZbrw1a" })));
    assert_eq!(signed(now_s() - 400).status, 401);
    assert_eq!(signed(now_s() + 400).status, 401);
    assert_eq!(counter(&gateway, "callbacks_refused_total", "chat", "stale"), 2.0);
    assert_eq!(counter(&gateway, "callbacks_total", "chat", "ignored"), 1.0);
    assert_eq!(callbacks(&gateway), Vec::<Value>::new());
    gateway.finish();
}
