//! What osqueryd logs, as events.
//!
//! A line becomes `{"integration":"osquery","location":"osquery","agent":{"name","ip"},
//! "data":{"osquery":<the line as it came>}}`: where Wazuh's own alerts have osquery's results. A
//! status log also has `"log_type":"status"` in `data`.

use std::{
    collections::{HashSet, VecDeque},
    net::IpAddr,
};

use bytes::Bytes;
use holdfast_model::{AlertError, IntakeBatch, NewEvent, Reject, RejectReason, check_alert};
use serde_json::{json, value::RawValue};
use sha2::{Digest, Sha256};

use super::keys::Node;

/// How much is kept of a line that is too long.
const KEPT_BYTES_MAX: usize = 64 * 1024;

/// How many of the last lines are known again.
const RECENT_MAX: usize = 65_536;

/// A line's fingerprint.
pub(super) type Mark = [u8; 16];

/// The last lines that were taken. When the answer to a batch is lost, osqueryd sends it again,
/// perhaps with more behind it.
#[derive(Debug, Default)]
pub(super) struct Recent {
    known: HashSet<Mark>,
    order: VecDeque<Mark>,
}

/// A line on its way to the intake.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) mark: Mark,
    record: Record,
}

#[derive(Clone, Debug)]
enum Record {
    Event(Bytes),
    Reject(Reject),
}

/// What is the same for all lines of a batch.
pub(super) struct Origin<'a> {
    pub(super) node: &'a Node,
    pub(super) address: IpAddr,
    pub(super) is_status: bool,
    pub(super) line_bytes_max: usize,
}

// === impl Origin ===

impl Origin<'_> {
    pub(super) fn lines(&self, data: &[&RawValue]) -> Vec<Line> {
        let agent = json!({ "name": self.node.host, "ip": self.address });
        let kind = if self.is_status { "\"log_type\":\"status\"," } else { "" };
        let before = format!(
            "{{\"integration\":\"osquery\",\"location\":\"osquery\",\"agent\":{agent},\"data\":{{{kind}\"osquery\":"
        );
        data.iter().map(|raw| self.line(&before, raw.get())).collect()
    }

    fn line(&self, before: &str, raw: &str) -> Line {
        let mut hash = Sha256::new();
        hash.update(self.node.id.as_bytes());
        hash.update([0, u8::from(self.is_status)]);
        hash.update(raw.as_bytes());
        let mut mark = Mark::default();
        mark.copy_from_slice(&hash.finalize()[..16]);
        let event = check_alert(raw.as_bytes(), self.line_bytes_max).and_then(|()| {
            let body = [before, raw, "}}"].concat();
            check_alert(body.as_bytes(), usize::MAX)?;
            Ok(body.into())
        });
        let record = match event {
            Ok(body) => Record::Event(body),
            Err(error) => {
                let reason = match error {
                    AlertError::TooLong { .. } => RejectReason::TooLong,
                    _ => RejectReason::Invalid,
                };
                let kept = &raw.as_bytes()[..raw.len().min(KEPT_BYTES_MAX)];
                let message = format!("{error}; from osquery on {}", self.node.host);
                Record::Reject(Reject { reason, message, raw: Bytes::copy_from_slice(kept) })
            }
        };
        Line { mark, record }
    }
}

pub(super) fn batch(lines: &[Line]) -> IntakeBatch {
    let mut batch = IntakeBatch::default();
    for line in lines {
        match &line.record {
            Record::Event(body) => batch.events.push(NewEvent::alert(body.clone())),
            Record::Reject(reject) => batch.rejects.push(reject.clone()),
        }
    }
    batch
}

// === impl Line ===

impl Line {
    /// Leaves out what the intake cannot take at once.
    pub(super) fn shrink(&mut self) -> bool {
        let Record::Event(body) = &self.record else { return false };
        let message = format!("the queue cannot take its {} bytes at once", body.len());
        let raw = Bytes::copy_from_slice(&body[..body.len().min(KEPT_BYTES_MAX)]);
        self.record = Record::Reject(Reject { reason: RejectReason::TooLong, message, raw });
        true
    }
}

// === impl Recent ===

impl Recent {
    /// Leaves the lines that were not taken before this request. Lines that are alike within it
    /// are different results.
    pub(super) fn unknown(&self, lines: Vec<Line>) -> Vec<Line> {
        lines.into_iter().filter(|line| !self.known.contains(&line.mark)).collect()
    }

    pub(super) fn remember(&mut self, lines: &[Line]) {
        for line in lines {
            if self.known.insert(line.mark) {
                self.order.push_back(line.mark);
            }
            if self.order.len() > RECENT_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.known.remove(&oldest);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str], is_status: bool) -> Vec<Line> {
        let node = Node { id: "uuid-1".into(), host: "web-\"01".into(), once: String::new() };
        let address = "10.0.0.1".parse().unwrap();
        let raws: Vec<&RawValue> = texts.iter().map(|t| serde_json::from_str(t).unwrap()).collect();
        Origin { node: &node, address, is_status, line_bytes_max: 64 }.lines(&raws)
    }

    #[test]
    fn a_line_keeps_its_bytes_where_wazuhs_alerts_have_them() {
        let made = batch(&lines(&[r#"{"name": "q", "columns":{"pid":"1"}}"#], false));
        assert_eq!(
            made.events[0].body,
            r#"{"integration":"osquery","location":"osquery","agent":{"ip":"10.0.0.1","name":"web-\"01"},"data":{"osquery":{"name": "q", "columns":{"pid":"1"}}}}"#
        );
        let made = batch(&lines(&[r#"{"severity":0}"#], true));
        let body = String::from_utf8_lossy(&made.events[0].body).into_owned();
        assert!(
            body.ends_with(r#""data":{"log_type":"status","osquery":{"severity":0}}}"#),
            "{body}"
        );
    }

    #[test]
    fn what_is_no_line_becomes_a_reject() {
        let long = format!("{{\"a\":\"{}\"}}", "x".repeat(64));
        let made = batch(&lines(&["1", &long, "[]"], false));
        assert_eq!((made.events.len(), made.rejects.len()), (0, 3));
        assert_eq!(made.rejects[1].reason, RejectReason::TooLong);
        assert!(made.rejects[0].message.contains("web-"), "{}", made.rejects[0].message);
    }

    #[test]
    fn lines_are_known_again_but_not_within_one_request() {
        let mut recent = Recent::default();
        let first = recent.unknown(lines(&["{}", "{}", "{\"a\":1}"], false));
        assert_eq!(first.len(), 3);
        recent.remember(&first);
        let again = recent.unknown(lines(&["{}", "{\"a\":1}", "{\"a\":2}"], false));
        assert_eq!(again.len(), 1);
        assert_eq!(recent.unknown(lines(&["{}"], true)).len(), 1, "another kind of log");
        for number in 0..RECENT_MAX {
            recent.remember(&lines(&[&format!("{{\"n\":{number}}}")], false));
        }
        assert_eq!((recent.known.len(), recent.order.len()), (RECENT_MAX, RECENT_MAX));
        assert_eq!(recent.unknown(lines(&["{}"], false)).len(), 1);
    }
}
