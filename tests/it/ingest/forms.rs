use std::io::Write;

use flate2::{Compression, write::GzEncoder};

use super::{expect_taken, with_receiver};
use crate::support::{Config, Gateway, Receiver, alerts};

fn gzip(body: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(body.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn an_object_an_array_lines_and_gzip_are_taken_and_counted() {
    let (mut gateway, receiver) = with_receiver();
    let post = |content_type: &str, body: &str| {
        let call = gateway.call("POST", "/v1/alerts").body(content_type, body);
        call.send().expect("an answer")
    };
    let one = post("application/json", &alerts::alert(0));
    let array = format!("[ {} ,\n {} ]", alerts::alert(1), alerts::alert(2));
    let two = post("application/json; charset=utf-8", &array);
    let three = post("application/x-ndjson", &alerts::ndjson(3..6));
    let call = gateway.call("POST", "/v1/alerts").header("Content-Encoding", "gzip");
    let packed = call.ndjson(gzip(&alerts::ndjson(6..10))).send().unwrap();
    for (answer, accepted) in [(one, 1), (two, 2), (three, 3), (packed, 4)] {
        assert_eq!(answer.status, 202, "{}", answer.text);
        let answer = answer.json();
        assert_eq!(answer["accepted"], accepted, "{answer}");
        let (first, last) = (answer["first"].as_str().unwrap(), answer["last"].as_str().unwrap());
        assert_eq!(seq(last) - seq(first) + 1, accepted, "{answer}");
    }
    expect_taken(&mut gateway, &receiver, 0..10);
}

fn seq(id: &str) -> u64 {
    id.rsplit_once('-').and_then(|(_, seq)| seq.parse().ok()).expect("an event id")
}

#[test]
fn the_receiver_gets_the_alert_byte_for_byte() {
    let (mut gateway, receiver) = with_receiver();
    let odd = r#"{"number":1, "b" : [ 1,2 ],"a":1.50e3,"ü":"\u00e9\/","big":123456789012345678901234567890}"#;
    let call = gateway.call("POST", "/v1/alerts").body("application/json", odd);
    assert_eq!(call.send().unwrap().status, 202);
    receiver.wait_for(1);
    assert_eq!(receiver.exchanges()[0].request.text(), odd);
    let exchange = receiver.exchanges().remove(0);
    assert_eq!(exchange.request.method, "POST");
    assert_eq!(exchange.request.header("content-type"), Some("application/json"));
    assert!(exchange.request.header("user-agent").unwrap().starts_with("holdfast/"));
    assert!(exchange.request.key().ends_with(".all"), "{}", exchange.request.key());
    gateway.wait_for_term("all", "delivered", 1);
    gateway.finish();
}

#[test]
fn what_was_acknowledged_survives_kill_nine_right_after_the_answer() {
    let receiver = Receiver::willing();
    let config = Config::new().webhook("all", &receiver.url("/"), "");
    let mut gateway = Gateway::start(config);
    gateway.get("/livez");
    gateway.post("/v1/destinations/all/pause", &serde_json::json!({}));
    for round in 0..10 {
        gateway.accept(&alerts::ndjson(round * 10..round * 10 + 10));
        gateway.kill();
        gateway.restart();
    }
    assert_eq!(gateway.lane("all")["state"], "paused", "a pause outlasts a crash");
    gateway.post("/v1/destinations/all/resume", &serde_json::json!({}));
    receiver.wait_for(100);
    gateway.wait_for_term("all", "delivered", 100);
    gateway.finish();
}
