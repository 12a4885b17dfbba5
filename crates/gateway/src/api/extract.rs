//! axum's own extractors, with problems for what they refuse.

use axum::{
    extract::{FromRequestParts, Request, rejection::PathRejection},
    http::request::Parts,
    middleware::Next,
    response::{IntoResponse, Response},
};
use futures_util::FutureExt;
use serde::de::DeserializeOwned;

use super::problem::{Kind, Problem};

/// The query string; a problem names the key.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Query<T>(pub(crate) T);

/// The parts of the path.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Path<T>(pub(crate) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Query::<T>::from_request_parts(parts, state).await;
        let axum::extract::Query(query) =
            read.map_err(|error| Problem::new(Kind::BadRequest, error.body_text()))?;
        Ok(Self(query))
    }
}

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        let read = axum::extract::Path::<T>::from_request_parts(parts, state).await;
        let axum::extract::Path(path) = read.map_err(|error: PathRejection| {
            let kind =
                if error.status().is_server_error() { Kind::Internal } else { Kind::BadRequest };
            Problem::new(kind, error.body_text())
        })?;
        Ok(Self(path))
    }
}

/// A panic costs one request, which is told so.
pub(crate) async fn survive(request: Request, next: Next) -> Response {
    let path = request.uri().path().to_owned();
    match std::panic::AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(path, "a request's code panicked; this is a fault of Holdfast");
            Problem::new(Kind::Internal, "the gateway's log says more").into_response()
        }
    }
}
