//! `/v1/callbacks/{destination}`: what remote systems send back.
//!
//! Before the signature is looked at there are limits: size, time, and requests per address. Then
//! the destination verifies the raw bytes ([`desk`]), and what it heard is stored before it is
//! answered ([`store`]). An unknown destination and one without callbacks are answered like a wrong
//! signature: from outside nobody learns which destinations there are.

mod counters;
mod desk;
mod permit;
mod store;

use std::{
    net::{IpAddr, Ipv6Addr},
    num::NonZeroU32,
    sync::Arc,
    time::Duration,
};

use axum::{
    Extension, Router,
    body::Body,
    extract::{RawQuery, Request, State},
    http::HeaderMap,
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use utoipa_axum::{router::OpenApiRouter, routes};

use self::desk::Letter;
pub(crate) use self::{counters::Counters, desk::Desk};
use super::{
    body, extract,
    problem::{self, Kind, Problem},
    server::{Certified, Peer},
};

/// Largest body, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;
/// Longest wait for a body.
const BODY_WAIT_MAX: Duration = Duration::from_secs(10);
/// Requests a second from one address.
const RATE: NonZeroU32 = NonZeroU32::new(20).expect("it is not zero");
/// Addresses that are remembered; then those are forgotten that have been quiet.
const ADDRESSES_MAX: usize = 10_000;

type Limiter = Arc<DefaultKeyedRateLimiter<IpAddr>>;

/// Takes what a remote system tells us
///
/// The signature is the vendor's own and is made over the raw body. An unknown destination is
/// answered like a wrong signature.
#[utoipa::path(
    post, path = "/v1/callbacks/{destination}", tag = "callbacks", operation_id = "receive_callback",
    params(("destination" = String, Path, description = "The destination's name.", example = "tickets")),
    request_body(
        description = "Whatever the vendor sends, at most 1 MiB.",
        content_type = "application/octet-stream", content = Vec<u8>,
    ),
    responses(
        (status = 200, description = "It is on stable storage, or was before, or has no meaning \
            here. The body is what the vendor expects to read.",
         content((Object = "application/json"), (String = "text/plain"))),
        (status = 401, description = "The signature is wrong, or there is no such destination.",
         body = problem::Body, content_type = "application/problem+json",
         example = json!({"type": "/problems/bad-signature", "title": "The signature is wrong",
            "status": 401, "detail": "the signature is wrong, or there is no such destination"})),
        (status = 429, description = "More than 20 requests a second from one address.",
         body = problem::Body, content_type = "application/problem+json",
         headers(("retry-after" = u64, description = "Seconds to wait.")),
         example = json!({"type": "/problems/too-many-requests", "title": "Too many requests",
            "status": 429, "detail": "at most 20 requests a second come from one address"})),
        (status = 503, description = "It could not be stored now; send it again.",
         body = problem::Body, content_type = "application/problem+json",
         headers(("retry-after" = u64, description = "Seconds to wait.")),
         example = json!({"type": "/problems/queue-full", "title": "The queue is full",
            "status": 503, "detail": "the queue does not take it now"})),
    ),
)]
async fn receive(
    State(desk): State<Arc<Desk>>,
    extract::Path(destination): extract::Path<String>,
    RawQuery(query): RawQuery,
    certified: Option<Extension<Certified>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = match body::read_within(body, BODY_BYTES_MAX, BODY_WAIT_MAX).await {
        Ok(body) => body,
        Err(problem) => {
            let reason = match problem.kind() {
                Kind::TooLarge => "too_large",
                Kind::Timeout => "timeout",
                _ => "malformed",
            };
            desk.counters.refused(&desk.label(&destination), reason, 1);
            return problem.into_response();
        }
    };
    let certified = certified.is_some_and(|Extension(Certified(certified))| certified);
    let letter = Letter::new(&headers, query.unwrap_or_default(), body, certified);
    match desk.receive(&destination, letter).await {
        Ok(answer) => answer,
        Err(problem) => problem.into_response(),
    }
}

/// The routes, with their limits.
pub(crate) fn limited<S: Clone + Send + Sync + 'static>(desk: Arc<Desk>) -> Router<S> {
    let limiter: Limiter = Arc::new(RateLimiter::keyed(Quota::per_second(RATE)));
    let counters = desk.counters.clone();
    let (router, _) = routes().split_for_parts();
    router
        .layer(middleware::from_fn(move |request, next| {
            limit(Arc::clone(&limiter), counters.clone(), request, next)
        }))
        .method_not_allowed_fallback(problem::no_such_method)
        .with_state(desk)
}

pub(crate) fn routes() -> OpenApiRouter<Arc<Desk>> {
    OpenApiRouter::default().routes(routes!(receive))
}

/// What the listener for callbacks alone serves.
pub(crate) fn router(desk: Arc<Desk>) -> Router {
    limited::<()>(desk)
        .fallback(problem::no_such_route)
        .layer(middleware::from_fn(extract::survive))
}

async fn limit(limiter: Limiter, counters: Counters, request: Request, next: Next) -> Response {
    let peer =
        request.extensions().get::<Peer>().map_or(IpAddr::V6(Ipv6Addr::UNSPECIFIED), |p| p.0);
    if limiter.len() > ADDRESSES_MAX {
        limiter.retain_recent();
    }
    match limiter.check_key(&network(peer)) {
        Ok(()) => next.run(request).await,
        Err(_) => {
            counters.refused(counters::UNKNOWN, "rate_limited", 1);
            let detail = format!("at most {RATE} requests a second come from one address");
            Problem::new(Kind::TooManyRequests, detail)
                .retry_after(Duration::from_secs(1))
                .into_response()
        }
    }
}

/// Of an IPv6 address the network, which one machine has as many addresses of as it likes.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_machine_is_one_address() {
        let same = |one: &str, other: &str| {
            network(one.parse().unwrap()) == network(other.parse().unwrap())
        };
        assert!(same("2001:db8::1", "2001:db8::ffff:1"));
        assert!(!same("2001:db8::1", "2001:db8:0:1::1"));
        assert!(same("192.0.2.1", "::ffff:192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
