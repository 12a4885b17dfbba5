//! `POST /v1/destinations/{name}/test`: a marked test event, straight to the destination.

use std::sync::Arc;

use axum::{Extension, Json, extract::State};
use holdfast_model::{Chain, DeliveryError, Receipt};
use holdfast_pipeline::trial;
use holdfast_queue::QueueEngine;
use rand::Rng;
use serde::Serialize;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    extract::Path,
    openapi::Nothing,
    problem::{Kind, Problem},
};

/// Tests under way at once.
pub(crate) const TESTS_MAX: usize = 4;

/// How a test ended
#[derive(Serialize, ToSchema)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub(crate) enum Outcome {
    /// The destination took it
    #[schema(example = json!({"outcome": "delivered", "took_ms": 87,
        "receipt": {"status": 200, "remote_id": "1710051088.000200", "duplicate": false}}))]
    Delivered { receipt: ReceiptView, took_ms: u64 },
    /// It did not, or nobody knows
    #[schema(example = json!({"outcome": "failed", "took_ms": 12, "reason": "auth", "status": 401,
        "excerpt": "invalid_token", "error": "the destination refused our credentials (status 401)"}))]
    Failed {
        /// The word that attempts and metrics use.
        reason: String,
        /// The status that was answered, if one was.
        status: Option<u16>,
        /// The beginning of what was answered, secrets masked.
        excerpt: String,
        /// The causes, for people.
        error: String,
        took_ms: u64,
    },
}

/// What a remote system answered
#[derive(Serialize, ToSchema)]
pub(crate) struct ReceiptView {
    status: Option<u16>,
    /// Its own id for the thing it made.
    remote_id: Option<String>,
    /// It had this already.
    duplicate: bool,
}

/// Sends a marked test event and tells how it ended
///
/// The event goes straight to the destination: it is in no log and no ledger, passes no filter,
/// and a paused lane sends it too.
#[utoipa::path(
    post, path = "/v1/destinations/{name}/test", tag = "destinations",
    operation_id = "test_destination",
    params(("name" = String, Path, description = "The destination's name.", example = "siem")),
    request_body = Nothing,
    responses(
        (status = 200, description = "It was sent, or could not be.", body = Outcome),
        (status = 409, description = "Too many tests are under way.",
         body = super::problem::Body, content_type = "application/problem+json"),
    ),
)]
pub(crate) async fn test(
    State(api): State<Arc<Api>>,
    Extension(Caller(who)): Extension<Caller>,
    Path(name): Path<String>,
    _: Nothing,
) -> Result<Json<Outcome>, Problem> {
    let config = Arc::clone(api.lane(&name)?.config());
    let Ok(_permit) = api.tests.try_acquire() else {
        return Err(Problem::new(Kind::NotAllowed, format!("{TESTS_MAX} tests are under way")));
    };
    let mut random = [0; 12];
    rand::rng().fill_bytes(&mut random);
    let key = format!("test-{}", hex::encode(random));
    let begun = Instant::now();
    let sent = trial::send(&config, api.engine.log_id(), key.clone(), api.clock.now()).await;
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    let end = match &sent {
        Ok(_) => "delivered".to_owned(),
        Err(error) => format!("failed: {}", error.reason.as_str()),
    };
    api.note(&who, "test", &name, format!("{key}: {end}")).await;
    Ok(Json(Outcome::new(sent, took_ms)))
}

impl Outcome {
    fn new(sent: Result<Receipt, DeliveryError>, took_ms: u64) -> Self {
        match sent {
            Ok(Receipt { status, remote_id, duplicate, .. }) => {
                Self::Delivered { receipt: ReceiptView { status, remote_id, duplicate }, took_ms }
            }
            Err(error) => Self::Failed {
                reason: error.reason.as_str().to_owned(),
                status: error.status,
                error: Chain(&error).to_string(),
                excerpt: error.excerpt,
                took_ms,
            },
        }
    }
}
