//! Callbacks from outside: heard, linked, stored before they are answered, and once.

mod buttons;
mod certificates;
mod closing;
mod vendors;

use ring::hmac;
use serde_json::{Value, json};

use crate::support::{
    Config, Gateway, Receiver, Reply, alerts,
    config::free_port,
    http::{Answer, Call},
};

const SECRET: &str = "callback-secret-0123456789";

/// Hexadecimal digits of an HMAC-SHA256.
fn tag(parts: &[&[u8]]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
    let tag = hmac::sign(&key, &parts.concat());
    tag.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now_s() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("it is after 1970").as_secs()
}

/// PagerDuty's word about an incident, signed.
fn page(
    port: u16,
    lane: &str,
    id: &str,
    incident_key: &str,
    tag_of: impl Fn(&str) -> String,
) -> Answer {
    let body = json!({ "event": {
        "id": id, "event_type": "incident.acknowledged", "occurred_at": rfc3339(now_s()),
        "agent": { "id": "PANN", "summary": "Ann" },
        "data": { "id": "PGR0VU2", "incident_key": incident_key, "status": "acknowledged" } } });
    let body = body.to_string();
    // Of one address so many are taken a second.
    loop {
        let call = Call::new(port, "POST", &format!("/v1/callbacks/{lane}"));
        let call = call.host("callbacks.example").header("X-PagerDuty-Signature", &tag_of(&body));
        let answer = call.body("application/json", &body).send().expect("an answer");
        if answer.status != 429 {
            return answer;
        }
        std::thread::yield_now();
    }
}

fn right(body: &str) -> String {
    format!("v1={}", tag(&[body.as_bytes()]))
}

