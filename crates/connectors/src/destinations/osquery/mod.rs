//! A question to the host of an alert: a distributed query through an `osquery_tls` source, whose
//! rows are the answer.
//!
//! Promises: the query reaches the host whose name or address the alert's agent has, and no other;
//! where several could be meant none is asked; a value of the alert is never more than a value of
//! the query.
//!
//! Does not promise an answer sooner than the host's next contact (`distributed_interval`), or all
//! rows where there are more than `max_rows`.
//!
//! Source: osquery `docs/wiki/deployment/remote.md`, "Distributed queries".

mod answer;
mod query;
#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Name, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use tokio::time::{Instant, timeout_at};

use self::query::{Problem, QUERY, Query};
use super::{Context, Kind};
use crate::{
    fleet::{self, Asked, Fleet, NotAsked, Wanted},
    message::Message,
};

pub(super) const KIND: Kind = Kind {
    name: "osquery",
    summary: "Asks the alert's host by osquery; its rows are the answer. A lookup.",
    example: r#"
source = "osquery"
query = "SELECT pid, name, cmdline FROM processes WHERE path = {{ alert.syscheck.path }}"
"#,
    settings: &[&SOURCE, &QUERY, &MAX_ROWS, &WHEN_SILENT],
    batches: false,
    http: false,
    build,
};

const SOURCE: Setting = Setting::optional(
    "source",
    "\"osquery\"",
    "The name of the `osquery_tls` source that the hosts have enrolled with.",
);

const MAX_ROWS: Setting = Setting::new(
    "max_rows",
    "100",
    "Most rows of an answer, 1 to 1000. The answer says if it was cut.",
);

const WHEN_SILENT: Setting = Setting::new(
    "when_silent",
    "\"answer\"",
    "What becomes of the question when the host does not answer within `timeout`: \"answer\" (an \
     answer that says so) or \"retry\" (it is asked again later).",
);

/// So long after a start a host that is not known may only not have come yet.
const WARM_UP: Duration = Duration::from_secs(120);

#[derive(Debug)]
struct Osquery {
    name: Name,
    source: String,
    query: Query,
    rows_max: usize,
    retries: bool,
    timeout: Duration,
}

#[derive(Debug, thiserror::Error)]
enum AskError {
    #[error("the source `{0}` of type osquery_tls does not run")]
    NoSource(String),
    #[error("the host {0} did not answer in time")]
    Silent(String),
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let source = section.required_text(&SOURCE);
    let query = Query::read(section);
    let rows_max = section.count(&MAX_ROWS, 1..=1000) as usize;
    let retries = section.word(&WHEN_SILENT, &["answer", "retry"]) == "retry";
    if source.is_empty() {
        return None;
    }
    Some(Arc::new(Osquery {
        name: context.name.clone(),
        source: source.to_owned(),
        query: query?,
        rows_max,
        retries,
        timeout: context.timeout,
    }))
}

#[async_trait]
impl Destination for Osquery {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let member = shipment.only()?;
        let message = Message::of(member);
        let query = match self.query.render(&message) {
            Ok(query) => query,
            Err(Problem::Missing) => {
                tracing::debug!(event = %member.id, "it has no value to ask for: nothing is asked");
                return Ok(Delivered::All(Receipt::default()));
            }
            Err(problem) => return Err(DeliveryError::caused_by(Reason::Render, problem)),
        };
        let told = answer::About {
            lookup: &self.name,
            message: &message,
            query: &query,
            rows_max: self.rows_max,
        };
        let answer = match self.ask(&message, &query).await? {
            Ok((host, reply)) => told.reply(&host, reply),
            Err((reason, said)) => told.error(reason, &said),
        };
        Ok(Delivered::All(Receipt { answers: vec![answer], ..Receipt::default() }))
    }

    fn is_lookup(&self) -> bool {
        true
    }
}

/// Whose reply it is, or in one word and for people why there is none.
type Outcome = Result<(String, fleet::Reply), (&'static str, String)>;

impl Osquery {
    async fn ask(&self, message: &Message, query: &str) -> Result<Outcome, DeliveryError> {
        let gone =
            || DeliveryError::caused_by(Reason::Connect, AskError::NoSource(self.source.clone()));
        let fleet = fleet::of(&self.source).ok_or_else(gone)?;
        let deadline = Instant::now() + self.timeout;
        let asked = match place(&fleet, &wanted(message), query, deadline).await {
            Ok(asked) => asked,
            Err(busy @ NotAsked::Busy) => {
                return Err(DeliveryError::caused_by(Reason::Throttled, busy));
            }
            Err(why @ NotAsked::Unknown) => return Ok(Err(("unknown_host", why.to_string()))),
            Err(why @ NotAsked::Several(_)) => return Ok(Err(("several_hosts", why.to_string()))),
        };
        let Asked { identifier, host, reply } = asked;
        match timeout_at(deadline, reply).await {
            Ok(Ok(reply)) => Ok(Ok((identifier, reply))),
            // The source ended meanwhile.
            Ok(Err(_)) => Err(gone()),
            Err(_) if self.retries => {
                Err(DeliveryError::caused_by(Reason::ServerFault, AskError::Silent(host)))
            }
            Err(_) => Ok(Err(("silent_host", AskError::Silent(host).to_string()))),
        }
    }
}

/// Asks; soon after a start it waits for a host that has not come yet.
async fn place(
    fleet: &Fleet,
    wanted: &Wanted,
    query: &str,
    deadline: Instant,
) -> Result<Asked, NotAsked> {
    loop {
        let mut news = std::pin::pin!(fleet.news());
        news.as_mut().enable();
        match fleet.ask(wanted, query) {
            Err(NotAsked::Unknown) if fleet.age() < WARM_UP => {
                if timeout_at(deadline, news).await.is_err() {
                    return Err(NotAsked::Unknown);
                }
            }
            asked => return asked,
        }
    }
}

/// The agent of the alert. `any`, and addresses that every host has, name nobody.
fn wanted(message: &Message) -> Wanted {
    let text = |pointer| crate::message::fact(&message.alert, pointer);
    let address = text("/agent/ip").and_then(|text| text.parse::<std::net::IpAddr>().ok());
    let address = address.map(|address| address.to_canonical());
    Wanted {
        name: message.agent_name.clone(),
        address: address.filter(|address| !address.is_unspecified() && !address.is_loopback()),
    }
}
