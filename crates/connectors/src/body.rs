//! How events are written into bodies, lines and files: one place, so that a webhook, a file and
//! a terminal show the same event the same way.
//!
//! Promises: what comes out is valid UTF-8 without a line break, and otherwise the alert's own
//! bytes. An alert that already is so is not copied.

use std::{
    borrow::Cow,
    io::{self, Write},
};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use holdfast_model::{DeliveryError, Event, Kind, Member, Reason, Timestamp, alert::one_line};
use serde::Serialize;
use serde_json::{Value, value::RawValue};

/// A body longer than this is compressed on the blocking pool: it takes milliseconds there.
const COMPRESS_INLINE_BYTES_MAX: usize = 16 * 1024;

/// How one event is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// An alert as Wazuh wrote it; another kind as the event around it.
    Bare,
    /// `{"id":…,"seq":…,"alert":…}`; another kind as the event around it, which has id and seq too.
    Envelope,
}

/// An event that is no alert, as JSON leaves Holdfast (DESIGN 9).
#[derive(Serialize)]
struct Whole<'a> {
    id: &'a str,
    seq: u64,
    kind: &'static str,
    source: &'a str,
    received_at: Timestamp,
    parent: Option<String>,
    data: Data<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Data<'a> {
    Json(&'a RawValue),
    /// It is not JSON after all. A text keeps the rest readable.
    Text(&'a str),
}

/// An event's body; null when it is not JSON. What is not UTF-8 becomes U+FFFD.
pub(crate) fn parse(body: &[u8]) -> Value {
    serde_json::from_str(&String::from_utf8_lossy(body)).unwrap_or_default()
}

/// One event as a body of its own.
pub(crate) fn single(member: &Member, shape: Shape) -> Result<Bytes, DeliveryError> {
    if shape == Shape::Bare && member.event.kind == Kind::Alert {
        return Ok(match clean(&member.event.body) {
            Cow::Borrowed(_) => member.event.body.clone(),
            Cow::Owned(text) => text.into(),
        });
    }
    let mut out = Vec::with_capacity(room(std::slice::from_ref(member)));
    write(&mut out, member, shape)?;
    Ok(out.into())
}

/// One event a line, each with its line break.
pub(crate) fn lines(members: &[Member], shape: Shape) -> Result<Vec<u8>, DeliveryError> {
    let mut out = Vec::with_capacity(room(members));
    for member in members {
        write(&mut out, member, shape)?;
        out.push(b'\n');
    }
    Ok(out)
}

/// One JSON array of all events.
pub(crate) fn array(members: &[Member], shape: Shape) -> Result<Vec<u8>, DeliveryError> {
    let mut out = Vec::with_capacity(room(members));
    for (index, member) in members.iter().enumerate() {
        out.push(if index == 0 { b'[' } else { b',' });
        write(&mut out, member, shape)?;
    }
    out.push(b']');
    Ok(out)
}

/// A record on one line of valid UTF-8: white space outside strings goes when it holds a line
/// break, and what is not UTF-8 becomes U+FFFD.
pub(crate) fn clean(body: &[u8]) -> Cow<'_, [u8]> {
    let line = match memchr::memchr2(b'\n', b'\r', body) {
        None => Cow::Borrowed(body),
        Some(_) => one_line(body),
    };
    match std::str::from_utf8(&line) {
        Ok(_) => line,
        Err(_) => String::from_utf8_lossy(&line).into_owned().into_bytes().into(),
    }
}

fn write(out: &mut Vec<u8>, member: &Member, shape: Shape) -> Result<(), DeliveryError> {
    let Event { seq, kind, body, .. } = &*member.event;
    let body = clean(body);
    match (kind, shape) {
        (Kind::Alert, Shape::Bare) => out.extend_from_slice(&body),
        (Kind::Alert, Shape::Envelope) => {
            // Neither a log id nor a number needs escaping.
            let head = format!("{{\"id\":\"{}\",\"seq\":{seq},\"alert\":", member.id);
            out.extend_from_slice(head.as_bytes());
            out.extend_from_slice(&body);
            out.push(b'}');
        }
        (Kind::Lookup | Kind::Callback | Kind::Canary | Kind::Operator, _) => {
            return write_whole(out, member, &body);
        }
    }
    Ok(())
}

fn write_whole(out: &mut Vec<u8>, member: &Member, body: &[u8]) -> Result<(), DeliveryError> {
    let render = |error| DeliveryError::caused_by(Reason::Render, error);
    let text = std::str::from_utf8(body)
        .map_err(|error| DeliveryError::caused_by(Reason::Render, error))?;
    let data = match serde_json::from_str(text) {
        Ok(json) => Data::Json(json),
        Err(_) => Data::Text(text),
    };
    let Event { seq, kind, source, received_at, parent, .. } = &*member.event;
    let whole = Whole {
        id: &member.id.to_string(),
        seq: *seq,
        kind: kind.as_str(),
        source,
        received_at: *received_at,
        parent: parent.as_ref().map(ToString::to_string),
        data,
    };
    serde_json::to_writer(out, &whole).map_err(render)
}

