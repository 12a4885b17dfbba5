//! A message carries what lookups say, or says that it was not known in time.

use serde_json::Value;

use super::lookup::{self, MALICIOUS, asked};
use crate::support::{Config, Gateway, Receiver, alerts};

const BODY: &str =
    "body = '{\"text\": {{ message.text | tojson }}, \"enrich\": {{ enrich | tojson }}}'";

#[test]
fn a_message_has_the_verdict_and_goes_without_one_that_comes_too_late() {
    let chat = Receiver::willing();
    let config = Config::new();
    // They are only asked: their own lanes take nothing.
    let nothing = "when = { kind = \"operator\" }";
    let vt = lookup::table(&config, "vt", MALICIOUS, "0", nothing);
    let slow = lookup::table(&config, "slow", "{}", "100", nothing);
    let keys = format!("enrich = [\"vt\", \"slow\"]\nenrich_wait = \"3s\"\n{BODY}");
    let config = config.table(&vt).table(&slow).webhook("chat", &chat.url("/"), &keys);
    let mut gateway = Gateway::start(config);
    let accepted = gateway.accept(&alerts::ndjson(0..1));
    gateway.wait_for_term("chat", "delivered", 1);
    let exchanges = chat.exchanges();
    let body: Value = serde_json::from_slice(&exchanges[0].request.body).unwrap();
    let text = body["text"].as_str().unwrap();
    assert!(text.contains("vt: malicious, 52 of 70\n"), "{text}");
    assert!(text.contains("slow: not known: no answer within 3s\n"), "{text}");
    assert_eq!(body["enrich"]["vt"][0]["virustotal"]["positives"], 52, "{body}");
    assert_eq!(body["enrich"]["slow"]["problem"], "no answer within 3s", "{body}");
    assert_eq!(asked(&gateway.config, "vt").len(), 1);
    for lookup in ["vt", "slow"] {
        let ledger = gateway.lane(lookup)["ledger"].clone();
        assert_eq!((&ledger["seen"], &ledger["delivered"]), (&1.into(), &0.into()), "{ledger}");
    }
    let id = accepted["first"].as_str().unwrap();
    let answer = gateway.get(&format!("/v1/alerts/{id}"));
    assert_eq!(answer.json()["children"].as_array().map(Vec::len), Some(0), "{}", answer.text);
    gateway.finish();
}

#[test]
fn a_lookup_that_a_reload_changed_is_asked_as_it_is_now_and_one_that_is_gone_is_refused() {
    let chat = Receiver::willing();
    let config = Config::new();
    let tables = |config: &Config, answer: &str| {
        let vt = lookup::table(config, "vt", answer, "0", "when = { kind = \"operator\" }");
        let chat = format!(
            "[destinations.chat]\ntype = \"webhook\"\nurl = \"{}\"\nenrich = \"vt\"\n{BODY}\n",
            chat.url("/")
        );
        (vt, chat)
    };
    let (vt, asks) = tables(&config, MALICIOUS);
    let mut gateway = Gateway::start(config.table(&vt).table(&asks));
    gateway.accept(&alerts::ndjson(0..1));
    gateway.wait_for_term("chat", "delivered", 1);
    let (vt, asks) = tables(&gateway.config, r#"{"name":"changed"}"#);
    gateway.reloaded(&format!("{vt}{asks}"));
    gateway.accept(&alerts::ndjson(1..2));
    gateway.wait_for_term("chat", "delivered", 2);
    let refused = gateway.reload(&asks);
    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("there is no destination `vt`"), "{}", refused.text);
    gateway.reloaded(&format!("{vt}{asks}"));
    let bodies = chat.exchanges();
    let said = |at: usize| String::from_utf8_lossy(&bodies[at].request.body).into_owned();
    assert!(said(0).contains("vt: malicious, 52 of 70"), "{}", said(0));
    assert!(said(1).contains("vt: changed"), "{}", said(1));
    gateway.finish();
}
