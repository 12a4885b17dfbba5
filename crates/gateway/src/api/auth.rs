//! Bearer tokens (RFC 6750) and roles.

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Api,
    problem::{Kind, Problem},
};
use crate::config::{Role, Token};

/// Who makes a request; in the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) String);

pub(crate) async fn require(
    State((api, role)): State<(Arc<Api>, Role)>,
    mut request: Request,
    next: Next,
) -> Response {
    match authorize(&api.tokens, request.headers(), role) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(problem) => problem.into_response(),
    }
}

pub(crate) async fn require_unless_loopback(
    State(api): State<Arc<Api>>,
    request: Request,
    next: Next,
) -> Response {
    if api.loopback {
        return next.run(request).await;
    }
    match authorize(&api.tokens, request.headers(), Role::Read) {
        Ok(_) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

fn authorize(tokens: &[Token], headers: &HeaderMap, role: Role) -> Result<Caller, Problem> {
    let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let given = given.and_then(|value| {
        let (scheme, token) = value.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    let Some(given) = given else {
        return Err(Problem::new(Kind::Unauthorized, "send `Authorization: Bearer <token>`"));
    };
    // All are compared, and as hashes, so that time says nothing about where they differ.
    let hash = Sha256::digest(given);
    let mut known = None;
    for token in tokens {
        let same = Sha256::digest(token.secret.expose()).ct_eq(&hash);
        if bool::from(same) {
            known = Some(token);
        }
    }
    let Some(token) = known else {
        return Err(Problem::new(Kind::Unauthorized, "the token is not known"));
    };
    if token.role == Role::Admin || token.role == role {
        return Ok(Caller(token.name.to_string()));
    }
    let detail = format!("the token `{}` does not have the role that this needs", token.name);
    Err(Problem::new(Kind::Forbidden, detail))
}

#[cfg(test)]
mod tests {
    use holdfast_model::{Name, Secret};

    use super::*;

    #[test]
    fn a_token_may_do_what_its_role_says_and_admin_everything() {
        let token = |name: &str, role| Token {
            name: Name::new(name).unwrap(),
            role,
            secret: Secret::new(format!("{name}-secret")),
        };
        let tokens =
            [token("in", Role::Ingest), token("out", Role::Read), token("soc", Role::Admin)];
        let status = |header: &str, role| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, header.parse().unwrap());
            authorize(&tokens, &headers, role).err().map(|p| p.into_response().status().as_u16())
        };
        assert_eq!(status("Bearer in-secret", Role::Ingest), None);
        assert_eq!(status("bearer in-secret", Role::Ingest), None);
        assert_eq!(status("Bearer in-secret", Role::Read), Some(403));
        assert_eq!(status("Bearer out-secret", Role::Admin), Some(403));
        assert_eq!(status("Bearer soc-secret", Role::Ingest), None);
        assert_eq!(status("Bearer wrong", Role::Read), Some(401));
        assert_eq!(status("Basic in-secret", Role::Ingest), Some(401));
        assert!(authorize(&tokens, &HeaderMap::new(), Role::Read).is_err());
    }
}