/// RFC 1952, at the fastest level: JSON shrinks tenfold at any.
pub(crate) async fn gzip(body: Bytes) -> Result<Bytes, DeliveryError> {
    compressed(body, |body| {
        let mut encoder = GzEncoder::new(Vec::with_capacity(body.len() / 4), Compression::fast());
        encoder.write_all(body).and_then(|()| encoder.finish())
    })
    .await
}

/// RFC 8878, at the fastest level.
pub(crate) async fn zstd(body: Bytes) -> Result<Bytes, DeliveryError> {
    compressed(body, |body| zstd::bulk::compress(body, 1)).await
}

async fn compressed(
    body: Bytes,
    with: impl FnOnce(&[u8]) -> io::Result<Vec<u8>> + Send + 'static,
) -> Result<Bytes, DeliveryError> {
    let done = if body.len() <= COMPRESS_INLINE_BYTES_MAX {
        with(&body)
    } else {
        let task = tokio::task::spawn_blocking(move || with(&body)).await;
        task.map_err(|error| DeliveryError::caused_by(Reason::Render, error))?
    };
    done.map(Bytes::from).map_err(|error| DeliveryError::caused_by(Reason::Render, error))
}

/// What the members will take, so that a batch is not moved while it grows.
fn room(members: &[Member]) -> usize {
    const AROUND_EACH: usize = 64;
    members.iter().map(|member| member.event.body.len() + AROUND_EACH).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{alert, event};

    fn text(bytes: impl AsRef<[u8]>) -> String {
        String::from_utf8(bytes.as_ref().to_vec()).expect("valid UTF-8")
    }

    #[test]
    fn an_alert_on_one_line_is_sent_as_wazuh_wrote_it_and_not_copied() {
        let member = alert(1, r#"{"rule": {"level": 3},  "full_log": "a\nb"}"#);
        let body = single(&member, Shape::Bare).unwrap();
        assert_eq!(body.as_ptr(), member.event.body.as_ptr());
    }

    #[test]
    fn line_breaks_and_bad_bytes_do_not_leave() {
        let body = single(&alert(1, "{\n \"a\": \"b c\"\r\n}"), Shape::Bare).unwrap();
        assert_eq!(text(body), r#"{"a":"b c"}"#);
        let body = single(&alert(1, b"{\"a\": \"\xff\xe2\"}".as_slice()), Shape::Bare).unwrap();
        assert_eq!(text(body), "{\"a\": \"\u{fffd}\u{fffd}\"}");
    }

    #[test]
    fn an_envelope_names_the_event_by_which_a_receiver_can_dedupe() {
        let line = text(single(&alert(7, r#"{"a":1}"#), Shape::Envelope).unwrap());
        assert_eq!(line, r#"{"id":"abcdefghij-7","seq":7,"alert":{"a":1}}"#);
    }

    #[test]
    fn another_kind_is_sent_as_the_event_in_either_shape() {
        let lookup = event(9, Kind::Lookup, "{\"hits\": 3}");
        let expected = concat!(
            r#"{"id":"abcdefghij-9","seq":9,"kind":"lookup","source":"test","#,
            r#""received_at":"2026-03-10T06:11:28.189Z","parent":null,"data":{"hits": 3}}"#
        );
        assert_eq!(text(single(&lookup, Shape::Bare).unwrap()), expected);
        assert_eq!(text(single(&lookup, Shape::Envelope).unwrap()), expected);
        let broken = text(single(&event(9, Kind::Callback, "{oops \"\u{1}"), Shape::Bare).unwrap());
        assert!(broken.ends_with(r#""data":"{oops \"\u0001"}"#), "{broken}");
    }

    #[test]
    fn several_events_are_lines_or_one_array() {
        let members = [alert(1, r#"{"a":1}"#), alert(2, "{\"a\":\n2}")];
        assert_eq!(text(lines(&members, Shape::Bare).unwrap()), "{\"a\":1}\n{\"a\":2}\n");
        assert_eq!(text(array(&members, Shape::Bare).unwrap()), r#"[{"a":1},{"a":2}]"#);
        assert_eq!(text(array(&members[..1], Shape::Bare).unwrap()), r#"[{"a":1}]"#);
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_string_holds_a_line_is_valid_json_on_one_line(
            bytes: Vec<u8>,
            kind in 0..Kind::ALL.len(),
        ) {
            let inside = bytes.iter().filter(|b| **b >= b' ' && !matches!(b, b'"' | b'\\'));
            let mut body = b"{\n\"a\":\"".to_vec();
            body.extend(inside);
            body.extend_from_slice(b"\"\r\n}");
            let member = event(1, Kind::ALL[kind], body);
            for shape in [Shape::Bare, Shape::Envelope] {
                let line = text(lines(std::slice::from_ref(&member), shape).unwrap());
                proptest::prop_assert_eq!(line.lines().count(), 1);
                proptest::prop_assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok());
            }
        }
    }
}