fn rfc3339(seconds: u64) -> String {
    let (year, month, day) = crate::support::wait::civil(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// A pager that takes every event under the key that it has.
fn pager() -> Receiver {
    Receiver::start(|request| {
        let body: Value = serde_json::from_slice(&request.body).unwrap_or_default();
        let said = json!({ "status": "success", "dedup_key": body["dedup_key"] });
        Reply::text(202, &said.to_string())
    })
}

fn with_pager(config: Config, receiver: &Receiver) -> Config {
    config.queue("reserve = \"1MiB\"").table(&format!(
        "[destinations.oncall]\ntype = \"pagerduty\"\nrouting_key = \"{}\"\nurl = \"{}\"\n\
         callback = {{ secret = \"{SECRET}\" }}\n[destinations.plain]\ntype = \"stdout\"",
        "0".repeat(32),
        receiver.url("/v2/enqueue"),
    ))
}

fn callbacks(gateway: &Gateway) -> Vec<Value> {
    let page = gateway.get("/v1/alerts?kind=callback&limit=500").json();
    page["data"].as_array().expect("a list").clone()
}

fn counter(gateway: &Gateway, name: &str, lane: &str, label: &str) -> f64 {
    let kind = if name == "callbacks_refused_total" { "reason" } else { "outcome" };
    gateway.metric(&format!("holdfast_{name}{{destination=\"{lane}\",{kind}=\"{label}\"}}"))
}

#[test]
fn a_callback_is_stored_and_linked_and_its_repeat_adds_nothing_and_no_restart_forgets_it() {
    let receiver = pager();
    let mut gateway = Gateway::start(with_pager(Config::new(), &receiver));
    for reason in ["signature", "stale", "malformed", "not_stored"] {
        assert_eq!(counter(&gateway, "callbacks_refused_total", "oncall", reason), 0.0);
    }
    let event = gateway.accept(&alerts::ndjson(0..1))["first"].as_str().unwrap().to_owned();
    gateway.wait_for_term("oncall", "delivered", 1);
    let key = format!("{event}.oncall");
    let answer = page(gateway.port, "oncall", "e1", &key, right);
    assert_eq!((answer.status, answer.text.as_str()), (200, "{}"));
    let all = callbacks(&gateway);
    assert_eq!(all.len(), 1);
    let stored = &all[0];
    assert_eq!(stored["parent"], *event);
    assert_eq!(stored["source"], "oncall");
    let data = &stored["data"];
    let expected = json!({ "id": "PANN", "name": "Ann" });
    assert_eq!((&data["actor"], &data["remote_id"]), (&expected, &json!(key)));
    assert_eq!((&data["action"], &data["delivery_id"]), (&json!("acknowledged"), &json!("e1")));
    assert_eq!(data["rule"]["description"], "oncall: acknowledged by Ann");
    assert_eq!(page(gateway.port, "oncall", "e1", &key, right).status, 200, "a repeat");
    assert_eq!(counter(&gateway, "callbacks_total", "oncall", "repeat"), 1.0);
    gateway.kill();
    gateway.restart();
    assert_eq!(page(gateway.port, "oncall", "e1", &key, right).status, 200, "a later repeat");
    assert_eq!(callbacks(&gateway).len(), 1);
    // About nothing of ours: kept, and seen.
    assert_eq!(page(gateway.port, "oncall", "e2", "somebody-elses", right).status, 200);
    assert_eq!(callbacks(&gateway)[1]["parent"], Value::Null);
    assert_eq!(counter(&gateway, "callbacks_total", "oncall", "unmatched"), 1.0);
    let arguments = ["tail", "--kind", "callback", "--start", "oldest", "--no-follow"];
    let said = gateway.cli(&arguments);
    let lines: Vec<&str> = said.out.lines().collect();
    assert!(lines[0].ends_with("callback  oncall: acknowledged by Ann"), "{said:?}");
    assert!(lines[1].ends_with("by Ann, about no event that is known here"), "{said:?}");
    gateway.finish();
}

#[test]
fn nobody_learns_why_a_callback_was_refused_and_nothing_of_it_is_kept() {
    let (receiver, port) = (pager(), free_port());
    let token = crate::support::config::TOKEN;
    let config = Config::new().server(&format!(
        "callbacks = {{ listen = \"127.0.0.1:{port}\" }}\n\
         tokens = [{{ name = \"it\", role = \"admin\", token = \"{token}\" }}]"
    ));
    let mut gateway = Gateway::start(with_pager(config, &receiver));
    let wrong = |body: &str| right(&format!("{body} "));
    let refused = page(port, "oncall", "e1", "x", wrong);
    assert_eq!((refused.status, refused.problem().as_str()), (401, "bad-signature"));
    for lane in ["plain", "nothing", "no%20name"] {
        let answer = page(port, lane, "e1", "x", right);
        assert_eq!((answer.status, &answer.text), (401, &refused.text), "{lane}");
    }
    assert_eq!(counter(&gateway, "callbacks_refused_total", "oncall", "signature"), 1.0);
    assert_eq!(counter(&gateway, "callbacks_refused_total", "unknown", "signature"), 3.0);
    let elsewhere = page(gateway.port, "oncall", "e1", "x", right);
    assert!([403, 404].contains(&elsewhere.status), "only where the listener is: {elsewhere:?}");
    let malformed = Call::new(port, "POST", "/v1/callbacks/oncall")
        .header("X-PagerDuty-Signature", &right("{}"))
        .body("application/json", "{}");
    let malformed = malformed.send().unwrap();
    assert_eq!((malformed.status, malformed.problem().as_str()), (400, "bad-request"));
    assert_eq!(counter(&gateway, "callbacks_refused_total", "oncall", "malformed"), 1.0);
    assert_eq!(callbacks(&gateway), Vec::<Value>::new());
    let audit = gateway.get("/v1/audit?limit=100").text;
    assert_eq!(audit.matches("callback-refused").count(), 3, "the like are audited once: {audit}");
    // And a right one comes in there.
    assert_eq!(page(port, "oncall", "e1", "x", right).status, 200);
    assert_eq!(callbacks(&gateway).len(), 1);
    gateway.finish();
}

#[test]
fn what_was_answered_is_there_once_whenever_the_gateway_was_killed() {
    const ROUNDS: usize = 3;
    let receiver = pager();
    let mut gateway = Gateway::start(with_pager(Config::new(), &receiver));
    let mut sent = Vec::new();
    for round in 0..ROUNDS {
        let port = gateway.port;
        // Killed while they come: some are answered, some stored and not answered, some neither.
        let sender = std::thread::spawn(move || {
            let mut answered = Vec::new();
            for number in 0.. {
                let id = format!("{round}-{number}");
                let body = json!({ "event": {
                    "id": id, "event_type": "incident.resolved", "occurred_at": rfc3339(now_s()),
                    "data": { "incident_key": "x" } } })
                .to_string();
                let call = Call::new(port, "POST", "/v1/callbacks/oncall")
                    .header("X-PagerDuty-Signature", &right(&body))
                    .body("application/json", &body);
                match call.send() {
                    Ok(answer) if answer.status == 200 => answered.push((id, body, true)),
                    Ok(answer) => assert_eq!(answer.status, 429, "{answer:?}"),
                    Err(_) => {
                        answered.push((id, body, false));
                        return answered;
                    }
                }
            }
            answered
        });
        crate::support::eventually("some were stored", || {
            (callbacks(&gateway).len() > sent.len() + 5 * (round + 1)).then_some(())
        });
        gateway.kill();
        sent.extend(sender.join().unwrap());
        gateway.restart();
    }
    let ids = |gateway: &Gateway| -> Vec<String> {
        let of = |event: &Value| event["data"]["delivery_id"].as_str().unwrap().to_owned();
        callbacks(gateway).iter().map(of).collect()
    };
    let kept = ids(&gateway);
    for (id, _, answered) in &sent {
        let times = kept.iter().filter(|kept| *kept == id).count();
        assert!(times == 1 || (times == 0 && !answered), "{id}: {times}, answered: {answered}");
    }
    // The vendor sends all of them again, as one that had no answer does.
    for (_, body, _) in &sent {
        loop {
            let call = Call::new(gateway.port, "POST", "/v1/callbacks/oncall")
                .header("X-PagerDuty-Signature", &right(body))
                .body("application/json", body);
            match call.send().unwrap().status {
                200 => break,
                status => assert_eq!(status, 429),
            }
        }
    }
    let mut kept = ids(&gateway);
    kept.sort();
    let mut expected: Vec<_> = sent.into_iter().map(|(id, ..)| id).collect();
    expected.sort();
    assert_eq!(kept, expected);
    gateway.finish();
}
