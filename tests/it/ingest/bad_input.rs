use serde_json::json;

use super::{expect_taken, with_receiver};
use crate::support::{Answer, Gateway, alerts};

fn post(gateway: &Gateway, body: &[u8]) -> Answer {
    gateway.call("POST", "/v1/alerts").ndjson(body).send().expect("an answer")
}

fn nested(levels: usize) -> Vec<u8> {
    let mut body = b"{\"a\":".to_vec();
    body.extend(std::iter::repeat_n(b'[', levels - 1));
    body.extend(std::iter::repeat_n(b']', levels - 1));
    body.push(b'}');
    body
}

#[test]
fn nonsense_is_refused_with_a_reason_and_the_gateway_goes_on() {
    let (mut gateway, receiver) = with_receiver();
    let binary: Vec<u8> = (0..=255_u8).cycle().take(50_000).collect();
    #[rustfmt::skip]
    let table: &[(&str, Vec<u8>)] = &[
        ("empty",                Vec::new()),
        ("white space",          b" \n\r\n\t\n".to_vec()),
        ("an empty array",       b"[]".to_vec()),
        ("zeros",                vec![0; 4096]),
        ("binary",               binary),
        ("half an alert",        b"{\"rule\":{\"id\":\"1\"".to_vec()),
        ("two on a line",        b"{} {}".to_vec()),
        ("a number",             b"42".to_vec()),
        ("a string",             b"\"alert\"".to_vec()),
        ("null",                 b"null".to_vec()),
        ("a raw control char",   b"{\"a\":\"\x01\"}".to_vec()),
        ("a zero in a string",   b"{\"a\":\"\x00\"}".to_vec()),
        ("129 levels",           nested(129)),
        ("a million levels",     nested(500_000)),
        ("a lone bracket flood", vec![b'['; 1_000_000]),
        ("a byte order mark",    b"\xef\xbb\xbf[]".to_vec()),
        ("NaN",                  b"{\"a\":NaN}".to_vec()),
    ];
    for (name, body) in table {
        let answer = post(&gateway, body);
        assert_eq!(answer.status, 400, "{name}: {}", answer.text);
        assert!(answer.text.len() < 64 * 1024, "{name}: the answer is {} bytes", answer.text.len());
    }
    assert_eq!(post(&gateway, &nested(128)).status, 202, "128 levels are allowed");
    gateway.wait_for_term("all", "delivered", 1);
    expect_taken(&mut gateway, &receiver, []);
}

#[test]
fn an_alert_as_large_as_allowed_is_delivered_whole() {
    let (mut gateway, receiver) = with_receiver();
    let start = "{\"number\":1,\"full_log\":\"";
    let filler = (1 << 20) - start.len() - 2;
    let alert = format!("{start}{}\"}}", "\u{e4}y".repeat(filler / 3));
    let answer = post(&gateway, alert.as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text);
    receiver.wait_for(1);
    assert!(receiver.exchanges()[0].request.text() == alert, "the body differs");
    gateway.wait_for_term("all", "delivered", 1);
    gateway.finish();
}

#[test]
fn sixteen_mebibytes_of_alerts_in_one_body_are_taken_whole() {
    let (mut gateway, receiver) = with_receiver();
    let mut body = String::new();
    let mut count = 0;
    while body.len() + 4096 < 16 << 20 {
        body.push_str(&alerts::alert(count));
        body.push('\n');
        count += 1;
    }
    let answer = post(&gateway, body.as_bytes());
    assert_eq!((answer.status, &answer.json()["accepted"]), (202, &json!(count)));
    gateway.wait_for_term("all", "delivered", count);
    expect_taken(&mut gateway, &receiver, 0..count);
}

#[test]
fn invalid_utf8_is_kept_and_leaves_as_the_replacement_character() {
    let (mut gateway, receiver) = with_receiver();
    let answer = post(&gateway, b"{\"number\":1,\"full_log\":\"caf\xe9 \xff\"}");
    assert_eq!(answer.status, 202, "{}", answer.text);
    receiver.wait_for(1);
    let text = String::from_utf8(receiver.exchanges()[0].request.body.clone());
    assert_eq!(text.as_deref(), Ok("{\"number\":1,\"full_log\":\"caf\u{fffd} \u{fffd}\"}"));
    gateway.wait_for_term("all", "delivered", 1);
    gateway.finish();
}

#[test]
fn an_alert_without_rule_or_with_odd_fields_passes() {
    let (mut gateway, receiver) = with_receiver();
    let odd = [
        r#"{"number":1}"#,
        r#"{"number":2,"rule":null}"#,
        r#"{"number":3,"rule":{"id":7,"level":"high"},"agent":[]}"#,
        r#"{"number":4,"rule":{"level":99999999999999999999}}"#,
        r#"{"number":5,"rule":{},"rule":{"id":"1"}}"#,
    ];
    let answer = post(&gateway, odd.join("\n").as_bytes());
    assert_eq!(answer.status, 202, "{}", answer.text);
    expect_taken(&mut gateway, &receiver, 1..6);
}
