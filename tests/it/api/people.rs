//! One token of each role.

use crate::support::{Config, config::TOKEN};

/// Who asks, and what is in front of its requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Who {
    Nobody,
    Ingest,
    Read,
    Admin,
}

pub(crate) const ALL: [Who; 4] = [Who::Nobody, Who::Ingest, Who::Read, Who::Admin];
const INGEST: &str = "it-ingest-token-0123456789abcdef";
const READ: &str = "it-read-token-0123456789abcdef";

impl Who {
    pub(crate) fn token(self) -> Option<&'static str> {
        match self {
            Self::Nobody => None,
            Self::Ingest => Some(INGEST),
            Self::Read => Some(READ),
            Self::Admin => Some(TOKEN),
        }
    }
}

/// With a token of each role.
pub(crate) fn with_roles(config: Config) -> Config {
    let token = |role: &str, token: &str| {
        format!("{{ name = \"{role}\", role = \"{role}\", token = \"{token}\" }}, ")
    };
    let tokens = [("ingest", INGEST), ("read", READ), ("admin", TOKEN)]
        .map(|(role, text)| token(role, text));
    config.server(&format!("tokens = [{}]", tokens.concat()))
}
