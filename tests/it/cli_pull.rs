//! The pull API: pages by cursor, long poll, server-sent events; and `tail`, which uses it.

use std::{
    io::{BufRead, BufReader},
    net::TcpStream,
    process::Stdio,
    thread,
};

use serde_json::Value;

use crate::support::{
    Config, Gateway, Receiver, alerts, eventually,
    http::{Call, read_answer},
    wait::holds,
};

fn kept() -> Config {
    Config::new().queue("reserve = \"1MiB\"\nretention = \"1h\"")
}

fn page(gateway: &Gateway, query: &str) -> Value {
    let answer = gateway.get(&format!("/v1/alerts?{query}"));
    assert_eq!(answer.status, 200, "{query}: {}", answer.text);
    answer.json()
}

fn numbers(page: &Value) -> Vec<u64> {
    let data = page["data"].as_array().expect("a page has data");
    data.iter().map(|event| event["alert"]["number"].as_u64().expect("a numbered alert")).collect()
}

#[test]
fn whoever_keeps_the_cursor_gets_every_event_once_and_in_order() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..25));
    let (mut taken, mut query) = (Vec::new(), "limit=10".to_owned());
    loop {
        let page = page(&gateway, &query);
        taken.extend(numbers(&page));
        query = format!("limit=10&cursor={}", page["next_cursor"].as_str().unwrap());
        if page["has_more"] == false {
            break;
        }
    }
    assert_eq!(taken, (0..25).collect::<Vec<_>>());
    // At the head there is nothing, and the cursor stays good over a restart.
    assert_eq!(numbers(&page(&gateway, &query)), [] as [u64; 0]);
    gateway.terminate();
    gateway.restart();
    gateway.accept(&alerts::ndjson(25..27));
    assert_eq!(numbers(&page(&gateway, &query)), [25, 26]);
    // An event's own cursor goes on behind it, and what is shown is what came.
    let first = page(&gateway, "limit=1");
    let event = &first["data"][0];
    assert_eq!(event["alert"], serde_json::from_str::<Value>(&alerts::alert(0)).unwrap());
    let cursor = event["cursor"].as_str().unwrap();
    assert_eq!(numbers(&page(&gateway, &format!("limit=2&cursor={cursor}"))), [1, 2]);
    assert_eq!(page(&gateway, "start=newest")["data"], serde_json::json!([]));
    gateway.finish();
}

#[test]
fn filters_choose_and_the_cursor_passes_what_they_leave_out() {
    let mut gateway = Gateway::start(kept());
    let alert = |n: u64, level: u64, group: &str| {
        format!(
            "{{\"number\":{n},\"rule\":{{\"id\":\"{}\",\"level\":{level},\"groups\":[\"{group}\"]}},\
             \"agent\":{{\"id\":\"00{n}\",\"name\":\"web-{n}\"}}}}\n",
            5700 + n
        )
    };
    gateway.accept(&[alert(1, 3, "sshd"), alert(2, 12, "web"), alert(3, 9, "sshd")].concat());
    let of = |query: &str| numbers(&page(&gateway, query));
    assert_eq!(of("level=9"), [2, 3]);
    assert_eq!(of("groups=sshd"), [1, 3]);
    assert_eq!(of("groups=sshd,web&level=4"), [2, 3]);
    assert_eq!(of("rule_ids=5701-5702"), [1, 2]);
    assert_eq!(of("agents=web-3&agents=001"), [1, 3]);
    assert_eq!(of("kind=operator"), [] as [u64; 0]);
    let none = page(&gateway, "level=16");
    let on = format!("cursor={}", none["next_cursor"].as_str().unwrap());
    assert_eq!(of(&on), [] as [u64; 0], "what was filtered is not looked at again");
    for (query, key) in [("level=high", "level"), ("limit=0", "limit"), ("nope=1", "nope")] {
        let answer = gateway.get(&format!("/v1/alerts?{query}"));
        assert_eq!(answer.status, 400, "{query}");
        assert!(answer.text.contains(key), "{}", answer.text);
    }
    gateway.finish();
}

#[test]
fn a_waiting_request_is_answered_by_the_next_event_or_at_its_end() {
    let mut gateway = Gateway::start(kept());
    let empty = page(&gateway, "wait=10ms");
    assert_eq!(empty["has_more"], false);
    let cursor = empty["next_cursor"].as_str().unwrap();
    let path = format!("/v1/alerts?wait=60s&cursor={cursor}");
    let call = gateway.call("GET", &path);
    let waiting = thread::spawn(move || call.send().unwrap());
    gateway.accept(&alerts::ndjson(7..8));
    assert_eq!(numbers(&waiting.join().unwrap().json()), [7]);
    // Who waits does not keep the gateway from stopping.
    let call = gateway.call("GET", "/v1/alerts?start=newest&wait=60s");
    let waiting = thread::spawn(move || call.send());
    gateway.finish();
    // It may have come too late to be answered at all.
    if let Ok(answer) = waiting.join().unwrap() {
        assert_eq!(answer.status, 200);
    }
}

