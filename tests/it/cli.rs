//! The command line from outside: exit codes, what errors say, and commands against a gateway.

use std::fs;

use serde_json::Value;

use crate::support::{
    Config, Gateway, Receiver, Reply, alerts, binary, config::free_port, http::Call,
};

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// A gateway with one dead letter, and a receiver that takes the rest.
fn with_dead_letter() -> (Gateway, Receiver) {
    let receiver = Receiver::start(|request| {
        if request.text().contains("\"number\":3,") { Reply::status(400) } else { Reply::ok() }
    });
    let mut gateway = Gateway::new(Config::new().webhook("siem", &receiver.url("/"), ""));
    gateway.restart();
    gateway.accept(&alerts::ndjson(0..5));
    gateway.wait_for_term("siem", "delivered", 4);
    gateway.wait_for_term("siem", "dead", 1);
    (gateway, receiver)
}

#[test]
fn every_exit_code_has_its_cause_and_every_error_says_what_to_do() {
    let mut gateway = Gateway::start(Config::new());
    // 0: done.
    assert_eq!(gateway.cli(&["status"]).code, Some(0));
    // 1: failed.
    let failed = gateway.cli(&["destinations", "pause", "nowhere"]);
    assert_eq!(failed.code, Some(1));
    assert!(failed.err.contains("holdfast status"), "{}", failed.err);
    // 2: usage, of the command and of the API.
    for arguments in [&["tail", "--nope"][..], &["replay", "start"], &["tail", "--when", "x"]] {
        assert_eq!(gateway.cli(arguments).code, Some(2), "{arguments:?}");
    }
    let refused = gateway.cli(&["dead-letters", "purge"]);
    assert_eq!(refused.code, Some(2), "{}", refused.err);
    // 69: unreachable.
    let url = format!("http://127.0.0.1:{}", free_port());
    for command in ["status", "top", "tail", "console"] {
        let said = binary::run(&[command, "--url", &url]);
        assert_eq!(said.code, Some(69), "{command}: {said:?}");
        assert!(said.err.contains(&url) && said.err.contains("--url"), "{}", said.err);
    }
    // 75: the queue is locked.
    let locked = binary::queue("verify", &gateway.queue_path());
    assert_eq!(locked.code, Some(75));
    assert!(locked.err.contains("stop the gateway first"), "{}", locked.err);
    // 77: refused, without a token and with a wrong one.
    let url = format!("http://127.0.0.1:{}", gateway.port);
    let empty = gateway.config.file("no-state");
    let without = binary::run(&["status", "--url", &url, "--state", empty.to_str().unwrap()]);
    assert_eq!(without.code, Some(77));
    assert!(without.err.contains("--token-file"), "{}", without.err);
    let token = gateway.config.secret("wrong", "a-token-that-nobody-knows");
    let wrong = binary::run(&["status", "--url", &url, "--token-file", token.to_str().unwrap()]);
    assert_eq!(wrong.code, Some(77));
    // 78: configuration.
    let faulty = gateway.config.secret("faulty.toml", "nope = 1\n");
    for arguments in [["check", "--config"], ["run", "--config"]] {
        let mut arguments = arguments.to_vec();
        arguments.push(faulty.to_str().unwrap());
        assert_eq!(binary::run(&arguments).code, Some(78), "{arguments:?}");
    }
    gateway.finish();
}

#[test]
fn a_replay_is_started_listed_watched_and_held() {
    let (mut gateway, receiver) = with_dead_letter();
    let none = gateway.cli(&["replay", "list"]);
    assert!(none.out.contains("holdfast replay start"), "{}", none.out);
    let dry = gateway.cli(&["replay", "start", "--destination", "siem", "--dry-run"]);
    assert!(dry.out.starts_with("1 "), "{}", dry.out);
    receiver.behave(|_| Reply::ok());
    let done = gateway.cli(&["replay", "start", "--destination", "siem", "--json"]);
    assert_eq!(done.code, Some(0), "{}", done.err);
    let job = json(&done.out);
    assert_eq!((&job["state"], &job["delivered"]), (&"done".into(), &1.into()));
    let id = job["id"].to_string();
    assert_eq!(json(&gateway.cli(&["replay", "watch", &id, "--json"]).out), job);
    assert_eq!(json(&gateway.cli(&["replay", "list", "--json"]).out)[0]["id"], job["id"]);
    assert!(gateway.cli(&["replay", "list"]).out.contains("DUPLICATE"));
    // What has ended cannot be held.
    let late = gateway.cli(&["replay", "pause", &id]);
    assert_eq!(late.code, Some(75), "{}", late.err);
    let absent = gateway.cli(&["replay", "cancel", "99"]);
    assert_eq!(absent.code, Some(1), "{}", absent.err);
    gateway.finish();
}

#[test]
fn a_sign_in_link_works_once_and_opens_a_page_and_nothing_else() {
    let (mut gateway, _receiver) = with_dead_letter();
    let anonymous = Call::new(gateway.port, "GET", "/").send().unwrap();
    assert_eq!(anonymous.status, 401);
    assert!(anonymous.text.contains("holdfast console"), "{}", anonymous.text);
    let said = gateway.cli(&["console"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let url = said.out.trim();
    let path = url.strip_prefix(&format!("http://127.0.0.1:{}", gateway.port)).unwrap();
    let opened = Call::new(gateway.port, "GET", path).send().unwrap();
    assert_eq!(opened.status, 303, "{}", opened.text);
    let cookie = opened.header("set-cookie").unwrap().to_owned();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    let session = cookie.split(';').next().unwrap();
    let page = Call::new(gateway.port, "GET", "/").header("Cookie", session).send().unwrap();
    assert_eq!(page.status, 200);
    assert!(page.text.contains("comes with a later version") && page.text.contains("siem"));
    // Once only, and the cookie is no token.
    assert_eq!(Call::new(gateway.port, "GET", path).send().unwrap().status, 401);
    let call = Call::new(gateway.port, "GET", "/v1/destinations").header("Cookie", session);
    assert_eq!(call.send().unwrap().status, 401);
    let forged = Call::new(gateway.port, "GET", "/?code=0123456789abcdef").send().unwrap();
    assert_eq!(forged.status, 401);
    // Who may only read makes no link.
    assert!(!gateway.log().contains(&path[7..]), "the code is in no log");
    gateway.finish();
}

#[test]
fn completions_and_manual_pages_are_made_of_the_commands() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let said = binary::run(&["completions", shell]);
        assert_eq!(said.code, Some(0), "{shell}: {}", said.err);
        assert!(said.out.contains("dead-letters"), "{shell}");
    }
    assert_eq!(binary::run(&["completions", "tcsh"]).code, Some(2));
    let folder = tempfile::tempdir().unwrap();
    let pages = folder.path().join("man1");
    let said = binary::run(&["man", pages.to_str().unwrap()]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let page = fs::read_to_string(pages.join("holdfast-queue-import.1")).unwrap();
    assert!(page.contains(".TH") && page.contains("replaced"), "{page}");
    assert!(pages.join("holdfast.1").exists());
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    assert_eq!(binary::run(&["man", file.to_str().unwrap()]).code, Some(1));
}
