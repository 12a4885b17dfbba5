//! Callbacks: a listener of their own, limits before anything else, and nothing to learn from.

use crate::support::{
    Config, Gateway,
    config::free_port,
    http::{Answer, Call, read_answer},
};

const TOO_LARGE: usize = 1024 * 1024 + 1;

fn post(port: u16, destination: &str, body: &str) -> Answer {
    let path = format!("/v1/callbacks/{destination}");
    let call = Call::new(port, "POST", &path).host("callbacks.example");
    call.body("application/x-www-form-urlencoded", body).send().unwrap()
}

fn with_listener(port: u16) -> Config {
    let tokens = "tokens = [{ name = \"it\", role = \"admin\", token = \"it-admin-token-0123456789abcdef\" }]";
    Config::new()
        .server(&format!("callbacks = {{ listen = \"127.0.0.1:{port}\" }}\n{tokens}"))
        .table("[destinations.known]\ntype = \"stdout\"")
}

#[test]
fn an_unknown_destination_looks_like_a_bad_signature() {
    let port = free_port();
    let mut gateway = Gateway::start(with_listener(port));
    let (known, unknown) = (post(port, "known", "a=1"), post(port, "unknown", "a=1"));
    assert_eq!((known.status, known.problem().as_str()), (401, "bad-signature"), "{known:?}");
    assert_eq!(known.text, unknown.text);
    assert_eq!(known.header("content-type"), Some("application/problem+json"));
    assert_eq!(post(port, "known", "").status, 401);
    let body = "x".repeat(TOO_LARGE);
    assert_eq!(post(port, "known", &body).status, 413);
    for path in ["/livez", "/v1/destinations", "/metrics", "/openapi.json", "/v1/callbacks/"] {
        let answer = Call::new(port, "GET", path).bearer(&gateway.token).send().unwrap();
        assert_eq!(answer.status, 404, "{path} is not served there: {answer:?}");
    }
    let elsewhere = gateway.call("POST", "/v1/callbacks/known").body("text/plain", "a=1");
    let elsewhere = elsewhere.send().unwrap();
    assert_eq!(elsewhere.status, 404, "not on the main listener: {elsewhere:?}");
    assert!(
        gateway.get("/metrics").text.contains("\nholdfast_log_events 0\n"),
        "nothing is stored"
    );
    gateway.finish();
}

#[test]
fn one_address_gets_so_many_answers_a_second_and_so_long_for_a_body() {
    let port = free_port();
    let mut gateway = Gateway::start(with_listener(port));
    let slow = Call::new(port, "POST", "/v1/callbacks/known").begin(10).unwrap();
    // More than a minute's worth at once, however slowly this machine sends them.
    let refused = (0..2_000).map(|_| post(port, "known", "")).find(|answer| answer.status != 401);
    let refused = refused.expect("2,000 requests from one address");
    assert_eq!((refused.status, refused.problem().as_str()), (429, "too-many-requests"));
    assert_eq!(refused.header("retry-after"), Some("1"));
    let mut slow = slow;
    let answer = read_answer(&mut slow).unwrap();
    assert_eq!((answer.status, answer.problem().as_str()), (408, "timeout"));
    assert_eq!(gateway.get("/livez").status, 200, "the main listener is another");
    gateway.finish();
}

#[test]
fn without_a_listener_of_their_own_they_are_served_on_loopback() {
    let mut gateway = Gateway::start(Config::new());
    let answer = post(gateway.port, "known", "a=1");
    assert_eq!((answer.status, answer.problem().as_str()), (401, "bad-signature"), "{answer:?}");
    gateway.finish();
}
