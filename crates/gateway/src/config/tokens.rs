//! `server.tokens`: who may use the API, until when.
//!
//! A token is exchanged without a gap in either of two ways: two entries of one name are both
//! valid, so callers can move from one to the other; and a `{ file }` is read anew while the
//! gateway runs.

use std::sync::Arc;

use holdfast_connectors::secrets::LiveSecret;
use holdfast_model::{
    Chain, Name, Timestamp,
    settings::{Section, Setting},
};

use super::names;

/// Shortest token, in characters. A shorter one can be guessed.
const TOKEN_CHARS_MIN: usize = 16;
/// Tokens of one name: the old one and the new one.
const SAME_NAME_MAX: usize = 2;
/// All tokens together; each is compared at every request.
const TOKENS_MAX: usize = 256;

pub(super) const TOKENS: Setting = Setting::optional(
    "tokens",
    "[ { name = \"soc\", role = \"admin\", token = { env = \"HOLDFAST_TOKEN\" } } ]",
    "Who may use the API: a list of { name, role, token, expires }. `role` is \"ingest\" (send \
     alerts), \"read\" (see events, lanes and dead letters) or \"admin\" (everything); `token` is \
     a secret of at least 16 characters. Two entries may have one name and role, so that a token \
     can be exchanged while both are valid; one that is a { file } is read anew once a minute. \
     Without any, the first start writes a random admin token to `admin.token` in the state folder.",
);
const NAME: Setting = Setting::optional(
    "name",
    "\"soc\"",
    "Whose token it is, for logs and the audit: 1 to 64 characters of A-Z, a-z, 0-9, _ and -. Two \
     entries may have the same, with the same role.",
);
const ROLE: Setting = Setting::optional(
    "role",
    "\"admin\"",
    "What it may do: \"ingest\" (send alerts), \"read\" (see events, lanes and dead letters) or \
     \"admin\" (everything).",
);
const TOKEN: Setting = Setting::optional(
    "token",
    "{ env = \"HOLDFAST_TOKEN\" }",
    "The token, at least 16 visible ASCII characters. A secret; a { file } is read anew once a \
     minute.",
);
const EXPIRES: Setting = Setting::optional(
    "expires",
    "\"2026-12-31T00:00:00Z\"",
    "From when on it is refused, an RFC 3339 time. Without it never.",
);

pub(super) const TOKEN_SETTINGS: &[&Setting] = &[&NAME, &ROLE, &TOKEN, &EXPIRES];

/// Who a token belongs to and what it may do.
#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) name: Name,
    pub(crate) role: Role,
    pub(crate) secret: Arc<LiveSecret>,
    pub(crate) expires: Option<Timestamp>,
}

/// What a caller may do. `Admin` may do everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Ingest,
    Read,
    Admin,
}

impl Role {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ingest => "ingest",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

/// Why a text cannot be a token, if it cannot.
pub(crate) fn unfit(token: &str) -> Option<String> {
    // It has to fit into a header, RFC 6750 section 2.1.
    if !token.bytes().all(|b| b.is_ascii_graphic()) {
        return Some("holds more than visible ASCII characters".to_owned());
    }
    (token.len() < TOKEN_CHARS_MIN).then(|| format!("has fewer than {TOKEN_CHARS_MIN} characters"))
}

/// What a person should know of tokens that are, or will soon be, refused.
pub(crate) fn expiry_warnings(tokens: &[Token], now: Timestamp) -> Vec<String> {
    const SOON: std::time::Duration = std::time::Duration::from_secs(14 * 86_400);
    let warning = |token: &Token| {
        let (name, at) = (&token.name, token.expires?);
        if at <= now {
            return Some(format!("the token `{name}` has expired at {at} and is refused"));
        }
        (at.since(now) <= SOON).then(|| format!("the token `{name}` expires at {at}"))
    };
    tokens.iter().filter_map(warning).collect()
}

pub(super) fn read(section: &Section<'_>) -> Vec<Token> {
    let mut tokens: Vec<Token> = Vec::new();
    for table in section.tables(TOKENS.name) {
        let Some(token) = read_token(&table) else { continue };
        check_beside(&table, &tokens, &token);
        tokens.push(token);
    }
    if tokens.len() > TOKENS_MAX {
        section.fault(TOKENS.name, format!("there are more than {TOKENS_MAX}"));
    }
    tokens
}

fn check_beside(table: &Section<'_>, others: &[Token], token: &Token) {
    let name = &token.name;
    let same: Vec<&Token> = others.iter().filter(|other| other.name == *name).collect();
    if same.iter().any(|other| other.role != token.role) {
        table.fault(NAME.name, format!("there is a token `{name}` with another role already"));
    } else if same.len() >= SAME_NAME_MAX {
        table.fault(NAME.name, format!("there are {SAME_NAME_MAX} tokens `{name}` already"));
    }
    let twin = |other: &&Token| other.secret.current() == token.secret.current();
    if let Some(other) = others.iter().find(twin) {
        let problem = format!("`{}` and `{name}` have the same token", other.name);
        table.fault(TOKEN.name, problem);
    }
}

fn read_token(table: &Section<'_>) -> Option<Token> {
    let given = table.required_text(&NAME);
    let name = if given.is_empty() { None } else { names::check(table, NAME.name, given) };
    let role = match table.required_text(&ROLE) {
        "ingest" => Some(Role::Ingest),
        "read" => Some(Role::Read),
        "admin" => Some(Role::Admin),
        "" => None,
        other => {
            let allowed = "is not one of \"ingest\", \"read\", \"admin\"";
            table.fault(ROLE.name, format!("\"{other}\" {allowed}"));
            None
        }
    };
    let secret = read_secret(table, given);
    let expires = table.text(&EXPIRES).and_then(|text| {
        let time = Timestamp::parse(text);
        if time.is_none() {
            let expected = "is not an RFC 3339 time, as in \"2026-12-31T00:00:00Z\"";
            table.fault(EXPIRES.name, format!("\"{text}\" {expected}"));
        }
        time
    });
    table.finish();
    Some(Token { name: name?, role: role?, secret: Arc::new(secret?), expires })
}

/// The token of `name`, which stands for it in messages.
fn read_secret(table: &Section<'_>, name: &str) -> Option<LiveSecret> {
    if !table.has(TOKEN.name) {
        table.fault("", format!("`{}` is missing: {}", TOKEN.name, TOKEN.doc));
    }
    let spec = table.secret(&TOKEN)?;
    let secret = match LiveSecret::resolve(&spec) {
        Ok(secret) => secret,
        Err(error) => {
            table.fault(TOKEN.name, Chain(&error));
            return None;
        }
    };
    if let Some(problem) = unfit(secret.current().expose()) {
        table.fault(TOKEN.name, format!("the token of `{name}` {problem}"));
        return None;
    }
    Some(secret)
}
