//! Slack's buttons: who pressed decides what is obeyed, and once.

use serde_json::{Value, json};

use super::{SECRET, callbacks, counter, now_s, tag};
use crate::support::{
    Answer, Config, Gateway, Receiver, Reply, eventually, http::Call, request::Request,
};

const ALERT: &str = r#"{"rule":{"id":"5712","level":10,"description":"sshd: brute force"},"agent":{"id":"003","name":"web01"},"data":{"srcip":"203.0.113.9"}}"#;

/// One press, signed as Slack signs it.
struct Press<'a> {
    button: &'a str,
    event: &'a str,
    user: &'a str,
    message: &'a str,
    trigger: &'a str,
    response_url: String,
}

impl Press<'_> {
    fn send(&self, gateway: &Gateway) -> Answer {
        let payload = json!({
            "type": "block_actions", "trigger_id": self.trigger,
            "user": { "id": self.user, "username": "somebody" },
            "container": { "channel_id": "C0123456789", "message_ts": self.message },
            "actions": [{
                "action_id": self.button, "value": self.event, "action_ts": "1773123088.189000",
            }],
            "response_url": self.response_url,
            // What a payload says of an address is never looked at.
            "srcip": "198.51.100.1",
        });
        let body = format!("payload={}", escape(&payload.to_string()));
        let time = now_s().to_string();
        let signature = tag(&[b"v0:", time.as_bytes(), b":", body.as_bytes()]);
        Call::new(gateway.port, "POST", "/v1/callbacks/chat")
            .header("X-Slack-Request-Timestamp", &time)
            .header("X-Slack-Signature", &format!("v0={signature}"))
            .body("application/x-www-form-urlencoded", body)
            .send()
            .unwrap()
    }
}

fn escape(text: &str) -> String {
    let one = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => (byte as char).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(one).collect()
}

/// What people were told.
fn told(receiver: &Receiver) -> Vec<Value> {
    let of = |request: Request| serde_json::from_slice(&request.body).unwrap();
    let all = receiver.exchanges().into_iter().map(|exchange| exchange.request);
    all.filter(|request| request.path == "/respond").map(of).collect()
}

/// Slack, and a gateway that has posted one alert there.
fn posted() -> (Receiver, Gateway, String) {
    let receiver = Receiver::start(|request| match request.path.as_str() {
        "/api/chat.postMessage" => {
            Reply::text(200, r#"{"ok":true,"channel":"C0123456789","ts":"1503435956.000247"}"#)
        }
        _ => Reply::text(200, "ok"),
    });
    let config = Config::new().queue("reserve = \"1MiB\"").table(&format!(
        "[destinations.chat]\ntype = \"slack\"\ntoken = \"xoxb-0123456789-abcdefghij\"\n\
         channel = \"C0123456789\"\napi_url = \"{}\"\n\
         buttons = [\"acknowledge\", \"close\", \"block\"]\n\
         callback = {{ secret = \"{SECRET}\", operators = [\"U1\", \"U2\"] }}",
        receiver.url("/api")
    ));
    let gateway = Gateway::start(config);
    let event = gateway.accept(ALERT)["first"].as_str().unwrap().to_owned();
    gateway.wait_for_term("chat", "delivered", 1);
    (receiver, gateway, event)
}

#[test]
fn a_message_has_its_buttons_and_each_names_the_event() {
    let (receiver, mut gateway, event) = posted();
    let posted: Value = serde_json::from_slice(&receiver.exchanges()[0].request.body).unwrap();
    let blocks = posted["attachments"][0]["blocks"].as_array().unwrap();
    let buttons = blocks.iter().find(|block| block["type"] == "actions").unwrap();
    let elements = buttons["elements"].as_array().unwrap();
    assert_eq!(elements.len(), 3);
    assert!(elements.iter().all(|button| button["value"] == *event), "{buttons}");
    assert!(elements[2]["confirm"].to_string().contains("203.0.113.9"), "{buttons}");
    gateway.finish();
}

#[test]
fn a_block_is_asked_for_by_operators_alone_once_for_a_message() {
    let (receiver, mut gateway, event) = posted();
    let block = Press {
        button: "holdfast_block",
        event: &event,
        user: "U1",
        message: "1503435956.000247",
        trigger: "t1",
        response_url: receiver.url("/respond"),
    };
    let outcome = |label: &str| counter(&gateway, "callback_actions_total", "chat", label);
    let stranger = Press { user: "U9", trigger: "t0", ..block };
    let answer = stranger.send(&gateway);
    assert_eq!((answer.status, answer.text.as_str()), (200, ""), "{answer:?}");
    let data = |number: usize| callbacks(&gateway)[number]["data"]["data"].clone();
    assert_eq!(data(0)["authorized"], false);
    assert_eq!(data(0)["refused"], "operator");
    eventually("the stranger is told", || {
        let told = told(&receiver);
        let said = told.first()?;
        assert_eq!(said["response_type"], "ephemeral");
        assert!(said["text"].as_str().unwrap().contains("operators"), "{said}");
        Some(())
    });

    let first = Press { response_url: receiver.url("/respond"), ..block };
    assert_eq!(first.send(&gateway).status, 200);
    let stored = &callbacks(&gateway)[1];
    assert_eq!(stored["parent"], *event);
    assert_eq!(stored["data"]["action"], "action_requested");
    assert_eq!((&data(1)["authorized"], &data(1)["request"]), (&json!(true), &json!("block")));
    assert!(!stored.to_string().contains("198.51.100.1"), "{stored}");
    // Another operator, another press: it was asked for before.
    let second =
        Press { user: "U2", trigger: "t2", response_url: receiver.url("/respond"), ..first };
    assert_eq!(second.send(&gateway).status, 200);
    assert_eq!(callbacks(&gateway).len(), 2, "nothing is added");
    assert_eq!((outcome("authorized"), outcome("operator"), outcome("repeat")), (1.0, 1.0, 1.0));
    // The value names one event and the message another.
    let log = event.split('-').next().unwrap();
    let other = format!("{log}-999999");
    let forged =
        Press { event: &other, trigger: "t3", response_url: receiver.url("/respond"), ..second };
    assert_eq!(forged.send(&gateway).status, 200);
    assert_eq!((&data(2)["authorized"], &data(2)["refused"]), (&json!(false), &json!("unlinked")));
    let acknowledged = Press {
        button: "holdfast_acknowledge",
        event: &event,
        user: "U9",
        trigger: "t4",
        response_url: receiver.url("/respond"),
        ..forged
    };
    assert_eq!(acknowledged.send(&gateway).status, 200);
    assert_eq!(callbacks(&gateway)[3]["data"]["action"], "acknowledged");
    let audit = gateway.get("/v1/audit?limit=100").text;
    for word in ["block: operator", "block: authorized", "block: repeat", "block: unlinked"] {
        assert!(audit.contains(word), "{word}: {audit}");
    }
    gateway.finish();
}
