use std::{fs, io::Read, os::unix::fs::PermissionsExt, path::Path, time::Duration};

use base64::prelude::{BASE64_STANDARD, Engine};
use holdfast_model::{Chain, Kind as EventKind, Member};

use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer, say},
    testing::{alert, build, context, event, fault, shipment},
};

fn batched(batch_format: BatchFormat) -> Context {
    Context { batched: true, batch_format, ..context() }
}

/// Sends to a receiver that takes everything, and shows what it got.
async fn arrived(more: &str, context: &Context, members: impl Into<Vec<Member>>) -> Seen {
    let fake = Fake::start([say("202 Accepted")]).await;
    let webhook = build(&KIND, &format!("url = \"{}/in?a=1\"\n{more}", fake.url), context).unwrap();
    match webhook.deliver(&shipment(members)).await.unwrap() {
        Delivered::All(receipt) => {
            let expected = Receipt {
                status: Some(202),
                remote_id: None,
                duplicate: false,
                ..Receipt::default()
            };
            assert_eq!(receipt, expected);
        }
        Delivered::Each(_) => panic!("one answer is for all"),
    }
    fake.only()
}

#[tokio::test]
async fn an_alert_arrives_as_wazuh_wrote_it_with_its_key() {
    let seen = arrived("", &context(), [alert(7, r#"{"rule": {"level": 3}}"#)]).await;
    assert_eq!(seen.line, "POST /in?a=1 HTTP/1.1");
    assert_eq!(seen.text(), r#"{"rule": {"level": 3}}"#);
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("idempotency-key"), Some("abcdefghij-7.lane"));
    let agent = concat!("holdfast/", env!("CARGO_PKG_VERSION"));
    assert_eq!(seen.header("user-agent"), Some(agent));
    assert_eq!(seen.header("content-encoding"), None);
    assert_eq!(seen.header("authorization"), None);
}

#[tokio::test]
async fn another_kind_arrives_as_the_event() {
    let seen = arrived("", &context(), [event(7, EventKind::Callback, "{}")]).await;
    let body: serde_json::Value = serde_json::from_slice(&seen.body).unwrap();
    assert_eq!(body["kind"], "callback");
    assert_eq!(body["id"], "abcdefghij-7");
}

#[tokio::test]
async fn a_batch_has_one_form_whether_it_holds_one_event_or_many() {
    let one = || vec![alert(1, "{\"a\":1}")];
    let two = || vec![alert(1, "{\"a\":1}"), alert(2, "{\"a\":\n2}")];
    #[rustfmt::skip]
    let table = [
        (BatchFormat::Ndjson, one(), "application/x-ndjson", "{\"a\":1}\n"),
        (BatchFormat::Ndjson, two(), "application/x-ndjson", "{\"a\":1}\n{\"a\":2}\n"),
        (BatchFormat::Array, one(), "application/json", "[{\"a\":1}]"),
        (BatchFormat::Array, two(), "application/json", "[{\"a\":1},{\"a\":2}]"),
        (BatchFormat::Envelope, one(), "application/x-ndjson",
            "{\"id\":\"abcdefghij-1\",\"seq\":1,\"alert\":{\"a\":1}}\n"),
    ];
    for (format, members, content_type, body) in table {
        let key = shipment(members.clone()).key();
        let seen = arrived("", &batched(format), members).await;
        assert_eq!(seen.header("content-type"), Some(content_type), "{format:?}");
        assert_eq!(seen.text(), body);
        assert_eq!(seen.header("idempotency-key"), Some(key.as_str()));
    }
    let single = Context { batch_format: BatchFormat::Envelope, ..context() };
    let seen = arrived("", &single, one()).await;
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert!(seen.text().starts_with("{\"id\":"));
}

#[tokio::test]
async fn a_compressed_body_is_the_same_body() {
    for (count, context) in [(1, context()), (200, batched(BatchFormat::Ndjson))] {
        let text = format!("{{\"full_log\":\"{}\"}}", "x".repeat(1000));
        let members: Vec<_> = (0..count).map(|seq| alert(seq, text.clone())).collect();
        let plain = arrived("", &context, members.clone()).await;
        for name in ["gzip", "zstd"] {
            let more = format!("compression = \"{name}\"");
            let seen = arrived(&more, &context, members.clone()).await;
            assert_eq!(seen.header("content-encoding"), Some(name));
            let body = match name {
                "zstd" => zstd::decode_all(&*seen.body).unwrap(),
                _ => {
                    let mut body = Vec::new();
                    flate2::read::GzDecoder::new(&*seen.body).read_to_end(&mut body).unwrap();
                    body
                }
            };
            assert!(body == plain.body && seen.body.len() < body.len(), "{name}");
        }
    }
}

#[tokio::test]
async fn method_headers_and_credentials_are_sent() {
    let more = "method = \"PUT\"\nbearer = \"hunter2\"\n\
                headers = { X-Team = \"soc\", Content-Type = \"application/vnd.alert+json\" }";
    let seen = arrived(more, &context(), [alert(1, "{}")]).await;
    assert!(seen.line.starts_with("PUT "));
    assert_eq!(seen.header("x-team"), Some("soc"));
    assert_eq!(seen.header("content-type"), Some("application/vnd.alert+json"));
    assert_eq!(seen.header("authorization"), Some("Bearer hunter2"));
    // The example of RFC 7617 section 2.
    let more = "basic = { user = \"Aladdin\", password = \"open sesame\" }";
    let seen = arrived(more, &context(), [alert(1, "{}")]).await;
    assert_eq!(seen.header("authorization"), Some("Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="));
}

#[tokio::test]
async fn a_refusal_says_why_without_repeating_a_secret() {
    let body = "no /hooks/T0-B0 for hunter2-hunter2 (QTpodW50ZXIyLWh1bnRlcjI=), X abc-key-abc";
    let fake = Fake::start([Act::Say(answer("400 Bad Request", "", body))]).await;
    let table = format!(
        "url = \"{}/hooks/T0-B0\"\nheaders = {{ X = \"abc-key-abc\" }}\n\
         basic = {{ user = \"A\", password = \"hunter2-hunter2\" }}",
        fake.url
    );
    let webhook = build(&KIND, &table, &context()).unwrap();
    let error = webhook.deliver(&shipment([alert(1, "{}")])).await.unwrap_err();
    assert_eq!((error.reason, error.status), (Reason::Refused, Some(400)));
    assert_eq!(error.excerpt, "no [masked] for [masked] ([masked]), X [masked]");
    let shown = format!("{error:?} {} {webhook:?}", Chain(&error));
    for secret in ["hunter2", "T0-B0", "abc-key"] {
        assert!(!shown.contains(secret), "{shown}");
    }
}

#[tokio::test]
async fn a_delivery_counts_when_the_answer_breaks_off_and_is_in_doubt_without_one() {
    let cut = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf".to_vec();
    let fake = Fake::start([Act::SayAndReset(cut), Act::SayAndHang(Vec::new())]).await;
    let short = Context { timeout: Duration::from_millis(200), ..context() };
    let webhook = build(&KIND, &format!("url = \"{}\"", fake.url), &short).unwrap();
    assert!(webhook.deliver(&shipment([alert(1, "{}")])).await.is_ok());
    let error = webhook.deliver(&shipment([alert(2, "{}")])).await.unwrap_err();
    assert_eq!(error.reason, Reason::InDoubt);
}

#[tokio::test]
async fn any_method_is_sent_and_some_carry_no_body() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PATCH", "REPORT", "X-ALERT"] {
        let fake = Fake::start([Act::Say(b"HTTP/1.1 204 No Content\r\n\r\n".to_vec())]).await;
        let table = format!("url = \"{}/in\"\nmethod = \"{method}\"", fake.url);
        let webhook = build(&KIND, &table, &context()).unwrap();
        webhook.deliver(&shipment([alert(7, "{}")])).await.unwrap();
        let seen = fake.only();
        assert_eq!(seen.line, format!("{method} /in HTTP/1.1"));
        let bodiless = matches!(method, "GET" | "HEAD");
        assert_eq!(seen.text(), if bodiless { "" } else { "{}" }, "{method}");
        assert_eq!(seen.header("content-type").is_some(), !bodiless, "{method}");
        assert_eq!(seen.header("idempotency-key"), Some("abcdefghij-7.lane"), "{method}");
    }
}

#[tokio::test]
async fn a_body_and_headers_of_ones_own_are_sent() {
    let body = r#"{"rule":{"level":12,"description":"a \"b\""},"agent":{"name":"web\r\nX: y"}}"#;
    let more = "body = '{\"t\": {{ alert.rule.description | tojson }}, \"no\": \"{{ alert.no.such }}\", \"id\": \"{{ event.id }}\", \"s\": \"{{ message.severity }}\"}'\n\
                headers = { X-Agent = \"{{ alert.agent.name }}\", X-None = \"{{ alert.none }}\", X-Key = \"plain\" }";
    let seen = arrived(more, &context(), [alert(7, body)]).await;
    let expected = r#"{"t": "a \"b\"", "no": "", "id": "abcdefghij-7", "s": "high"}"#;
    assert_eq!(seen.text(), expected);
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.header("x-agent"), Some("web  X: y"), "no alert adds a header");
    assert_eq!((seen.header("x-none"), seen.header("x-key")), (Some(""), Some("plain")));
    assert_eq!(seen.header("holdfast-note"), None);
    let more = "body = '{% for e in events %}{{ e.seq }}={{ e.alert.a }};{% endfor %}'\n\
                headers = { Content-Type = \"text/plain\" }";
    let two = [alert(1, r#"{"a":1}"#), alert(2, r#"{"a":2}"#)];
    let seen = arrived(more, &batched(BatchFormat::Ndjson), two).await;
    assert_eq!(seen.text(), "1=1;2=2;");
    assert_eq!(seen.header("content-type"), Some("text/plain"));
}

#[tokio::test]
async fn a_template_that_errs_sends_the_usual_body_with_a_note_and_is_counted() {
    #[rustfmt::skip]
    let table = [
        ("{{ 1 // 0 }}", "body failed: "),
        ("{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}", "fuel"),
        ("{% for a in range(9999) %}{{ 'x' * 10000 }}{% endfor %}", "more than 16777216 bytes"),
    ];
    for (template, expected) in table {
        let fake = Fake::start([say("200 OK")]).await;
        let table = format!("url = \"{}\"\nbody = \"{template}\"", fake.url);
        let webhook = build(&KIND, &table, &context()).unwrap();
        webhook.deliver(&shipment([alert(7, r#"{"rule":{"level":3}}"#)])).await.unwrap();
        let body: serde_json::Value = serde_json::from_slice(&fake.only().body).unwrap();
        assert_eq!(body["rule"]["level"], 3, "{template}");
        let note = body["holdfast_note"].as_str().unwrap();
        assert!(note.contains(expected), "{template}: {note}");
        assert_eq!((webhook.take_template_errors(), webhook.take_template_errors()), (1, 0));
    }
    let more = "headers = { X-Bad = \"{{ 1 // 0 }}\", X-Good = \"{{ 1 + 1 }}\" }";
    let seen = arrived(more, &context(), [alert(7, "{\"a\":1}")]).await;
    assert_eq!(seen.text(), "{\"a\":1}", "a header's failure is no business of the body's");
    assert_eq!((seen.header("x-bad"), seen.header("x-good")), (None, Some("2")));
    assert!(seen.header("holdfast-note").unwrap().starts_with("the template of x-bad failed: "));
}

#[tokio::test]
async fn a_signature_is_over_what_is_sent_and_new_for_each_try() {
    let folder = tempfile::tempdir().unwrap();
    let old = folder.path().join("old");
    let literal = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    let fake = Fake::start([say("200 OK")]).await;
    let secret = write_secret(&old, literal);
    let table = format!(
        "url = \"{}\"\nsigning_secret = [{secret}, \"{literal}\"]\ncompression = \"gzip\"",
        fake.url
    );
    let webhook = build(&KIND, &table, &context()).unwrap();
    let member = alert(7, "{}");
    webhook.deliver(&shipment([member.clone()])).await.unwrap();
    let new = "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    write_secret(&old, new);
    assert!(webhook.refresh_secrets().unwrap());
    webhook.deliver(&shipment([member])).await.unwrap();
    let expected = |seen: &Seen, secret: &str| {
        let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap()).unwrap();
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &key);
        let head = format!("abcdefghij-7.lane.{}.", seen.header("webhook-timestamp").unwrap());
        let signed = ring::hmac::sign(&key, &[head.as_bytes(), &seen.body].concat());
        format!("v1,{}", BASE64_STANDARD.encode(signed))
    };
    for (seen, first) in fake.seen().iter().zip([literal, new]) {
        assert_eq!(seen.header("webhook-id"), Some("abcdefghij-7.lane"));
        let both = format!("{} {}", expected(seen, first), expected(seen, literal));
        assert_eq!(seen.header("webhook-signature"), Some(both.as_str()));
    }
    write_secret(&old, "hunter2hunter2");
    let error = webhook.refresh_secrets().unwrap_err().to_string();
    assert!(!error.contains("hunter2"), "{error}");
}

fn write_secret(path: &Path, text: &str) -> String {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    format!("{{ file = {:?} }}", path.to_str().unwrap())
}

#[tokio::test]
async fn secrets_in_files_are_read_anew_and_a_bad_one_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (url, token) = (folder.path().join("url"), folder.path().join("token"));
    let fake = Fake::start([say("200 OK")]).await;
    let table = format!(
        "url = {}\nheaders = {{ X-Key = {} }}",
        write_secret(&url, &format!("{}/one\n", fake.url)),
        write_secret(&token, "first\n"),
    );
    let webhook = build(&KIND, &table, &context()).unwrap();
    let send = async || {
        webhook.deliver(&shipment([alert(1, "{}")])).await.unwrap();
        let last = fake.seen().pop().unwrap();
        format!("{} {}", last.line, last.header("x-key").unwrap())
    };
    assert_eq!(send().await, "POST /one HTTP/1.1 first");
    assert!(!webhook.refresh_secrets().unwrap());
    write_secret(&url, "gopher://nowhere");
    write_secret(&token, "second");
    assert!(webhook.refresh_secrets().is_err());
    assert_eq!(send().await, "POST /one HTTP/1.1 first", "all of it stays as it worked");
    write_secret(&url, &format!("{}/two", fake.url));
    webhook.refresh_secrets().unwrap();
    assert_eq!(send().await, "POST /two HTTP/1.1 second");
}

#[test]
fn every_fault_of_the_settings_is_named() {
    #[rustfmt::skip]
    let table = [
        ("", "`url` is missing"),
        ("url = \"collector\"", "lane.url: it is not an address"),
        ("url = \"ftp://collector\"", "lane.url: it must begin with http"),
        ("url = \"https://u:hunter2@collector\"", "lane.url: it must hold no user and password"),
        ("url = { file = \"/nowhere/url\" }", "the file `/nowhere/url` cannot be read: No such file"),
        ("url = \"http://a\"\nmethod = \"CONNECT\"", "lane.method: \"CONNECT\" is no method to send with"),
        ("url = \"http://a\"\nmethod = \"P OST\"", "lane.method: \"P OST\" is no method to send with"),
        ("url = \"http://a\"\nmethod = \"post\"", "lane.method: methods are written in capitals"),
        ("url = \"http://a\"\nmethod = \"GET\"\nbody = \"x\"", "lane.method: a GET carries no body"),
        ("url = \"http://a\"\nbody = \"a\\n{{ alert.\"", "lane.body: it does not compile: line 2 of it: "),
        ("url = \"http://a\"\nheaders = { A = \"{% if %}\" }", "lane.headers.A: it does not compile: line 1 of it: "),
        ("url = \"http://a\"\nheaders = { Holdfast-Note = \"x\" }", "this header is Holdfast's own"),
        ("url = \"http://a\"\nsigning_secret = \"hunter2\"", "lane.signing_secret: it must begin with `whsec_`"),
        ("url = \"http://a\"\nsigning_secret = []", "lane.signing_secret: give one secret, or two"),
        ("url = \"http://a\"\nsigning_secret = [\"whsec_AAAA\", { file = \"/nowhere/x\" }, \"c\"]", "give one secret, or two"),
        ("url = \"http://a\"\nsigning_secret = \"whsec_AAAA\"", "lane.signing_secret: it has 3 bytes"),
        ("url = \"http://127.0.0.1/\"\nallow_addresses = [\"10.0.0.0/8\"]", "it leads to 127.0.0.1"),
        ("url = \"http://a\"\ncompression = \"br\"", "lane.compression: \"br\" is not one of"),
        ("url = \"http://a\"\nheaders = { \"a b\" = \"x\" }", "lane.headers.a b: it is not a header's name"),
        ("url = \"http://a\"\nheaders = { Host = \"x\" }", "lane.headers.Host: this header is Holdfast's own"),
        ("url = \"http://a\"\nheaders = { A = \"x\\r\\nB: y\" }", "lane.headers.A: the text in the configuration cannot be sent"),
        ("url = \"http://a\"\nheaders = { A = 1 }", "lane.headers.A: it must be a text"),
        ("url = \"http://a\"\nheaders = { Authorization = \"x\" }\nbearer = \"y\"", "lane.headers: `Authorization` is set"),
        ("url = \"http://a\"\nbearer = \"\"", "lane.bearer: the text in the configuration is empty"),
        ("url = \"http://a\"\nbearer = \"x\"\nbasic = { user = \"u\", password = \"p\" }", "not both"),
        ("url = \"http://a\"\nbasic = { user = \"u:v\", password = \"p\" }", "lane.basic.user: it must hold no colon"),
        ("url = \"http://a\"\nbasic = { user = \"u\" }", "`password` is missing"),
        ("url = \"http://a\"\nbasic = { user = \"u\", password = \"p\", realm = \"r\" }", "lane.basic.realm: there is no such key"),
    ];
    for (table, expected) in table {
        let fault = fault(&KIND, table, &context());
        assert!(fault.contains(expected), "{table}: {fault}");
        assert!(!fault.contains("hunter2"), "{fault}");
    }
}