#[test]
fn a_cursor_whose_events_are_gone_is_answered_with_the_oldest_that_is_left() {
    let receiver = Receiver::willing();
    let config = Config::new().webhook("siem", &receiver.url("/"), "");
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..1));
    let cursor = page(&gateway, "start=newest")["next_cursor"].as_str().unwrap().to_owned();
    gateway.accept(&alerts::ndjson(1..40));
    gateway.wait_for_term("siem", "delivered", 40);
    eventually("the log is trimmed", || {
        holds(gateway.get("/metrics").text.contains("\nholdfast_log_events 0\n"))
    });
    // What is trimmed can still be in memory, and is then given; a new process has none of it.
    let path = format!("/v1/alerts?cursor={cursor}");
    assert!([200, 410].contains(&gateway.get(&path).status));
    gateway.terminate();
    gateway.restart();
    let answer = gateway.get(&path);
    assert_eq!(answer.status, 410, "{}", answer.text);
    let problem = answer.json();
    assert_eq!(problem["type"], "/problems/cursor-expired");
    let oldest = problem["oldest_cursor"].as_str().unwrap();
    gateway
        .call("POST", "/v1/destinations/siem/pause")
        .body("application/json", "{}")
        .send()
        .unwrap();
    gateway.accept(&alerts::ndjson(40..42));
    assert_eq!(numbers(&page(&gateway, &format!("cursor={oldest}"))), [40, 41]);
    let stream = gateway.get(&format!("/v1/alerts/stream?cursor={cursor}"));
    assert_eq!(stream.status, 410, "a stream refuses it before it begins");
    // Of another log, and of none.
    let other = base64("1.abcdefghij-7");
    assert_eq!(gateway.get(&format!("/v1/alerts?cursor={other}")).status, 410);
    assert_eq!(gateway.get("/v1/alerts?cursor=%21").status, 400);
    gateway
        .call("POST", "/v1/destinations/siem/resume")
        .body("application/json", "{}")
        .send()
        .unwrap();
    gateway.wait_for_term("siem", "delivered", 42);
    gateway.finish();
}

/// URL-safe, without padding.
fn base64(text: &str) -> String {
    const LETTERS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut encoded = String::new();
    for three in text.as_bytes().chunks(3) {
        let word = three.iter().fold(0_u32, |word, byte| word << 8 | u32::from(*byte));
        let word = word << (8 * (3 - three.len()));
        for place in 0..=three.len() {
            encoded.push(LETTERS[(word >> (18 - 6 * place)) as usize & 63] as char);
        }
    }
    encoded
}

#[test]
fn reading_needs_the_role_to_read() {
    let config = kept().server(
        "tokens = [{ name = \"a\", role = \"admin\", token = \"it-admin-token-0123456789abcdef\" }, \
         { name = \"r\", role = \"read\", token = \"it-read-token-0123456789abcdef\" }, \
         { name = \"i\", role = \"ingest\", token = \"it-ingest-token-0123456789abcde\" }]",
    );
    let mut gateway = Gateway::start(config);
    for path in ["/v1/alerts", "/v1/alerts/stream?cursor=%21"] {
        let status = |token: &str| {
            let call = Call::new(gateway.port, "GET", path);
            call.bearer(token).send().unwrap().status
        };
        assert_eq!(Call::new(gateway.port, "GET", path).send().unwrap().status, 401);
        assert_eq!(status("it-ingest-token-0123456789abcde"), 403);
        assert!([200, 400].contains(&status("it-read-token-0123456789abcdef")));
    }
    gateway.finish();
}

/// Server-sent events as they come.
struct Messages(BufReader<TcpStream>);

impl Messages {
    fn open(gateway: &Gateway, path: &str, last: Option<&str>) -> Self {
        let mut call = gateway.call("GET", path);
        if let Some(last) = last {
            call = call.header("Last-Event-ID", last);
        }
        let mut messages = Self(BufReader::new(call.begin(0).unwrap()));
        let status = messages.line();
        assert!(status.contains(" 200 "), "{status}");
        messages
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).unwrap();
        line
    }

    /// The next event's id and data.
    fn next(&mut self) -> (String, Value) {
        let mut id = String::new();
        loop {
            let line = self.line();
            assert!(!line.is_empty(), "the stream ended");
            if let Some(found) = line.strip_prefix("id: ") {
                id = found.trim().to_owned();
            }
            if let Some(data) = line.strip_prefix("data: ") {
                return (id, serde_json::from_str(data).unwrap());
            }
        }
    }
}

