//! From what was asked to the job that does it: which dead letters, or which stretch of the log, and
//! where to. Stores nothing.

use holdfast_model::{EventId, Name, Seq, Timestamp};
use holdfast_pipeline::{LaneHandle, jobs};
use holdfast_queue::{JobRecord, LogStretch, QueueEngine, job_of_lane};
use serde_json::Value;

use super::{Request, bad};
use crate::api::{
    Api,
    dead_letters::Filter,
    problem::{Kind, Problem},
};

/// The lane of a destination that is there.
fn target(api: &Api, name: &str) -> Result<(Name, LaneHandle), Problem> {
    let missing = || {
        let detail = format!("there is no destination `{name}` that could send it again");
        Problem::new(Kind::NotFound, detail)
    };
    let name = Name::new(name).map_err(|_| missing())?;
    let lane = api.lanes.get(&name).ok_or_else(missing)?;
    Ok((name, lane))
}

pub(super) async fn of_dead_letters(api: &Api, request: &Request) -> Result<JobRecord, Problem> {
    if request.ignore_when {
        return Err(bad("`ignore_when` is for a replay of the log: dead letters pass no filter"));
    }
    let filter = Value::Object(request.filter.clone());
    let filter: Filter =
        serde_json::from_value(filter).map_err(|error| bad(format!("`filter`: {error}")))?;
    let mut query = filter.query()?;
    let only = request.only.as_ref().map(|id| id.owner.clone());
    let owner = only.or(query.owner.clone()).or(request.destination.clone());
    let Some(owner) = owner else { return Err(bad("`destination` is missing")) };
    if owner.contains('.') {
        let detail = "what a source could not read was never an event, and cannot be sent";
        return Err(bad(detail));
    }
    // What died in a replay goes again to where that replay sent it.
    let destination = match (&request.destination, job_of_lane(&owner)) {
        (Some(destination), _) => destination.clone(),
        (None, Some(id)) => {
            let jobs = api.engine.jobs().await?;
            let job = jobs.into_iter().find(|job| job.id == id);
            let missing = || bad("`destination` is missing, and that replay is forgotten");
            job.ok_or_else(missing)?.lane.to_string()
        }
        (None, None) => owner.clone(),
    };
    let (name, _) = target(api, &destination)?;
    query.owner = Some(owner.clone());
    let total = match request.only {
        Some(_) => 1,
        None => jobs::count(&*api.engine, &query).await?,
    };
    Ok(JobRecord {
        reason: query.reason,
        since: query.since,
        until: query.until,
        rule_id: query.rule_id,
        only: request.only.as_ref().map(|id| id.seq),
        total,
        owner: (owner != name.as_str()).then_some(owner),
        ..JobRecord::new(name, api.clock.now())
    })
}

pub(super) async fn of_log(api: &Api, request: &Request) -> Result<JobRecord, Problem> {
    let Some(destination) = &request.destination else {
        return Err(bad("`destination` is missing"));
    };
    let (name, lane) = target(api, destination)?;
    let mut conditions = request.filter.clone();
    let mut word = |name: &str| match conditions.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(bad(format!("`{name}` must be a text"))),
    };
    let time = |name: &str, text: Option<String>| match text {
        None => Ok(None),
        Some(text) => Timestamp::parse(&text)
            .map(Some)
            .ok_or_else(|| bad(format!("`{name}` is \"{text}\", but must be an RFC 3339 time"))),
    };
    let event = |name: &str, text: Option<String>| match text {
        None => Ok(None),
        Some(text) => match text.parse::<EventId>() {
            Ok(id) if id.log == *api.engine.log_id() => Ok(Some(id.seq)),
            _ => Err(bad(format!(
                "`{name}` is \"{text}\", but must be the id of an event of this log"
            ))),
        },
    };
    let (since, until) = (time("since", word("since")?)?, time("until", word("until")?)?);
    let (first, last) = (event("first", word("first")?)?, event("last", word("last")?)?);
    let when = (!request.ignore_when).then(|| lane.filter());
    let filter = jobs::filter_of(&conditions, since, until, when.as_ref())
        .map_err(|faults| bad(format!("`filter`: {}", faults.join("; "))))?;
    let (from, to) = (first.unwrap_or(0), last.map_or(Seq::MAX, |last| last.saturating_add(1)));
    let found = jobs::survey(&*api.engine, from, to, &filter).await?;
    // No more of the log than it takes: it is kept for as long as the replay needs it.
    let from = found.first.unwrap_or(from);
    let to = found.last.map_or(from, |last| last + 1);
    let filter = Value::Object(conditions).to_string();
    Ok(JobRecord {
        since,
        until,
        total: found.total,
        log: Some(LogStretch { from, to, filter, ignore_when: request.ignore_when }),
        ..JobRecord::new(name, api.clock.now())
    })
}
