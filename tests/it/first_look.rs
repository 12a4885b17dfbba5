//! Where alerts come from and go to without any other system: files, the terminal, the quickstart.

use std::{
    fs::{self, OpenOptions},
    io::Write,
    path::Path,
    process::{Child, Stdio},
};

use crate::support::{Config, Gateway, alerts, binary, config::free_port, eventually, wait::holds};

/// Kills what a failed test leaves running.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.kill().and_then(|()| self.0.wait()).ok();
    }
}

fn append(path: &Path, text: &str) {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes())).expect("append to the alerts");
}

#[test]
fn every_alert_of_a_file_and_of_http_reaches_the_archive_byte_for_byte() {
    let config = Config::new();
    let (input, archive) = (config.file("alerts.json"), config.file("archive.ndjson"));
    append(&input, &alerts::ndjson(0..50));
    let config = config.tail(&input).table(&format!(
        "[destinations.archive]\ntype = \"file\"\npath = \"{}\"\nstart = \"all\"\n\
         batch = {{ max_events = 10, max_wait = \"10ms\" }}",
        archive.display()
    ));
    let mut gateway = Gateway::start(config);
    gateway.wait_for_term("archive", "delivered", 50);
    gateway.accept(&alerts::ndjson(50..60));
    append(&input, &alerts::ndjson(60..100));
    gateway.wait_for_term("archive", "delivered", 100);

    let text = fs::read_to_string(&archive).unwrap();
    let mut found: Vec<&str> = text.lines().collect();
    found.sort_by_key(|line| alerts::number(line.as_bytes()));
    let written: Vec<String> = (0..100).map(alerts::alert).collect();
    assert_eq!(found, written);
    gateway.finish();
}

#[test]
fn an_archive_in_envelopes_names_each_event_once() {
    let config = Config::new();
    let archive = config.file("archive.ndjson");
    let config = config.table(&format!(
        "[destinations.archive]\ntype = \"file\"\npath = \"{}\"\nformat = \"envelope\"",
        archive.display()
    ));
    let mut gateway = Gateway::start(config);
    let answer = gateway.accept(&alerts::ndjson(0..20));
    gateway.wait_for_term("archive", "delivered", 20);
    let text = fs::read_to_string(&archive).unwrap();
    let envelopes: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let mut ids: Vec<&str> = envelopes.iter().filter_map(|e| e["id"].as_str()).collect();
    ids.sort_by_key(|id| id.rsplit_once('-').map(|(_, seq)| seq.parse::<u64>().unwrap()));
    ids.dedup();
    assert_eq!(ids.len(), 20);
    assert_eq!(ids[0], answer["first"]);
    assert_eq!(ids[19], answer["last"]);
    assert!(envelopes.iter().all(|envelope| envelope["alert"]["number"].is_u64()));
    gateway.finish();
}

#[test]
fn the_terminal_shows_one_line_an_alert_and_obeys_none_of_them() {
    let config = Config::new().table("[destinations.terminal]\ntype = \"stdout\"");
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..10));
    gateway.accept("{\"rule\":{\"description\":\"\\u001b[2J\\u009bclear \\u202e evil\\nnext\"}}");
    gateway.wait_for_term("terminal", "delivered", 11);
    let out = gateway.stdout();
    assert_eq!(out.lines().filter(|line| line.starts_with("delivered")).count(), 11, "{out}");
    let wild = |c: char| c != '\n' && (c.is_control() || c == '\u{202e}');
    assert!(!out.contains(wild), "{out:?}");
    gateway.finish();
}

#[test]
fn the_quickstart_delivers_the_sample_alerts_visibly() {
    let folder = tempfile::TempDir::new().unwrap();
    let repository = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    copy(&repository.join("config"), &folder.path().join("config"));
    // As shipped, but for the port, which somebody else may have.
    let config = folder.path().join("config/quickstart.toml");
    let text = fs::read_to_string(&config).unwrap();
    let port = free_port();
    fs::write(&config, text.replace("\"127.0.0.1:9470\"", &format!("\"127.0.0.1:{port}\"")))
        .unwrap();
    let shown = folder.path().join("shown");
    let out = fs::File::create(&shown).unwrap();
    let mut command = binary::command();
    command.args(["run", "--config", "config/quickstart.toml"]).current_dir(folder.path());
    command.stdout(out.try_clone().unwrap()).stderr(Stdio::piped());
    let mut running = Running(command.spawn().expect("start holdfast"));
    let samples = alerts::sample_count();
    eventually("all sample alerts are shown", || {
        let text = fs::read_to_string(&shown).unwrap();
        if let Ok(Some(status)) = running.0.try_wait() {
            panic!("it ended with {status}");
        }
        holds(text.lines().filter(|line| line.contains("delivered")).count() == samples)
    });
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}
