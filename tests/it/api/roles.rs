//! Who may do what: a table of every route, against the running gateway and its own document.

use std::collections::BTreeSet;

use super::people::{self, Who};
use crate::support::{Config, Gateway, http::Call, relay};

use Who::{Admin, Ingest, Nobody, Read};

const EVERYBODY: &[Who] = &[Nobody, Ingest, Read, Admin];
const ANY_TOKEN: &[Who] = &[Ingest, Read, Admin];
const INGESTERS: &[Who] = &[Ingest, Admin];
const READERS: &[Who] = &[Read, Admin];
const ADMINS: &[Who] = &[Admin];

/// Every route, and who may use it where the listener is on this machine.
#[rustfmt::skip]
const ROUTES: &[(&str, &str, &[Who])] = &[
    ("GET",    "/livez",                              EVERYBODY),
    ("GET",    "/readyz",                             EVERYBODY),
    ("GET",    "/metrics",                            EVERYBODY),
    ("GET",    "/health/destinations",                EVERYBODY),
    ("GET",    "/openapi.json",                       ANY_TOKEN),
    ("POST",   "/v1/alerts",                          INGESTERS),
    ("GET",    "/v1/alerts",                          READERS),
    ("GET",    "/v1/alerts/stream",                   READERS),
    ("GET",    "/v1/alerts/export",                   READERS),
    ("GET",    "/v1/alerts/{id}",                     READERS),
    ("GET",    "/v1/consumers",                       READERS),
    ("PUT",    "/v1/consumers/{name}",                READERS),
    ("GET",    "/v1/consumers/{name}",                READERS),
    ("GET",    "/v1/consumers/{name}/next",           READERS),
    ("POST",   "/v1/consumers/{name}/ack",            READERS),
    ("POST",   "/v1/consumers/{name}/nack",           READERS),
    ("DELETE", "/v1/consumers/{name}",                READERS),
    ("POST",   "/v1/consumers/{name}/seek",           READERS),
    ("GET",    "/v1/destinations",                    READERS),
    ("GET",    "/v1/destinations/{name}",             READERS),
    ("POST",   "/v1/destinations/{name}/pause",       ADMINS),
    ("POST",   "/v1/destinations/{name}/resume",      ADMINS),
    ("POST",   "/v1/destinations/{name}/retry-now",   ADMINS),
    ("POST",   "/v1/destinations/{name}/test",        ADMINS),
    ("POST",   "/v1/destinations/{name}/purge",       ADMINS),
    ("GET",    "/v1/dead-letters",                    READERS),
    ("POST",   "/v1/dead-letters/purge",              ADMINS),
    ("GET",    "/v1/dead-letters/{id}",               READERS),
    ("DELETE", "/v1/dead-letters/{id}",               ADMINS),
    ("POST",   "/v1/dead-letters/{id}/replay",        ADMINS),
    ("GET",    "/v1/replays",                         ADMINS),
    ("POST",   "/v1/replays",                         ADMINS),
    ("GET",    "/v1/replays/{id}",                    ADMINS),
    ("POST",   "/v1/replays/{id}/{action}",           ADMINS),
    ("GET",    "/v1/audit",                           ADMINS),
    ("POST",   "/v1/reload",                          ADMINS),
    ("POST",   "/v1/console/links",                   ADMINS),
];

/// Callbacks are signed and have no token.
const SIGNED: (&str, &str) = ("POST", "/v1/callbacks/{destination}");
/// The console wants a session, which no token is.
const SESSION: (&str, &str) = ("GET", "/");

#[test]
fn nobody_has_a_right_that_the_table_does_not_give() {
    let mut gateway = Gateway::start(people::with_roles(Config::new()));
    // It ends what has no end.
    let port = relay::start(gateway.port);
    for (method, route, allowed) in ROUTES {
        let path =
            route.replace("{name}", "nobody").replace("{id}", "1").replace("{action}", "pause");
        for who in people::ALL {
            let mut call = Call::new(port, method, &path);
            if let Some(token) = who.token() {
                call = call.bearer(token);
            }
            if ["POST", "PUT"].contains(method) {
                call = call.body("application/json", "{}");
            }
            let answer = call.send().unwrap();
            let refused = matches!(answer.status, 401 | 403);
            assert_eq!(!refused, allowed.contains(&who), "{who:?} {method} {route}: {answer:?}");
            if refused {
                let expected = if who == Nobody { 401 } else { 403 };
                assert_eq!(answer.status, expected, "{who:?} {method} {route}: {answer:?}");
            }
            assert!(answer.status < 500, "{who:?} {method} {route}: {answer:?}");
        }
    }
    gateway.finish();
}

#[test]
fn the_console_is_closed_to_who_has_no_session_whatever_the_token() {
    let mut gateway = Gateway::start(people::with_roles(Config::new()));
    let (method, path) = SESSION;
    for who in people::ALL {
        let mut call = Call::new(gateway.port, method, path);
        if let Some(token) = who.token() {
            call = call.bearer(token);
        }
        assert_eq!(call.send().unwrap().status, 401, "{who:?}");
    }
    gateway.finish();
}

#[test]
fn the_table_has_every_route_of_the_document_and_their_roles() {
    let mut gateway = Gateway::start(Config::new());
    let document = gateway.get("/openapi.json").json();
    let mut described = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let security = operation["security"].as_array().unwrap();
            let may = |who: Who| {
                let role = format!("{who:?}").to_ascii_lowercase();
                security.iter().any(|one| match one["token"].as_array() {
                    None => true,
                    Some(_) if who == Nobody => false,
                    Some(roles) => {
                        roles.is_empty() || who == Admin || roles.iter().any(|one| *one == role)
                    }
                })
            };
            let allowed: Vec<Who> = people::ALL.into_iter().filter(|who| may(*who)).collect();
            described.insert((method.to_ascii_uppercase(), path.clone(), format!("{allowed:?}")));
        }
    }
    let row = |method: &str, path: &str, allowed: &[Who]| {
        (method.to_owned(), path.to_owned(), format!("{allowed:?}"))
    };
    let mut table: BTreeSet<_> =
        ROUTES.iter().map(|(method, path, allowed)| row(method, path, allowed)).collect();
    table.insert(row(SIGNED.0, SIGNED.1, EVERYBODY));
    table.insert(row(SESSION.0, SESSION.1, EVERYBODY));
    let missing: Vec<_> = described.symmetric_difference(&table).collect();
    assert!(missing.is_empty(), "the document and the table differ: {missing:#?}");
    gateway.finish();
}
