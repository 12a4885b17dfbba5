//! From a body to alerts: an object, an array, or NDJSON. Pure.
//!
//! Every alert is a slice of the body, byte for byte, invalid UTF-8 included, so an array is cut
//! by its brackets and not decoded.

use bytes::Bytes;
use holdfast_model::{AlertError, check_alert};

use super::problem::BadLine;

/// One record of a body.
#[derive(Debug)]
pub(crate) struct Line {
    /// Counted from 1; for an array, the element.
    pub(crate) number: usize,
    pub(crate) body: Bytes,
    pub(crate) fault: Option<AlertError>,
}

/// Cuts a body into records and checks each.
pub(crate) fn lines(body: &Bytes, ndjson: bool, line_bytes_max: usize) -> Vec<Line> {
    let trimmed = body.trim_ascii();
    let checked = |(number, record): (usize, &[u8])| Line {
        number,
        body: body.slice_ref(record),
        fault: check_alert(record, line_bytes_max).err(),
    };
    if trimmed.first() == Some(&b'[') {
        return match elements(trimmed) {
            Ok(elements) => (1..).zip(elements).map(checked).collect(),
            Err(message) => {
                let fault = Some(AlertError::Syntax(message.to_owned()));
                vec![Line { number: 1, body: body.slice_ref(trimmed), fault }]
            }
        };
    }
    // One object over several lines is not NDJSON, though it starts like it.
    if !ndjson && check_alert(trimmed, line_bytes_max).is_ok() {
        return vec![Line { number: 1, body: body.slice_ref(trimmed), fault: None }];
    }
    let records = body.split(|b| *b == b'\n').map(<[u8]>::trim_ascii);
    (1..).zip(records).filter(|(_, record)| !record.is_empty()).map(checked).collect()
}

/// The records that are no alerts, for the answer.
pub(crate) fn bad_lines(lines: &[Line]) -> Vec<BadLine> {
    let bad = |line: &Line| {
        let fault = line.fault.as_ref()?;
        Some(BadLine { line: line.number, message: fault.to_string() })
    };
    lines.iter().filter_map(bad).collect()
}

/// Cuts `[a, b, …]` at its own commas.
fn elements(array: &[u8]) -> Result<Vec<&[u8]>, &'static str> {
    const BROKEN: &str = "the array is not closed, or something follows it";
    let (mut elements, mut depth, mut start) = (Vec::new(), 0_usize, 1);
    let (mut in_string, mut escaped) = (false, false);
    for (at, byte) in array.iter().enumerate() {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'[' | b'{') => depth += 1,
            (false, b']' | b'}') => {
                depth = depth.checked_sub(1).ok_or(BROKEN)?;
                if depth == 0 && at + 1 != array.len() {
                    return Err(BROKEN);
                }
            }
            (false, b',') if depth == 1 => {
                elements.push(array[start..at].trim_ascii());
                start = at + 1;
            }
            _ => {}
        }
    }
    if depth != 0 || array.last() != Some(&b']') {
        return Err(BROKEN);
    }
    let last = array[start..array.len() - 1].trim_ascii();
    if !last.is_empty() || !elements.is_empty() {
        elements.push(last);
    }
    Ok(elements)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(body: &str, ndjson: bool) -> Vec<(usize, String, bool)> {
        let body = Bytes::from(body.to_owned());
        let show = |line: Line| {
            (line.number, String::from_utf8_lossy(&line.body).into_owned(), line.fault.is_none())
        };
        lines(&body, ndjson, 1024).into_iter().map(show).collect()
    }

    fn good(number: usize, text: &str) -> (usize, String, bool) {
        (number, text.to_owned(), true)
    }

    #[test]
    fn an_object_an_array_and_lines_are_understood() {
        assert_eq!(cut("{\n \"a\": 1\n}\n", false), [good(1, "{\n \"a\": 1\n}")]);
        assert_eq!(
            cut("{\"a\":1}\n\n{\"b\":2}\r\n", true),
            [good(1, "{\"a\":1}"), good(3, "{\"b\":2}")]
        );
        assert_eq!(
            cut("{\"a\":1}\n{\"b\":2}", false),
            [good(1, "{\"a\":1}"), good(2, "{\"b\":2}")]
        );
        let array = r#" [ {"a":"],[\"{"}, {"b":[1,{}]} ] "#;
        assert_eq!(cut(array, false), [good(1, r#"{"a":"],[\"{"}"#), good(2, r#"{"b":[1,{}]}"#)]);
        assert_eq!(cut("[]", false), []);
        assert_eq!(cut(" \n ", true), []);
    }

    #[test]
    fn each_bad_record_is_named_by_its_number() {
        let numbers = |body: &str, ndjson: bool| {
            cut(body, ndjson)
                .into_iter()
                .filter(|line| !line.2)
                .map(|line| line.0)
                .collect::<Vec<_>>()
        };
        assert_eq!(numbers("{}\nnope\n{}\n[1]", true), [2, 4]);
        assert_eq!(numbers("[{}, 1, {}, ]", false), [2, 4]);
        assert_eq!(numbers("[{}", false), [1]);
        assert_eq!(numbers("[{}] {}", false), [1]);
        assert_eq!(numbers("[{]}", false), [1]);
        assert_eq!(numbers("\u{0}\u{0}", true), [1]);
    }

    #[test]
    fn invalid_utf8_passes_through_every_form() {
        for body in [&b"[{\"a\":\"\xff\"}]"[..], b"{\"a\":\"\xff\"}", b"{\"a\":\"\xff\"}\n{}"] {
            let found = lines(&Bytes::copy_from_slice(body), false, 1024);
            assert!(found.iter().all(|line| line.fault.is_none()));
            assert_eq!(&found[0].body[..], b"{\"a\":\"\xff\"}");
        }
    }
}
