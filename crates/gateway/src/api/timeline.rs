//! `GET /v1/alerts/{id}`: an event, and its way through every lane.
//!
//! It is put together from the queue's own records, at the moment of the question. What a lane
//! settled leaves no record of the single event, so of that no attempts are shown; and whether it
//! was filtered is asked of the filter that the lane has now.
//!
//! With it come the events that are about it, or about one of those: what lookups answered, and what
//! remote systems said.

use std::{collections::BTreeSet, sync::Arc};

use axum::{Json, extract::State};
use holdfast_model::{DeadReason, Event, EventId, Name, Seq, Timestamp, delivery_key};
use holdfast_pipeline::filter::Verdict;
use holdfast_queue::{
    AttemptNote, DeadLetter, LaneLink, QueueEngine, RetryRecord, Standing, StoredEvent, Trace,
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    event::{Attempt, EventView},
    extract::Path,
    problem::{Kind, Problem},
};

/// Events about an event that are shown with it.
const CHILDREN_MAX: usize = 100;

/// An event and where it stands in every lane
#[derive(Serialize, ToSchema)]
pub(crate) struct Timeline {
    event: EventView,
    /// One entry a lane; and one for a source that kept the record as a dead letter.
    timeline: Vec<Step>,
    /// Answers of lookups and callbacks that are about it, and what is about those, as they came;
    /// at most 100.
    children: Vec<EventView>,
}

/// Where an event stands in one lane
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
enum Place {
    /// The lane began behind it.
    BeforeLane,
    /// The lane has not come to it yet.
    Unread,
    /// The lane's filter does not let it through.
    Filtered,
    /// Read, and being sent for the first time or about to be.
    InFlight,
    /// It failed, and waits for another try or is being tried.
    Retrying,
    /// Given up.
    Dead,
    /// Delivered; or expired or purged, which the lane's ledger and the audit count.
    Settled,
    /// More batches wait than one request looks through.
    Unknown,
}

/// An event's way through one lane
#[derive(Serialize, ToSchema)]
#[schema(example = json!({"destination": "siem", "type": "webhook", "state": "retrying",
    "key": "k3v9x0aq2m-42.siem", "tries": 1, "attempts": [{"n": 1,
    "at": "2026-03-10T06:11:28.189Z", "outcome": "server_error", "status": 503,
    "excerpt": "the destination failed (status 503)"}],
    "next_try_at": "2026-03-10T06:11:29.012Z", "reason": null, "died_at": null,
    "remote_id": null, "note": null}))]
struct Step {
    /// The lane's name; `source.<name>` for a source.
    destination: String,
    /// The destination's type; empty for an orphaned lane and for a source.
    #[serde(rename = "type")]
    kind: String,
    state: Place,
    /// The idempotency key of every try.
    key: Option<String>,
    /// How often it was tried.
    tries: u32,
    /// At most 20: the first 5 and the last 15.
    #[schema(value_type = Vec<Attempt>)]
    attempts: Vec<AttemptNote>,
    #[schema(value_type = Option<String>, format = DateTime)]
    next_try_at: Option<Timestamp>,
    /// Why it was given up.
    #[schema(value_type = Option<String>)]
    reason: Option<DeadReason>,
    #[schema(value_type = Option<String>, format = DateTime)]
    died_at: Option<Timestamp>,
    /// The remote system's own id for what it made of the event, where one is kept.
    remote_id: Option<String>,
    /// What else there is to say: why `where` could not decide, what is wrong with a record.
    note: Option<String>,
}

/// Shows an event and its way through every lane
#[utoipa::path(
    get, path = "/v1/alerts/{id}", tag = "alerts", operation_id = "show_alert",
    params(("id" = String, Path, description = "The event's id.", example = "k3v9x0aq2m-42")),
    responses((status = 200, description = "The event.", body = Timeline)),
)]
pub(crate) async fn show(
    State(api): State<Arc<Api>>,
    Path(id): Path<String>,
) -> Result<Json<Timeline>, Problem> {
    let missing = || Problem::new(Kind::NotFound, "there is no such event, or no longer");
    let id: EventId = id.parse().map_err(|_| missing())?;
    if id.log != *api.engine.log_id() {
        return Err(missing());
    }
    let traces = api.engine.trace(id.seq).await?;
    let logged = api.logged(&id).await?;
    let event = logged.or_else(|| kept(&id, &traces)).ok_or_else(missing)?;
    let judged = event.to_event();
    let links = api.engine.links_of(id.seq).await?;
    let step = |trace| Step::new(&api, &id, &judged, &links, trace);
    let timeline = traces.into_iter().map(step).collect();
    let children = api.children(id.seq).await?;
    let log = api.engine.log_id();
    let children = children.iter().map(|child| EventView::new(log, child)).collect();
    Ok(Json(Timeline { event: EventView::new(log, &event), timeline, children }))
}

