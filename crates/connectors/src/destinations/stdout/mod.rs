//! The terminal, one event a line, for a first look and for containers whose output is collected.
//!
//! Promises: nothing an alert holds can move the cursor, colour, hide or reorder what the
//! terminal shows. Alert text is written by whoever is being watched, attackers included.

use std::{
    fmt::Write as _,
    io::{self, Write},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use holdfast_model::{
    DeliveryError, Destination, Kind as EventKind, Member, Reason, Receipt, Shipment,
    delivery::Delivered,
    settings::{Section, Setting},
};
use serde::Deserialize;

use super::{Context, Kind};
use crate::{
    body::{self, Shape},
    serial::Serial,
};

pub(super) const KIND: Kind = Kind {
    name: "stdout",
    summary: "Prints alerts to standard output, for a first look.",
    example: r#"
format = "line"
"#,
    settings: &[&FORMAT],
    batches: true,
    http: false,
    build,
};

const FORMAT: Setting = Setting::new(
    "format",
    "\"line\"",
    "\"line\": time, level, rule, agent, description and event id, for people. \"json\": one JSON \
     object a line, with the event's id and seq around the alert.",
);

/// Longest description in a line, in characters. Wazuh's own are shorter.
const DESCRIPTION_CHARS_MAX: usize = 100;

/// Longest rule id and agent name in a line, in characters.
const WORD_CHARS_MAX: usize = 24;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Line,
    Json,
}

struct Stdout {
    format: Format,
    timeout: Duration,
    out: Serial<Box<dyn Write + Send>>,
}

fn build(section: &Section<'_>, context: &Context) -> Option<Arc<dyn Destination>> {
    let format = match section.word(&FORMAT, &["line", "json"]) {
        "json" => Format::Json,
        _ => Format::Line,
    };
    Some(Arc::new(Stdout::new(format, context.timeout, io::stdout())))
}

#[async_trait]
impl Destination for Stdout {
    async fn deliver(&self, shipment: &Shipment) -> Result<Delivered, DeliveryError> {
        let text = match self.format {
            Format::Line => shipment.members.iter().map(line).collect(),
            Format::Json => json(&shipment.members)?,
        };
        let print = move |out: &mut Box<dyn Write + Send>| {
            // One write, so that lines of two lanes do not mix.
            out.write_all(text.as_bytes())
                .and_then(|()| out.flush())
                .map_err(|error| DeliveryError::caused_by(Reason::ServerFault, error))
        };
        self.out.run(self.timeout, print).await?;
        Ok(Delivered::All(Receipt::default()))
    }
}

// === impl Stdout ===

impl Stdout {
    fn new(format: Format, timeout: Duration, out: impl Write + Send + 'static) -> Self {
        Self { format, timeout, out: Serial::new(Box::new(out)) }
    }
}

impl std::fmt::Debug for Stdout {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stdout").field("format", &self.format).finish_non_exhaustive()
    }
}

/// `delivered  06:11:28  L10  5763    web-01        sshd: brute force  abcdefghij-42`
fn line(member: &Member) -> String {
    let event = &*member.event;
    let moment = event.received_at.to_string();
    // The date is the same on every line of a first look; the id leads to the whole event.
    let time = moment.get(11..19).unwrap_or(&moment);
    let facets = event.facets();
    let is_alert = event.kind == EventKind::Alert;
    let level = facets.level.map_or("L-".into(), |level| format!("L{level}"));
    let rule =
        if is_alert { facets.rule_id.as_deref().unwrap_or("-") } else { event.kind.as_str() };
    let agent = facets.agent_name.as_deref().unwrap_or(&event.source);
    let text = description(&event.body);
    format!(
        "delivered  {time}  {level:<3}  {:<6}  {:<12}  {}  {}\n",
        plain(rule, WORD_CHARS_MAX),
        plain(agent, WORD_CHARS_MAX),
        plain(&text, DESCRIPTION_CHARS_MAX),
        member.id,
    )
}

/// What the alert says about itself, or else its beginning.
fn description(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct View {
        rule: RuleView,
    }
    #[derive(Deserialize)]
    struct RuleView {
        description: String,
    }
    let body = String::from_utf8_lossy(body);
    match serde_json::from_str::<View>(&body) {
        Ok(view) => view.rule.description,
        // One character more than fits, so that the cut shows.
        Err(_) => body.chars().take(DESCRIPTION_CHARS_MAX + 1).collect(),
    }
}

/// Text that is safe to print and not longer than `chars_max` characters of the original.
fn plain(text: &str, chars_max: usize) -> String {
    let mut out = String::new();
    for (index, c) in text.chars().enumerate() {
        if index == chars_max {
            out.push('…');
            break;
        }
        if acts_on_a_terminal(c) { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// The envelopes. Valid JSON has no raw control character below U+0020, but DEL, C1 (U+009B is
/// an escape sequence's beginning) and the like may stand in its strings, and only there.
fn json(members: &[Member]) -> Result<String, DeliveryError> {
    let lines = body::lines(members, Shape::Envelope)?;
    let text = String::from_utf8(lines)
        .map_err(|error| DeliveryError::caused_by(Reason::Render, error))?;
    if text.is_ascii() && !text.contains('\u{7f}') {
        return Ok(text);
    }
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\n' || !acts_on_a_terminal(c) {
            out.push(c);
        } else {
            // All of them are in the first plane, so one escape is enough (RFC 8259 section 7).
            write!(out, "\\u{:04x}", u32::from(c))
                .map_err(|error| DeliveryError::caused_by(Reason::Render, error))?;
        }
    }
    Ok(out)
}

/// Control characters, and those that reorder, hide or break a line (Unicode TR 36 section 2.10;
/// UAX 9's explicit formatting characters).
fn acts_on_a_terminal(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        )
}

#[cfg(test)]
mod tests;
