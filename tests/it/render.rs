//! `holdfast render`: what would be sent is shown, nothing is sent, and no secret is repeated.

use std::{fs, path::Path};

use crate::support::{
    Config, alerts,
    binary::{self, Said},
};

const SECRETS: [&str; 4] =
    ["hunter2-in-the-path", "hunter2-bearer", "hunter2-header", "0123456789abcdefhunter2hunter2ab"];

fn config() -> Config {
    let [path, bearer, header, key] = SECRETS;
    Config::new().table(&format!(
        "[destinations.chat]\ntype = \"slack\"\nwebhook_url = \"http://127.0.0.1:9/{path}\"\n\
         [destinations.pager]\ntype = \"pagerduty\"\nrouting_key = \"{key}\"\nurl = \"http://127.0.0.1:9/v2/enqueue\"\n\
         [destinations.hook]\ntype = \"webhook\"\nurl = \"http://127.0.0.1:9/in?token={path}\"\n\
         bearer = \"{bearer}\"\nheaders = {{ X-Key = \"{header}\" }}\ncompression = \"gzip\"\n\
         [destinations.terminal]\ntype = \"stdout\""
    ))
}

fn render(config: &Path, destination: &str, alert: &Path) -> Said {
    let (config, alert) = (config.to_str().unwrap(), alert.to_str().unwrap());
    binary::run(&["render", destination, "--alert", alert, "--config", config])
}

#[test]
fn the_request_is_shown_to_programs_too() {
    let config = config();
    let file = config.write(9);
    let alert = config.file("alert.json");
    fs::write(&alert, alerts::alert(7)).unwrap();
    let (file, alert) = (file.to_str().unwrap(), alert.to_str().unwrap());
    let said = binary::run(&["render", "hook", "--json", "--alert", alert, "--config", file]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let shown: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    let request = shown["requests"][0].as_str().unwrap();
    assert!(request.starts_with("POST ") && request.contains("rendered00-1.hook"), "{request}");
    assert!(SECRETS.iter().all(|secret| !request.contains(secret)), "{request}");
}

#[test]
fn the_request_is_shown_whole_and_without_secrets() {
    let config = config();
    let file = config.write(9);
    let alert = config.file("alert.json");
    fs::write(&alert, alerts::ndjson(7..9)).unwrap();
    for (name, expected) in [
        ("chat", "\"attachments\":"),
        ("pager", "\"dedup_key\":\"rendered00-1.pager\""),
        ("hook", "idempotency-key: rendered00-1.hook"),
    ] {
        let said = render(&file, name, &alert);
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.out.starts_with("POST http://127.0.0.1:9"), "{}", said.out);
        assert!(said.out.contains(expected), "{}", said.out);
        for secret in SECRETS {
            assert!(!said.out.contains(secret) && !said.err.contains(secret), "{secret}: {said:?}");
        }
    }
    let said = render(&file, "hook", &alert);
    let (_, body) = said.out.split_once("\n\n").unwrap();
    assert_eq!(body.trim_end(), alerts::alert(7), "the body is shown uncompressed");
}

#[test]
fn what_cannot_be_shown_says_why() {
    let config = config();
    let file = config.write(9);
    let alert = config.file("alert.json");
    fs::write(&alert, alerts::ndjson(7..8)).unwrap();
    let said = render(&file, "terminal", &alert);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("makes no HTTP request"), "{}", said.err);
    let said = render(&file, "chatt", &alert);
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("there are: chat, pager, hook, terminal"), "{}", said.err);
    fs::write(&alert, "[1, 2]").unwrap();
    let said = render(&file, "chat", &alert);
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("alert.json is not an alert"), "{}", said.err);
    let said = render(&file, "chat", &config.file("nowhere.json"));
    assert_eq!(said.code, Some(1));
    assert!(said.err.contains("nowhere.json"), "{}", said.err);
}
