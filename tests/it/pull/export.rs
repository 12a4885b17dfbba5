//! A stretch of the log as NDJSON, and packed.

use std::io::{Read, Write};

use serde_json::Value;

use super::{kept, ok};
use crate::support::{Gateway, alerts, http::Call};

/// The body as it came, without the framing of its chunks.
fn body_of(call: &Call) -> (String, Vec<u8>) {
    let mut stream = call.begin(0).unwrap();
    stream.flush().unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
    assert!(head.contains("transfer-encoding: chunked"), "{head}");
    let (mut rest, mut body) = (&bytes[end + 4..], Vec::new());
    loop {
        let line = rest.windows(2).position(|two| two == b"\r\n").expect("a chunk's length");
        let length = std::str::from_utf8(&rest[..line]).unwrap();
        let length = usize::from_str_radix(length, 16).unwrap();
        if length == 0 {
            return (head, body);
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + length]);
        rest = &rest[line + 4 + length..];
    }
}

fn numbers(body: &[u8]) -> Vec<u64> {
    let lines = std::str::from_utf8(body).unwrap().lines();
    let event = |line| serde_json::from_str::<Value>(line).unwrap();
    lines.map(|line| event(line)["alert"]["number"].as_u64().unwrap()).collect()
}

#[test]
fn an_export_has_every_event_of_its_stretch_plain_and_packed() {
    let mut gateway = Gateway::start(kept());
    for from in (0..3_000).step_by(500) {
        gateway.accept(&alerts::ndjson(from..from + 500));
    }
    let (head, plain) = body_of(&gateway.call("GET", "/v1/alerts/export"));
    assert!(head.contains("application/x-ndjson") && !head.contains("content-encoding"), "{head}");
    assert_eq!(numbers(&plain), (0..3_000).collect::<Vec<_>>());
    let call = gateway.call("GET", "/v1/alerts/export").header("Accept-Encoding", "br, gzip;q=0.5");
    let (head, packed) = body_of(&call);
    assert!(head.contains("content-encoding: gzip"), "{head}");
    let mut unpacked = Vec::new();
    flate2::read::GzDecoder::new(packed.as_slice()).read_to_end(&mut unpacked).unwrap();
    assert_eq!(unpacked, plain);
    assert!(packed.len() < plain.len());
    let page = ok(gateway.get("/v1/alerts?limit=20&fields=number"));
    let cursor = |n: usize| page["data"][n]["cursor"].as_str().unwrap();
    let (from, to) = (cursor(4), cursor(9));
    let path = format!("/v1/alerts/export?from={from}&to={to}&fields=number");
    let (_, some) = body_of(&gateway.call("GET", &path));
    assert_eq!(numbers(&some), (5..10).collect::<Vec<_>>());
    let path = "/v1/alerts/export?from=2000-01-01T00:00:00Z&to=2001-01-01T00:00:00Z";
    assert_eq!(body_of(&gateway.call("GET", path)).1, b"");
    for bad in ["from=noon", "to=!!", "levle=3"] {
        assert_eq!(gateway.get(&format!("/v1/alerts/export?{bad}")).status, 400, "{bad}");
    }
    gateway.finish();
}
