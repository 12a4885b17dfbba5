//! The message: a pure function of the event, the same bytes on every try.

use std::time::{Duration, UNIX_EPOCH};

use holdfast_model::Timestamp;
use lettre::{
    Message as Mail,
    error::Error,
    message::{
        MultiPart, SinglePart,
        header::{HeaderName, HeaderValue},
    },
};
use sha2::{Digest, Sha256};

use super::Email;
use crate::message::{Message, one_line};

/// A subject that lists show whole; the title is in the text too.
const SUBJECT_CHARS_MAX: usize = 200;

// === impl Email ===

impl Email {
    pub(super) fn compose(&self, message: &Message, at: Timestamp) -> Result<Mail, Error> {
        let (text, html) = match self.template.render(message) {
            Some(text) => {
                let html = page(&format!("<pre>{}</pre>", escape(&text)));
                (text, html)
            }
            None => (message.plain(), html(message)),
        };
        let subject = format!("[Wazuh {}] {}", message.severity.as_str(), message.title);
        let mut mail = Mail::builder()
            .from(self.from.clone())
            .subject(one_line(&subject, SUBJECT_CHARS_MAX))
            .date(UNIX_EPOCH + Duration::from_millis(at.0))
            .message_id(Some(self.message_id(&message.key)))
            .raw_header(header("Auto-Submitted", "auto-generated".to_owned()))
            .raw_header(header("X-Holdfast-Key", token(&message.key)));
        for mailbox in &self.to {
            mail = mail.to(mailbox.clone());
        }
        // What is random in it by default would differ from try to try.
        let boundary = format!("hf-{}", digest(&message.key));
        let parts = MultiPart::alternative().boundary(boundary);
        mail.multipart(parts.singlepart(SinglePart::plain(text)).singlepart(SinglePart::html(html)))
    }

    /// The same for every try; the domain is the sender's, because it must be somebody's.
    pub(super) fn message_id(&self, key: &str) -> String {
        format!("<{}@{}>", token(key), self.from.email.domain())
    }
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

fn header(name: &'static str, value: String) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value)
}

fn html(message: &Message) -> String {
    let mut text = format!(
        "<h3>{}</h3><p>{}</p><table cellpadding=\"4\">",
        escape(&message.title),
        escape(&message.level_text())
    );
    for fact in &message.facts {
        let (name, value) = (escape(fact.name), escape(&fact.value));
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
