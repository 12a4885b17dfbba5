//! A message in the operator's own words: minijinja, with limits.
//!
//! Promises: a template that does not compile is a fault of the configuration; one that errs with
//! an event does not cost the event: the usual text is sent with a note. What is missing is empty.
//!
//! The text is the operator's, mark-up included, so it is not escaped; `| e` is not HTML here.

use std::{
    io,
    sync::atomic::{AtomicU64, Ordering},
};

use holdfast_model::settings::{Section, Setting};
use minijinja::{Environment, UndefinedBehavior, context};

use super::{Message, clip};

pub(crate) const TEMPLATE: Setting = Setting::optional(
    "template",
    "\"{{ alert.rule.description }} on {{ alert.agent.name }}\"",
    "The text of the message as a minijinja template over `alert` (Wazuh's JSON), `event` (`id`, `kind`, `received_at`) and `message` (`title`, `severity`, `level`, `text`), `enrich` (what lookups said: by their names, a list of answers or a `problem`) and `parent` (what it is about: `id`, `remote_id`, `links` by destination, `alert`). What is missing is empty. At most 64 KiB come out. Default: a text that fits the kind of alert.",
);

/// Longest text that comes out, in bytes.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// How many steps a template may take, so that a loop cannot hold a lane.
const STEPS_MAX: u64 = 100_000;

const NAME: &str = "template";

/// One template, ready to use.
#[derive(Debug)]
pub(crate) struct Compiled(Environment<'static>);

/// Why no text came out.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TemplateError {
    #[error("{0}")]
    Failed(minijinja::Error),
    #[error("more than {limit} bytes came out")]
    TooLong { limit: usize, begun: String },
}

/// Takes so many bytes and refuses the rest.
struct Limited {
    bytes: Vec<u8>,
    limit: usize,
    is_over: bool,
}

/// The operator's template, if there is one.
#[derive(Debug)]
pub(crate) struct Template {
    compiled: Option<Compiled>,
    errors: AtomicU64,
}

// === impl Compiled ===

impl Compiled {
    /// Compiles the text of the key `name`, and reports why it cannot be.
    pub(crate) fn read(section: &Section<'_>, name: &str, source: &str) -> Option<Self> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Chainable);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(STEPS_MAX));
        match environment.add_template_owned(NAME, source.to_owned()) {
            Ok(()) => Some(Self(environment)),
            Err(error) => {
                let line = error.line().unwrap_or(1);
                let what = error.detail().map_or_else(|| error.kind().to_string(), str::to_owned);
                section.fault(name, format!("it does not compile: line {line} of it: {what}"));
                None
            }
        }
    }

    /// Fills it in; at most `bytes_max` come out.
    pub(crate) fn render(
        &self,
        values: minijinja::Value,
        bytes_max: usize,
    ) -> Result<String, TemplateError> {
        let mut out = Limited { bytes: Vec::new(), limit: bytes_max, is_over: false };
        let template = self.0.get_template(NAME).map_err(TemplateError::Failed)?;
        let rendered = template.render_captured_to(values, &mut out).map(drop);
        let text = String::from_utf8_lossy(&out.bytes).into_owned();
        match rendered {
            _ if out.is_over => Err(TemplateError::TooLong { limit: bytes_max, begun: text }),
            Ok(()) => Ok(text),
            Err(error) => Err(TemplateError::Failed(error)),
        }
    }
}

