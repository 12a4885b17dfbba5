use std::io::Write;

use super::{expect_taken, with_receiver};
use crate::support::{Answer, Config, Gateway, alerts, http};

fn post(gateway: &Gateway, key: &str, body: &str) -> Answer {
    let call = gateway.call("POST", "/v1/alerts").header("Idempotency-Key", key);
    call.ndjson(body).send().expect("an answer")
}

#[test]
fn a_repeat_gets_the_first_answer_and_another_body_is_refused() {
    let (mut gateway, receiver) = with_receiver();
    let first = post(&gateway, "k1", &alerts::ndjson(0..3));
    assert_eq!((first.status, first.header("idempotent-replayed")), (202, None));
    let again = post(&gateway, "k1", &alerts::ndjson(0..3));
    assert_eq!((again.status, again.header("idempotent-replayed")), (202, Some("true")));
    assert_eq!(again.json(), first.json());
    let other = post(&gateway, "k1", &alerts::ndjson(5..6));
    assert_eq!((other.status, other.problem().as_str()), (422, "key-reused"));
    assert_eq!(post(&gateway, "k2", &alerts::ndjson(3..4)).status, 202);
    assert_eq!(post(&gateway, &"k".repeat(300), &alerts::ndjson(7..8)).status, 400);
    expect_taken(&mut gateway, &receiver, 0..4);
}

#[test]
fn a_key_is_remembered_across_kill_nine() {
    let (mut gateway, receiver) = with_receiver();
    let first = post(&gateway, "k1", &alerts::ndjson(0..3));
    gateway.kill();
    gateway.restart();
    let again = post(&gateway, "k1", &alerts::ndjson(0..3));
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "{again:?}");
    assert_eq!(again.json(), first.json());
    assert_eq!(post(&gateway, "k1", &alerts::ndjson(3..4)).status, 422);
    gateway.wait_for_term("all", "delivered", 3);
    let mut taken = receiver.taken();
    taken.sort_unstable();
    taken.dedup();
    assert_eq!(taken, [0, 1, 2]);
    gateway.finish();
}

#[test]
fn a_refused_request_does_not_use_up_its_key() {
    let (mut gateway, receiver) = with_receiver();
    assert_eq!(post(&gateway, "k1", "not json").status, 400);
    let answer = post(&gateway, "k1", &alerts::ndjson(0..1));
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (202, None));
    expect_taken(&mut gateway, &receiver, 0..1);
}

#[test]
fn keys_of_two_tokens_are_two_keys() {
    let other = "another-token-0123456789";
    let tokens = format!(
        "tokens = [ {{ name = \"it\", role = \"admin\", token = \"{}\" }}, \
         {{ name = \"in\", role = \"ingest\", token = \"{other}\" }} ]",
        crate::support::config::TOKEN
    );
    let mut gateway = Gateway::start(Config::new().server(&tokens));
    assert_eq!(post(&gateway, "k1", &alerts::ndjson(0..1)).status, 202);
    let call = http::Call::new(gateway.port, "POST", "/v1/alerts").bearer(other);
    let answer = call.header("Idempotency-Key", "k1").ndjson(alerts::ndjson(1..2)).send().unwrap();
    assert_eq!((answer.status, answer.header("idempotent-replayed")), (202, None));
    gateway.finish();
}

#[test]
fn a_second_request_with_a_key_that_is_under_way_is_told_so() {
    let (mut gateway, receiver) = with_receiver();
    let body = alerts::ndjson(0..2);
    // Two at once, many times: one is taken, the other is told 409 or gets the stored answer.
    let (mut taken, mut under_way) = (0, 0);
    for round in 0..50_u64 {
        let key = format!("k{round}");
        let open = || {
            let call = gateway.call("POST", "/v1/alerts").header("Idempotency-Key", &key);
            let mut stream = call.ndjson("").begin(body.len()).unwrap();
            stream.write_all(&body.as_bytes()[..body.len() - 1]).unwrap();
            stream
        };
        let mut pair = [open(), open()];
        for stream in &mut pair {
            stream.write_all(&body.as_bytes()[body.len() - 1..]).unwrap();
        }
        let answers = pair.map(|mut stream| http::read_answer(&mut stream).unwrap());
        for answer in answers {
            match (answer.status, answer.header("idempotent-replayed")) {
                (202, None) => taken += 1,
                (202, Some("true")) => {}
                (409, _) => {
                    assert_eq!(answer.problem(), "key-under-way");
                    under_way += 1;
                }
                other => panic!("{other:?}: {}", answer.text),
            }
        }
    }
    assert_eq!(taken, 50, "each key was taken once");
    println!("{under_way} of 50 pairs met a request under way");
    receiver.wait_for(2);
    gateway.wait_for_term("all", "delivered", 100);
    gateway.finish();
}
