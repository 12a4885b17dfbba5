//! Puts a record under names of its own, so that filters and templates find it where Wazuh's own
//! alerts have it: `{"integration":"osquery","data":{"osquery":<record>}}`.
//!
//! Promises: the record's own bytes stay as they are.

use bytes::Bytes;
use holdfast_model::{
    AlertError, check_alert,
    settings::{Section, Setting},
};

pub(super) const WRAP: Setting = Setting::optional(
    "wrap",
    "\"data.osquery\"",
    "Where in the event a record is put, as names with dots between them, at most 4. Without it the \
     record is the event.",
);
pub(super) const INTEGRATION: Setting = Setting::optional(
    "integration",
    "\"osquery\"",
    "The event's `integration`, by which filters know it. Only with `wrap`.",
);

const NAMES_MAX: usize = 4;
const NAME_CHARS_MAX: usize = 64;

/// What stands before and behind each record.
#[derive(Debug)]
pub(super) struct Wrap {
    before: String,
    after: String,
}

impl Wrap {
    /// Reads both keys. `None`: a fault was reported, or, as `Some(None)`, nothing is wrapped.
    #[expect(clippy::option_option, reason = "not given is not the same as wrong")]
    pub(super) fn read(section: &Section<'_>) -> Option<Option<Self>> {
        let (path, integration) = (section.text(&WRAP), section.text(&INTEGRATION));
        let Some(path) = path else {
            if integration.is_some() {
                section.fault(INTEGRATION.name, "it goes beside a record that is wrapped: `wrap`");
            }
            return (integration.is_none() && !section.has(WRAP.name)).then_some(None);
        };
        let names: Vec<&str> = path.split('.').collect();
        if names.len() > NAMES_MAX || !names.iter().all(|name| is_name(name)) {
            let problem = format!(
                "it must be 1 to {NAMES_MAX} names of a-z, A-Z, 0-9, _ and - with dots between"
            );
            section.fault(WRAP.name, problem);
            return None;
        }
        if let Some(word) = integration
            && !is_name(word)
        {
            section.fault(INTEGRATION.name, "it must be a name of a-z, A-Z, 0-9, _ and -");
            return None;
        }
        Some(Some(Self::new(&names, integration)))
    }

    fn new(names: &[&str], integration: Option<&str>) -> Self {
        let mut before = String::from("{");
        if let Some(word) = integration {
            before.push_str(&format!("\"integration\":\"{word}\","));
        }
        let opened: Vec<String> = names.iter().map(|name| format!("\"{name}\":")).collect();
        before.push_str(&opened.join("{"));
        Self { before, after: "}".repeat(names.len()) }
    }

    /// The event's body.
    ///
    /// # Errors
    ///
    /// It is nested too deep now.
    pub(super) fn around(&self, record: &[u8]) -> Result<Bytes, AlertError> {
        let parts = [self.before.as_bytes(), record.trim_ascii(), self.after.as_bytes()];
        let body = parts.concat();
        check_alert(&body, usize::MAX)?;
        Ok(body.into())
    }
}

fn is_name(text: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"_-".contains(&byte);
    (1..=NAME_CHARS_MAX).contains(&text.len()) && text.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use holdfast_model::alert::ALERT_DEPTH_MAX;

    use super::*;

    #[test]
    fn a_record_keeps_its_bytes_under_its_names() {
        let body = |names: &[&str], word, record: &str| {
            let body = Wrap::new(names, word).around(record.as_bytes()).unwrap();
            String::from_utf8(body.to_vec()).unwrap()
        };
        assert_eq!(body(&["osquery"], None, "{\"a\": 1}\r"), "{\"osquery\":{\"a\": 1}}");
        assert_eq!(
            body(&["data", "osquery"], Some("osquery"), "{}"),
            "{\"integration\":\"osquery\",\"data\":{\"osquery\":{}}}"
        );
    }

    #[test]
    fn a_record_that_becomes_too_deep_is_refused() {
        let nested =
            |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth - 1), "]".repeat(depth - 1));
        let wrap = Wrap::new(&["a", "b"], None);
        assert!(wrap.around(nested(ALERT_DEPTH_MAX - 2).as_bytes()).is_ok());
        let deep = wrap.around(nested(ALERT_DEPTH_MAX - 1).as_bytes());
        assert_eq!(deep, Err(AlertError::TooDeep));
    }
}
