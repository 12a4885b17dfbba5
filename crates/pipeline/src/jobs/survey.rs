//! What a replay of the log would send: counted before it begins.

use holdfast_model::{Seq, Timestamp};
use holdfast_queue::{JobRecord, LogStretch, QueueEngine, QueueError, ReadLimit};
use serde_json::{Map, Value};

use crate::filter::{Filter, Verdict};

/// Events read at once while counting, and their bytes.
const PAGE: ReadLimit = ReadLimit { events_max: 4_096, bytes_max: 4 * 1024 * 1024 };

/// What of a stretch of the log a filter lets pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    pub total: u64,
    pub first: Option<Seq>,
    pub last: Option<Seq>,
}

/// Looks at all of `from..to`.
pub async fn survey(
    engine: &dyn QueueEngine,
    from: Seq,
    to: Seq,
    filter: &Filter,
) -> Result<Survey, QueueError> {
    let mut found = Survey::default();
    let to = to.min(*engine.head().borrow());
    let mut at = from;
    while at < to {
        let page = engine.read(at, PAGE).await?;
        for event in page.events.iter().filter(|event| event.seq < to) {
            if filter.judge(event) != Verdict::Filtered {
                found.total += 1;
                found.first.get_or_insert(event.seq);
                found.last = Some(event.seq);
            }
        }
        if page.next <= at {
            break;
        }
        at = page.next;
        // A long log must not hold the thread.
        tokio::task::yield_now().await;
    }
    Ok(found)
}

/// What a replay of the log lets pass: its own conditions, and those of the destination.
pub fn filter_of(
    conditions: &Map<String, Value>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    when: Option<&Filter>,
) -> Result<Filter, Vec<String>> {
    let own = Filter::from_json(conditions)?.received(since, until);
    Ok(match when {
        Some(when) => own.and(when.clone()),
        None => own,
    })
}

/// The same, from the job as it is stored.
pub(super) fn stored_filter(
    job: &JobRecord,
    log: &LogStretch,
    when: &Filter,
) -> Result<Filter, Vec<String>> {
    let conditions = serde_json::from_str(&log.filter).map_err(|error| vec![error.to_string()])?;
    let when = (!log.ignore_when).then_some(when);
    filter_of(&conditions, job.since, job.until, when)
}
