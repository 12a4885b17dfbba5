//! Bearer tokens (RFC 6750) and roles.
//!
//! Tokens are exchanged while requests run: [`Access::replace`] takes a new configuration's,
//! [`Access::refresh`] reads those that live in files anew. A file that became unfit changes
//! nothing: its old token stays valid, and the log says so.

use std::sync::{Arc, Mutex, PoisonError};

use arc_swap::ArcSwap;
use axum::{
    extract::{Request, State},
    http::{HeaderMap, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use holdfast_model::{Chain, Name, Timestamp};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::{
    Api,
    problem::{Kind, Problem},
};
use crate::config::{Role, Token, unfit_token};

/// Who makes a request; in the request's extensions.
#[derive(Clone, Debug)]
pub(crate) struct Caller(pub(crate) String);

/// The role of who makes a request; in the request's extensions.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallerRole(pub(crate) Role);

/// What a route asks of its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// A token that is valid, whatever its role.
    Token,
    Role(Role),
}

/// The tokens that are valid just now.
pub(crate) struct Access {
    tokens: Mutex<Vec<Token>>,
    known: ArcSwap<Vec<Known>>,
}

#[derive(Clone)]
struct Known {
    name: Name,
    role: Role,
    hash: [u8; 32],
    expires: Option<Timestamp>,
}

impl Access {
    pub(crate) fn new(tokens: Vec<Token>) -> Self {
        let known = tokens.iter().map(Known::of).collect();
        Self { tokens: Mutex::new(tokens), known: ArcSwap::from_pointee(known) }
    }

    /// Takes the tokens of a new configuration.
    pub(crate) fn replace(&self, tokens: Vec<Token>) {
        let mut current = self.lock();
        self.known.store(Arc::new(tokens.iter().map(Known::of).collect()));
        *current = tokens;
    }

    /// Reads tokens that live in files anew.
    pub(crate) fn refresh(&self) {
        let tokens = self.lock();
        let mut known = Vec::clone(&self.known.load());
        let mut changed = false;
        for (index, token) in tokens.iter().enumerate() {
            match refreshed(token, &known[index]) {
                Ok(false) => {}
                Ok(true) => {
                    let new = Known::of(token);
                    if known.iter().any(|other| other.hash == new.hash) {
                        tracing::error!(name = %token.name, "the new token is another's already; the old one stays");
                        continue;
                    }
                    known[index] = new;
                    changed = true;
                    tracing::info!(name = %token.name, "a new token is valid");
                }
                Err(problem) => {
                    tracing::error!(name = %token.name, problem, "the new token is refused; the old one stays");
                }
            }
        }
        if changed {
            self.known.store(Arc::new(known));
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Token>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn authorize(
        &self,
        headers: &HeaderMap,
        need: Need,
        now: Timestamp,
    ) -> Result<(Caller, CallerRole), Problem> {
        let refused = |detail: String| Err(Problem::new(Kind::Unauthorized, detail));
        let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        let Some(given) = given else {
            return refused("send `Authorization: Bearer <token>`".to_owned());
        };
        // All are compared, and as hashes, so that time says nothing about where they differ.
        let hash = Sha256::digest(given);
        let tokens = self.known.load();
        let mut known = None;
        for token in tokens.iter() {
            if bool::from(token.hash.as_slice().ct_eq(&hash)) {
                known = Some(token);
            }
        }
        let Some(token) = known else { return refused("the token is not known".to_owned()) };
        if let Some(at) = token.expires.filter(|at| *at <= now) {
            return refused(format!("the token `{}` has expired at {at}", token.name));
        }
        let may = match need {
            Need::Token => true,
            Need::Role(role) => token.role == Role::Admin || token.role == role,
        };
        if may {
            return Ok((Caller(token.name.to_string()), CallerRole(token.role)));
        }
        let detail = format!("the token `{}` does not have the role that this needs", token.name);
        Err(Problem::new(Kind::Forbidden, detail))
    }
}

/// Whether the token is another one now.
fn refreshed(token: &Token, known: &Known) -> Result<bool, String> {
    token.secret.refresh().map_err(|error| Chain(&error).to_string())?;
    let secret = token.secret.current();
    match unfit_token(secret.expose()) {
        Some(problem) => Err(format!("it {problem}")),
        None => Ok(Known::of(token).hash != known.hash),
    }
}

impl Known {
    fn of(token: &Token) -> Self {
        let hash = Sha256::digest(token.secret.current().expose()).into();
        Self { name: token.name.clone(), role: token.role, hash, expires: token.expires }
    }
}

pub(crate) async fn require(
    State((api, need)): State<(Arc<Api>, Need)>,
    mut request: Request,
    next: Next,
) -> Response {
    match api.access.authorize(request.headers(), need, api.clock.now()) {
        Ok((caller, role)) => {
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(role);
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
    let need = Need::Role(Role::Read);
    match api.access.authorize(request.headers(), need, api.clock.now()) {
        Ok(_) => next.run(request).await,
        Err(problem) => problem.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt, path::Path};

    use holdfast_connectors::secrets::LiveSecret;
    use holdfast_model::{Secret, settings::SecretSpec};

    use super::*;

    fn token(name: &str, role: Role, spec: &SecretSpec, expires: Option<u64>) -> Token {
        Token {
            name: Name::new(name).unwrap(),
            role,
            secret: Arc::new(LiveSecret::resolve(spec).unwrap()),
            expires: expires.map(Timestamp),
        }
    }

    fn literal(text: &str) -> SecretSpec {
        SecretSpec::Literal(Secret::new(text))
    }

    fn status(access: &Access, header: &str, need: Need, now: u64) -> Option<u16> {
        let mut headers = HeaderMap::new();
        headers.insert(header::AUTHORIZATION, header.parse().unwrap());
        let refused = access.authorize(&headers, need, Timestamp(now)).err();
        refused.map(|problem| problem.into_response().status().as_u16())
    }

    #[test]
    fn a_token_may_do_what_its_role_says_and_admin_everything() {
        let access = Access::new(vec![
            token("in", Role::Ingest, &literal("in-secret"), None),
            token("out", Role::Read, &literal("out-secret"), None),
            token("soc", Role::Admin, &literal("soc-secret"), None),
        ]);
        let status = |header: &str, role| status(&access, header, Need::Role(role), 1);
        assert_eq!(status("Bearer in-secret", Role::Ingest), None);
        assert_eq!(status("bearer in-secret", Role::Ingest), None);
        assert_eq!(status("Bearer in-secret", Role::Read), Some(403));
        assert_eq!(status("Bearer out-secret", Role::Admin), Some(403));
        assert_eq!(status("Bearer soc-secret", Role::Ingest), None);
        assert_eq!(status("Bearer wrong", Role::Read), Some(401));
        assert_eq!(status("Basic in-secret", Role::Ingest), Some(401));
        let nobody = access.authorize(&HeaderMap::new(), Need::Token, Timestamp(1));
        assert!(nobody.is_err());
        for secret in ["in-secret", "out-secret", "soc-secret"] {
            assert_eq!(
                super::tests::status(&access, &format!("Bearer {secret}"), Need::Token, 1),
                None
            );
        }
    }

    #[test]
    fn while_a_token_is_exchanged_both_are_valid_until_the_old_one_expires() {
        let access = Access::new(vec![
            token("soc", Role::Read, &literal("old-secret"), Some(100)),
            token("soc", Role::Read, &literal("new-secret"), None),
        ]);
        let need = Need::Role(Role::Read);
        assert_eq!(status(&access, "Bearer old-secret", need, 99), None);
        assert_eq!(status(&access, "Bearer old-secret", need, 100), Some(401));
        assert_eq!(status(&access, "Bearer new-secret", need, 100), None);
    }

    fn write(path: &Path, text: &str) {
        fs::write(path, text).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    #[test]
    fn a_token_in_a_file_is_read_anew_and_an_unfit_one_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        write(&path, "the-first-token-0\n");
        let spec = SecretSpec::File(path.display().to_string());
        let other = token("ops", Role::Admin, &literal("the-admin-s-token-0"), None);
        let access = Access::new(vec![token("soc", Role::Read, &spec, None), other]);
        let need = Need::Role(Role::Read);
        let valid = |text: &str| {
            access.refresh();
            status(&access, &format!("Bearer {text}"), need, 1).is_none()
        };
        assert!(valid("the-first-token-0"));
        for unfit in ["short", "with space and more", "", "the-admin-s-token-0"] {
            write(&path, unfit);
            assert!(valid("the-first-token-0"), "{unfit:?}");
            assert!(!valid("short"));
        }
        fs::remove_file(&path).unwrap();
        assert!(valid("the-first-token-0"), "a missing file changes nothing");
        write(&path, "the-second-token-0");
        assert!(valid("the-second-token-0") && !valid("the-first-token-0"));
    }
}
