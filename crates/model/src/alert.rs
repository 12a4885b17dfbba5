//! What counts as a valid alert: a JSON object within a length and a depth.
//!
//! The syntax is checked, the content is not: `rule` is not required, and invalid UTF-8 inside
//! strings is kept, because Wazuh writes log bytes as they came (`cJSON` escapes only quotes,
//! backslashes and control characters).

use serde::de::IgnoredAny;

/// Longest alert by default, in bytes. Wazuh cuts events at 64 KiB but repeats their content in
/// the alert, so lines of 100 to 300 KB are possible.
pub const ALERT_BYTES_MAX: usize = 1024 * 1024;

/// Deepest nesting of objects and arrays.
pub const ALERT_DEPTH_MAX: usize = 128;

/// Why a record is not an alert.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AlertError {
    #[error("it has {bytes} bytes, more than the limit of {bytes_max}")]
    TooLong { bytes: usize, bytes_max: usize },
    #[error("it is nested deeper than {ALERT_DEPTH_MAX} levels")]
    TooDeep,
    #[error("it is not a JSON object, which starts with `{{`")]
    NotAnObject,
    #[error("it is not valid JSON: {0}")]
    Syntax(String),
}

/// Checks one record. Leading and trailing white space is allowed.
pub fn check_alert(body: &[u8], bytes_max: usize) -> Result<(), AlertError> {
    if body.len() > bytes_max {
        return Err(AlertError::TooLong { bytes: body.len(), bytes_max });
    }
    if body.trim_ascii_start().first() != Some(&b'{') {
        return Err(AlertError::NotAnObject);
    }
    if deeper_than(body, ALERT_DEPTH_MAX) {
        return Err(AlertError::TooDeep);
    }
    match serde_json::from_slice::<IgnoredAny>(body) {
        Ok(IgnoredAny) => Ok(()),
        Err(error) => Err(AlertError::Syntax(error.to_string())),
    }
}

/// Whether brackets outside strings nest deeper than `depth_max`.
///
/// Few alerts have that many brackets at all, so counting them first spares the closer look.
fn deeper_than(body: &[u8], depth_max: usize) -> bool {
    let is_opener = |b: &u8| matches!(b, b'{' | b'[');
    if body.iter().filter(|b| is_opener(b)).count() <= depth_max {
        return false;
    }
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    for byte in body {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => depth += 1,
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > depth_max {
            return true;
        }
    }
    false
}

/// The alert on one line: white space outside strings goes when the body holds a line break.
///
/// A line break inside a JSON string is always escaped, so a raw one is white space.
pub fn one_line(body: &[u8]) -> std::borrow::Cow<'_, [u8]> {
    if !body.iter().any(|b| matches!(b, b'\n' | b'\r')) {
        return body.into();
    }
    let (mut in_string, mut escaped) = (false, false);
    let mut line = Vec::with_capacity(body.len());
    for byte in body {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b' ' | b'\t' | b'\n' | b'\r') => continue,
            _ => {}
        }
        line.push(*byte);
    }
    line.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(body: impl AsRef<[u8]>) -> Result<(), AlertError> {
        check_alert(body.as_ref(), ALERT_BYTES_MAX)
    }

    #[test]
    fn an_object_is_an_alert_whatever_it_holds() {
        for body in ["{}", " {\"a\":1}\n", "{\"rule\":null}", "{\"a\":\"\u{fffd}\"}"] {
            assert_eq!(check(body), Ok(()), "{body}");
        }
        assert_eq!(check(b"{\"full_log\":\"\xff\xfe\"}"), Ok(()), "invalid UTF-8 is kept");
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for body in ["", " ", "[]", "1", "null", "\"{}\""] {
            assert_eq!(check(body), Err(AlertError::NotAnObject), "{body}");
        }
        for body in ["{", "{\"a\":}", "{} {}", "{\"a\":1,}", "{\"a\":\"\n\"}", "{\"a\":\"\0\"}"] {
            assert!(matches!(check(body), Err(AlertError::Syntax(_))), "{body}");
        }
        assert!(matches!(check([0_u8; 64]), Err(AlertError::NotAnObject)));
    }

    #[test]
    fn length_and_depth_have_exact_limits() {
        let nested =
            |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        assert_eq!(check(nested(ALERT_DEPTH_MAX)), Ok(()));
        assert_eq!(check(nested(ALERT_DEPTH_MAX + 1)), Err(AlertError::TooDeep));
        assert_eq!(check(nested(200_000)), Err(AlertError::TooDeep));
        assert_eq!(check(format!("{{\"a\":\"{}\"}}", "[".repeat(500))), Ok(()));
        assert_eq!(check_alert(b"{\"a\":1}", 7), Ok(()));
        let long = AlertError::TooLong { bytes: 8, bytes_max: 7 };
        assert_eq!(check_alert(b"{\"a\":12}", 7), Err(long));
    }

    #[test]
    fn one_line_removes_white_space_only_outside_strings_and_only_when_needed() {
        assert_eq!(&*one_line(b"{ \"a\": 1 }"), b"{ \"a\": 1 }");
        assert_eq!(&*one_line(b"{\n  \"a b\\\" c\": [1,\r\n 2]\n}"), b"{\"a b\\\" c\":[1,2]}");
    }
}
