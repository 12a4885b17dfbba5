//! The answer's event, in the shape of osquery's own snapshots, so that Wazuh's rules know it. Pure.

use std::time::SystemTime;

use bytes::Bytes;
use holdfast_model::Name;
use serde_json::{Value, json};

use crate::{fleet::Reply, message::Message};

/// Largest rows of one answer, in bytes: Wazuh's queue takes no event above 64 KiB.
const ROWS_BYTES_MAX: usize = 48 * 1024;

/// What an answer is about.
pub(super) struct About<'a> {
    pub(super) lookup: &'a Name,
    pub(super) message: &'a Message,
    pub(super) query: &'a str,
    pub(super) rows_max: usize,
}

impl About<'_> {
    pub(super) fn reply(&self, host: &str, reply: Reply) -> Bytes {
        let mut said = self.head();
        said["hostIdentifier"] = host.into();
        if reply.status != 0 {
            said["error"] = "query_failed".into();
            said["status"] = reply.status.into();
            said["description"] = reply.message.into();
            return body(said);
        }
        let count = reply.rows.len();
        let (mut bytes, mut rows) = (0, Vec::new());
        for row in reply.rows.into_iter().take(self.rows_max) {
            bytes += row.to_string().len();
            if bytes > ROWS_BYTES_MAX {
                break;
            }
            rows.push(row);
        }
        said["action"] = "snapshot".into();
        said["found"] = u8::from(count > 0).into();
        said["rows"] = count.into();
        said["truncated"] = (rows.len() < count).into();
        said["snapshot"] = Value::Array(rows);
        body(said)
    }

    pub(super) fn error(&self, word: &str, description: &str) -> Bytes {
        let mut said = self.head();
        said["error"] = word.into();
        said["description"] = description.into();
        body(said)
    }

    fn head(&self) -> Value {
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        json!({
            "name": self.lookup.as_str(),
            "unixTime": now.as_secs(),
            "query": self.query,
            "source": {
                "alert_id": crate::message::fact(&self.message.alert, "/id"),
                "agent": self.message.agent_name,
            },
        })
    }
}

fn body(said: Value) -> Bytes {
    json!({ "integration": "osquery", "osquery": said }).to_string().into()
}