impl Api {
    /// The events about this one, and about those.
    async fn children(&self, seq: Seq) -> Result<Vec<StoredEvent>, Problem> {
        let mut seqs = BTreeSet::new();
        let mut above = vec![seq];
        while let Some(parent) = above.pop() {
            for child in self.engine.children_of(parent).await? {
                // A child comes behind its parent, so there are no circles.
                if seqs.len() < CHILDREN_MAX && child > parent && seqs.insert(child) {
                    above.push(child);
                }
            }
        }
        let mut children = Vec::new();
        for seq in seqs {
            children.extend(self.logged(&self.engine.log_id().event(seq)).await?);
        }
        Ok(children)
    }

    /// The event, if the log still has it.
    async fn logged(&self, id: &EventId) -> Result<Option<StoredEvent>, Problem> {
        let found = self.engine.event(id.seq).await?;
        Ok(found.as_deref().map(StoredEvent::of))
    }
}

/// The event as a record of its own keeps it, when the log has passed it.
fn kept(id: &EventId, traces: &[Trace]) -> Option<StoredEvent> {
    traces.iter().find_map(|trace| match &trace.standing {
        Standing::Dead(letter) => Some(letter.event.clone()),
        Standing::Retrying(record) => {
            record.members.iter().find(|member| member.seq == id.seq).cloned()
        }
        Standing::BeforeLane | Standing::Unsettled | Standing::Settled | Standing::Unknown => None,
    })
}

impl Step {
    fn new(api: &Api, id: &EventId, event: &Event, links: &[LaneLink], trace: Trace) -> Self {
        let name = Name::new(&trace.owner).ok();
        let of_lane = |link: &&LaneLink| Some(&link.lane) == name.as_ref();
        let remote_id = links.iter().find(of_lane).map(|found| found.link.remote_id.clone());
        let lane = name.as_ref().and_then(|name| api.lanes.get(name));
        let verdict = lane.as_ref().map(|lane| lane.config().settings.filter.judge(event));
        let filtered = verdict == Some(Verdict::Filtered);
        let note = match verdict {
            Some(Verdict::Unsure(reason)) => Some(format!("`where` could not decide: {reason}")),
            Some(Verdict::Passes | Verdict::Filtered) | None => None,
        };
        let view = lane.as_ref().map(|lane| lane.view());
        let has_read = view.as_ref().is_some_and(|view| event.seq < view.read_to);
        let step = Self {
            destination: trace.owner,
            kind: view.map_or("", |view| view.kind).to_owned(),
            state: Place::Settled,
            key: name.map(|name| delivery_key(id, &name, None)),
            tries: 0,
            attempts: Vec::new(),
            next_try_at: None,
            reason: None,
            died_at: None,
            remote_id,
            note,
        };
        match trace.standing {
            Standing::BeforeLane => Self { state: Place::BeforeLane, ..step },
            Standing::Unsettled if filtered => Self { state: Place::Filtered, ..step },
            Standing::Unsettled if has_read => Self { state: Place::InFlight, ..step },
            Standing::Unsettled => Self { state: Place::Unread, ..step },
            Standing::Settled if filtered => Self { state: Place::Filtered, ..step },
            Standing::Settled => step,
            Standing::Unknown => Self { state: Place::Unknown, ..step },
            Standing::Retrying(record) => step.retrying(*record),
            Standing::Dead(letter) => step.dead(*letter),
        }
    }

    fn retrying(self, record: RetryRecord) -> Self {
        Self {
            state: Place::Retrying,
            tries: record.tries,
            attempts: record.attempts,
            next_try_at: Some(record.due),
            ..self
        }
    }

    fn dead(self, letter: DeadLetter) -> Self {
        Self {
            state: Place::Dead,
            tries: letter.tries,
            attempts: letter.attempts,
            reason: Some(letter.reason),
            died_at: Some(letter.died_at),
            note: Some(letter.message).filter(|message| !message.is_empty()).or(self.note),
            ..self
        }
    }
}
