//! Tokens that expire, and tokens that are exchanged without a gap.

use rustix::process::Signal;

use crate::support::{
    Config, Gateway,
    binary::{self},
    config::{TOKEN, write_private},
    eventually,
    http::{Answer, Call},
    wait::holds,
};

const OLD: &str = "soc-old-token-0123456789";
const NEW: &str = "soc-new-token-0123456789";

fn ask(gateway: &Gateway, token: &str) -> Answer {
    Call::new(gateway.port, "GET", "/v1/destinations").bearer(token).send().unwrap()
}

#[test]
fn an_expired_token_is_refused_and_says_so_while_its_successor_works() {
    let tokens = format!(
        "tokens = [ {{ name = \"it\", role = \"admin\", token = \"{TOKEN}\" }},\n\
         {{ name = \"soc\", role = \"read\", token = \"{OLD}\", expires = \"2020-01-01T00:00:00Z\" }},\n\
         {{ name = \"soc\", role = \"read\", token = \"{NEW}\" }} ]"
    );
    let mut gateway = Gateway::start(Config::new().server(&tokens));
    let refused = ask(&gateway, OLD);
    assert_eq!((refused.status, refused.problem().as_str()), (401, "unauthorized"));
    assert!(refused.text.contains("has expired at 2020-01-01T00:00:00.000Z"), "{}", refused.text);
    assert_eq!(refused.header("www-authenticate"), Some("Bearer"));
    assert_eq!(ask(&gateway, NEW).status, 200);
    let warning = "the token `soc` has expired at 2020-01-01T00:00:00.000Z";
    assert!(gateway.log().contains(warning), "{}", gateway.log());
    let path = gateway.config.file("holdfast.toml");
    let said = binary::run(&["check", "--config", path.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "an expired token is no fault: {said:?}");
    assert!(said.err.contains(warning), "{said:?}");
    gateway.finish();
}

#[test]
fn a_token_in_a_file_is_exchanged_while_the_gateway_runs() {
    let config = Config::new();
    let path = config.secret("soc-token", OLD);
    let tokens = format!(
        "tokens = [ {{ name = \"it\", role = \"admin\", token = \"{TOKEN}\" }},\n\
         {{ name = \"soc\", role = \"read\", token = {{ file = \"{}\" }} }} ]",
        path.display()
    );
    let mut gateway = Gateway::start(config.server(&tokens));
    assert_eq!((ask(&gateway, OLD).status, ask(&gateway, NEW).status), (200, 401));
    write_private(&path, NEW);
    eventually("the new token works", || (ask(&gateway, NEW).status == 200).then_some(()));
    assert_eq!(ask(&gateway, OLD).status, 401, "the old one does not any more");
    gateway.finish();
}

/// Writes the file with these tokens beside the administrator's, and sends SIGHUP.
fn hang_up(gateway: &mut Gateway, tokens: &str, outcome: &str, count: f64) {
    let path = gateway.config.file("holdfast.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().map(|line| match line.starts_with("tokens") {
        true => format!(
            "tokens = [{{ name = \"it\", role = \"admin\", token = \"{TOKEN}\" }}{tokens}]\n"
        ),
        false => format!("{line}\n"),
    });
    write_private(&path, &lines.collect::<String>());
    gateway.signal(Signal::HUP);
    let metric = format!("holdfast_config_reloads_total{{outcome=\"{outcome}\"}}");
    eventually("the signal was heard", || holds(gateway.metric(&metric) == count));
}

#[test]
fn a_reload_adds_and_removes_tokens_without_a_restart_and_a_bad_file_does_neither() {
    let token =
        |token: &str| format!(", {{ name = \"soc\", role = \"read\", token = \"{token}\" }}");
    let mut gateway = Gateway::start(Config::new());
    let pid = gateway.pid();
    let valid = |gateway: &Gateway| [OLD, NEW].map(|token| ask(gateway, token).status);
    assert_eq!(valid(&gateway), [401, 401]);
    hang_up(&mut gateway, &token(OLD), "ok", 1.0);
    assert_eq!(valid(&gateway), [200, 401], "one was added");
    hang_up(&mut gateway, &(token(OLD) + &token(NEW)), "ok", 2.0);
    assert_eq!(valid(&gateway), [200, 200], "while they are exchanged both are valid");
    hang_up(&mut gateway, &token(NEW), "ok", 3.0);
    assert_eq!(valid(&gateway), [401, 200], "one was removed");
    hang_up(&mut gateway, &(token(OLD) + &token("short")), "failed", 1.0);
    assert_eq!(valid(&gateway), [401, 200], "a file with a fault changes nothing");
    assert_eq!(gateway.pid(), pid);
    let path = gateway.config.file("holdfast.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines = text.lines().filter(|line| !line.starts_with("tokens"));
    write_private(&path, &lines.map(|line| format!("{line}\n")).collect::<String>());
    let report = gateway.post("/v1/reload", &serde_json::json!({})).json();
    let note = report["notes"][0].as_str().unwrap();
    assert!(note.contains("stay valid until the next start"), "{report}");
    assert_eq!(valid(&gateway), [401, 200]);
    gateway.finish();
}
