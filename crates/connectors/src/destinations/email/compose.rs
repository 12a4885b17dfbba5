//! The message: a pure function of the event, the same bytes on every try.
//!
//! Every line is ASCII and short: bodies are base64, and what a header cannot hold becomes encoded
//! words (RFC 2047). So neither a dot, nor a line's length, nor a server without 8BITMIME matters.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, UNIX_EPOCH},
};

use base64::prelude::{BASE64_STANDARD, Engine};
use holdfast_model::Timestamp;
use lettre::Address;
use sha2::{Digest, Sha256};

use super::Email;
use crate::message::{Message, one_line};

/// A subject that lists show whole; the title is in the text too.
const SUBJECT_CHARS_MAX: usize = 200;

/// RFC 2045 section 6.8.
const LINE_CHARS: usize = 76;

/// A line with an encoded word has at most 76 characters (RFC 2047 section 2); a name and the
/// word's own frame take up to 22 of them.
const WORD_BYTES: usize = 39;

/// Somebody with an address: `Name <name@host>` or the address alone.
#[derive(Clone, Debug)]
pub(super) struct Mailbox {
    name: String,
    pub(super) email: Address,
}

// === impl Mailbox ===

impl FromStr for Mailbox {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.contains(char::is_control) || text.contains(['"', '\\']) {
            return Err("it holds a control character, a quote or a backslash".to_owned());
        }
        let (name, email) = match text.trim().strip_suffix('>').and_then(|t| t.rsplit_once('<')) {
            Some((name, email)) => (name.trim(), email),
            None => ("", text),
        };
        let email: Address =
            email.trim().parse().map_err(|error| format!("it is no address: {error}"))?;
        // A server need not know SMTPUTF8.
        if !email.to_string().is_ascii() {
            return Err("an address has ASCII characters only".to_owned());
        }
        Ok(Self { name: name.to_owned(), email })
    }
}

/// As a header has it.
impl fmt::Display for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, email } = self;
        match name.is_ascii() && !name.contains("=?") {
            _ if name.is_empty() => write!(f, "{email}"),
            true => write!(f, "\"{name}\" <{email}>"),
            false => write!(f, "{}\r\n <{email}>", words(name)),
        }
    }
}

// === impl Email ===

impl Email {
    pub(super) fn compose(&self, message: &Message, at: Timestamp) -> String {
        let (text, html) = match self.template.render(message) {
            Some(text) => {
                let html = page(&format!("<pre>{}</pre>", escape(&text)));
                (text, html)
            }
            None => (message.plain(), html(message)),
        };
        let subject = format!("[Wazuh {}] {}", message.severity.as_str(), message.title);
        let to: Vec<_> = self.to.iter().map(ToString::to_string).collect();
        let boundary = format!("hf-{}", digest(&message.key));
        let fields = [
            ("From", self.from.to_string()),
            ("To", to.join(",\r\n ")),
            ("Subject", words(&one_line(&subject, SUBJECT_CHARS_MAX))),
            ("Date", date(at)),
            ("Message-ID", self.message_id(&message.key)),
            ("Auto-Submitted", "auto-generated".to_owned()),
            ("X-Holdfast-Key", token(&message.key)),
            ("MIME-Version", "1.0".to_owned()),
            ("Content-Type", format!("multipart/alternative; boundary=\"{boundary}\"")),
        ];
        let head: String =
            fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let (text, html) = (part("plain", &text), part("html", &html));
        format!("{head}\r\n--{boundary}\r\n{text}--{boundary}\r\n{html}--{boundary}--\r\n")
    }

    /// The same for every try; the domain is the sender's, because it must be somebody's.
    pub(super) fn message_id(&self, key: &str) -> String {
        format!("<{}@{}>", token(key), self.from.email.domain())
    }
}

/// One alternative. Base64 holds no dash, so no text can end a part.
fn part(kind: &str, text: &str) -> String {
    let encoded = BASE64_STANDARD.encode(text.replace("\r\n", "\n").replace('\n', "\r\n"));
    let mut part = format!(
        "Content-Type: text/{kind}; charset=utf-8\r\nContent-Transfer-Encoding: base64\r\n\r\n"
    );
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, more) = rest.split_at(rest.len().min(LINE_CHARS));
        part.push_str(line);
        part.push_str("\r\n");
        rest = more;
    }
    part
}

/// A text for a header: as it is, or as encoded words, each on its line.
fn words(text: &str) -> String {
    let is_plain = text.chars().all(|c| c == ' ' || c.is_ascii_graphic());
    if is_plain && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (word, more) = rest.split_at(rest.floor_char_boundary(WORD_BYTES));
        words.push(format!("=?utf-8?B?{}?=", BASE64_STANDARD.encode(word)));
        rest = more;
    }
    words.join("\r\n ")
}

/// RFC 5322 section 3.3. HTTP's form differs in the zone only.
fn date(at: Timestamp) -> String {
    let at = UNIX_EPOCH + Duration::from_millis(at.0);
    httpdate::fmt_http_date(at).replace("GMT", "+0000")
}

/// A key as RFC 5322's dot-atom, which a key of ours is; another becomes its hash.
fn token(key: &str) -> String {
    let atom = |part: &str| {
        let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
        !part.is_empty() && part.chars().all(fits)
    };
    if key.len() <= 200 && key.split('.').all(atom) { key.to_owned() } else { digest(key) }
}

fn digest(key: &str) -> String {
    let hash = Sha256::digest(key);
    hash.iter().take(20).map(|byte| format!("{byte:02x}")).collect()
}

fn html(message: &Message) -> String {
    let mut text = format!(
        "<h3>{}</h3><p>{}</p><table cellpadding=\"4\">",
        escape(&message.title),
        escape(&message.level_text())
    );
    for fact in &message.facts {
        let (name, value) = (escape(&fact.name), escape(&fact.value));
        text.push_str(&format!("<tr><td><b>{name}</b></td><td>{value}</td></tr>"));
    }
    text.push_str("</table>");
    if let Some(log) = &message.log {
        text.push_str(&format!("<pre>{}</pre>", escape(log)));
    }
    text.push_str(&format!("<p>Event {}</p>", escape(&message.id)));
    page(&text)
}

fn page(body: &str) -> String {
    format!("<!DOCTYPE html><html><body>{body}</body></html>")
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}