#[test]
fn readers_that_wait_are_counted_and_one_too_many_is_told_to_come_back() {
    let mut gateway = Gateway::start(kept());
    let mut waiting: Vec<TcpStream> = (0..257)
        .map(|_| gateway.call("GET", "/v1/alerts?start=newest&wait=60s").begin(0).unwrap())
        .collect();
    // Nobody is answered until there is an event, but the one for whom there is no place.
    let refused = eventually("one is refused", || {
        waiting.iter().position(|stream| {
            stream.set_nonblocking(true).unwrap();
            let answered = stream.peek(&mut [0]).is_ok();
            stream.set_nonblocking(false).unwrap();
            answered
        })
    });
    let answer = read_answer(&mut waiting.swap_remove(refused)).unwrap();
    assert_eq!(answer.status, 503, "{}", answer.text);
    assert!(answer.header("retry-after").is_some() && answer.text.contains("too-many-readers"));
    // Who does not wait is answered, and so is everything else.
    assert_eq!(gateway.get("/v1/alerts").status, 200);
    gateway.accept(&alerts::ndjson(0..1));
    for mut stream in waiting {
        let answer = read_answer(&mut stream).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(numbers(&answer.json()), [0]);
    }
    gateway.finish();
}

#[test]
fn a_stream_that_breaks_off_goes_on_behind_the_last_event() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..3));
    let mut stream = Messages::open(&gateway, "/v1/alerts/stream?start=oldest", None);
    let mut last = String::new();
    for number in 0..2 {
        let (id, event) = stream.next();
        assert_eq!(
            (&event["alert"]["number"], &event["cursor"]),
            (&number.into(), &id.clone().into())
        );
        last = id;
    }
    drop(stream);
    gateway.accept(&alerts::ndjson(3..5));
    let mut stream = Messages::open(&gateway, "/v1/alerts/stream?start=oldest", Some(&last));
    let rest: Vec<_> = (0..3).map(|_| stream.next().1["alert"]["number"].clone()).collect();
    assert_eq!(rest, [2, 3, 4]);
    // It is open, and new events come by themselves.
    let broken = gateway.call("POST", "/v1/alerts");
    let broken = broken.body("application/json", "{\n\"number\": 5\r\n}").send().unwrap();
    assert_eq!(broken.status, 202, "{}", broken.text);
    assert_eq!(stream.next().1["alert"]["number"], 5);
    gateway.finish();
}

#[test]
fn tail_shows_what_comes_and_goes_on_after_a_restart() {
    let mut gateway = Gateway::start(kept());
    gateway.accept(&alerts::ndjson(0..30));
    let said = gateway.cli(&["tail", "--start", "oldest", "--no-follow", "--json"]);
    assert_eq!(said.code, Some(0), "{}", said.err);
    let events: Vec<Value> =
        said.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let numbers: Vec<_> =
        events.iter().map(|event| event["alert"]["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>());
    // People get one line an event, in a pipe without colours.
    let said = gateway.cli(&["tail", "--start", "oldest", "-n", "3", "--level", "3"]);
    assert_eq!(said.out.lines().count(), 3, "{}", said.out);
    assert!(!said.out.contains('\u{1b}'));
    let filtered = gateway.cli(&["tail", "--start", "oldest", "--no-follow", "--kind", "operator"]);
    assert_eq!((filtered.code, filtered.out.as_str()), (Some(0), ""));
    let wrong = gateway.cli(&["tail", "--level", "high"]);
    assert_eq!(wrong.code, Some(2));
    assert!(wrong.err.contains("level"), "{}", wrong.err);

    let cursor = events[29]["cursor"].as_str().unwrap();
    let mut command = gateway.cli_command(&["tail", "--cursor", cursor, "-n", "2", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    gateway.accept(&alerts::ndjson(30..31));
    let number = |line: Option<std::io::Result<String>>| {
        let event: Value = serde_json::from_str(&line.unwrap().unwrap()).unwrap();
        event["alert"]["number"].clone()
    };
    assert_eq!(number(lines.next()), 30);
    // The same address, so that it finds the gateway again.
    gateway.restart_in_place();
    gateway.accept(&alerts::ndjson(31..32));
    assert_eq!(number(lines.next()), 31);
    assert_eq!(child.wait().unwrap().code(), Some(0));
    gateway.finish();
}