impl io::Write for Limited {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.limit - self.bytes.len();
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.is_over |= bytes.len() > room;
        if self.is_over { Err(io::ErrorKind::WriteZero.into()) } else { Ok(bytes.len()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

// === impl Template ===

impl Template {
    /// Reads the key and reports a template that does not compile.
    pub(crate) fn read(section: &Section<'_>) -> Option<Self> {
        if section.node(TEMPLATE.name).is_none() {
            return Some(Self::of(None));
        }
        let source = section.text(&TEMPLATE)?;
        Compiled::read(section, TEMPLATE.name, source).map(|compiled| Self::of(Some(compiled)))
    }

    fn of(compiled: Option<Compiled>) -> Self {
        Self { compiled, errors: AtomicU64::new(0) }
    }

    /// How often it has erred since the last call.
    pub(crate) fn take_errors(&self) -> u64 {
        self.errors.swap(0, Ordering::Relaxed)
    }

    /// The operator's text; `None` when there is no template, so that the usual message is sent.
    /// A template that errs gives the usual text with a note.
    pub(crate) fn render(&self, message: &Message) -> Option<String> {
        let compiled = self.compiled.as_ref()?;
        let values = context! {
            alert => minijinja::Value::from_serialize(&message.alert),
            event => context! { id => message.id, kind => message.kind.as_str(), received_at => message.at },
            message => values_of(message),
            enrich => enrich_of(message),
            parent => parent_of_message(message),
        };
        Some(match compiled.render(values, OUTPUT_BYTES_MAX) {
            Ok(text) => text,
            Err(TemplateError::TooLong { begun, .. }) => {
                clip(&begun, OUTPUT_BYTES_MAX / 4).into_owned()
            }
            Err(error) => {
                self.errors.fetch_add(1, Ordering::Relaxed);
                format!("{}\n\n[the template failed: {error}]", message.plain())
            }
        })
    }
}

/// What a template sees as `message`.
pub(crate) fn values_of(message: &Message) -> minijinja::Value {
    context! {
        title => message.title, severity => message.severity.as_str(),
        level => message.level, text => message.plain(),
    }
}

/// What a template sees as `enrich`.
pub(crate) fn enrich_of(message: &Message) -> minijinja::Value {
    minijinja::Value::from_serialize(&message.enrich)
}

/// What a template sees as `parent`.
pub(crate) fn parent_of_message(message: &Message) -> minijinja::Value {
    minijinja::Value::from_serialize(&message.parent)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use holdfast_model::settings::{Node, Value};

    use super::*;
    use crate::testing::alert;

    fn render(template: &str, body: &str) -> Result<String, String> {
        let entries =
            vec![(TEMPLATE.name.to_owned(), Node { line: 3, value: Value::Text(template.into()) })];
        let faults = RefCell::default();
        let section = Section::new("destinations.x", 1, &entries, &faults);
        let template = Template::read(&section);
        match template {
            Some(template) => {
                Ok(template.render(&Message::of(&alert(1, body.to_owned()))).unwrap())
            }
            None => Err(faults.borrow()[0].problem.clone()),
        }
    }

    #[test]
    fn what_is_missing_is_empty_at_any_depth() {
        let text = render(
            "[{{ alert.rule.id }}|{{ alert.no.such.thing }}|{{ message.severity }}]",
            r#"{"rule":{"id":"7"}}"#,
        );
        assert_eq!(text.unwrap(), "[7||low]");
    }

    #[test]
    fn a_template_sees_what_the_event_is_about() {
        let source = "{{ parent.id }} {{ parent.remote_id }} {{ parent.links.jira }} \
                      {{ parent.alert.rule.id }} {{ parent.links.x }}";
        let entries =
            [(TEMPLATE.name.to_owned(), Node { line: 3, value: Value::Text(source.into()) })];
        let faults = RefCell::default();
        let template = Template::read(&Section::new("destinations.x", 1, &entries, &faults));
        let template = template.unwrap();
        let mut member = alert(7, "{}".to_owned());
        let alone = template.render(&Message::of(&member)).unwrap();
        assert_eq!(alone.trim(), "");
        let about = alert(5, r#"{"rule":{"id":"87105"}}"#.to_owned());
        let mut parent = holdfast_model::Parent::unknown(about.id, about.key);
        parent.remote_id = Some("P7".into());
        parent.event = Some(about.event);
        parent.links = vec![(holdfast_model::Name::new("jira").unwrap(), "SEC-1".into())];
        member.parent = Some(std::sync::Arc::new(parent));
        let text = template.render(&Message::of(&member)).unwrap();
        assert_eq!(text, "abcdefghij-5 P7 SEC-1 87105 ");
    }

    #[test]
    fn a_template_sees_what_lookups_said() {
        let source =
            "{{ enrich.vt[0].virustotal.positives }} {{ enrich.misp.problem }} {{ enrich.x }}";
        let entries =
            [(TEMPLATE.name.to_owned(), Node { line: 3, value: Value::Text(source.into()) })];
        let faults = RefCell::default();
        let template = Template::read(&Section::new("destinations.x", 1, &entries, &faults));
        let mut member = alert(1, "{}".to_owned());
        let of = |name, answers| holdfast_model::Enrichment {
            lookup: holdfast_model::Name::new(name).unwrap(),
            answers,
        };
        let said = bytes::Bytes::from_static(br#"{"virustotal":{"positives":3}}"#);
        member.enrichments = vec![of("vt", Ok(vec![said])), of("misp", Err("late".into()))];
        let text = template.unwrap().render(&Message::of(&member));
        assert_eq!(text.unwrap(), "3 late ");
    }

    #[test]
    fn a_template_that_does_not_compile_is_a_fault() {
        let problem = render("{{ alert.", "{}").unwrap_err();
        assert!(problem.starts_with("it does not compile: "), "{problem}");
    }

    #[test]
    fn a_template_that_errs_or_never_ends_still_sends_the_usual_text() {
        for template in [
            "{{ 1 // 0 }}",
            "{% for a in range(9999) %}{% for b in range(9999) %}x{% endfor %}{% endfor %}",
        ] {
            let text = render(template, r#"{"rule":{"description":"broken door"}}"#).unwrap();
            assert!(
                text.starts_with("broken door\n") && text.contains("[the template failed: "),
                "{text}"
            );
        }
    }
}
