//! What a person is told in the log when something is lost, or may be.

use std::{
    fmt::{self, Write as _},
    fs,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::sync::Notify;
use tracing::{
    Event, Metadata, Subscriber,
    field::{Field, Visit},
    span,
};

use super::{Options, from_beginning, wazuh::Wazuh};
use crate::sources::alerts_file::{
    batch::Record,
    follow::{Follower, Step},
    position::Position,
};

#[derive(Clone, Default)]
struct Journal(Arc<Mutex<String>>);

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Journal {
    fn enabled(&self, _: &Metadata<'_>) -> bool {
        true
    }

    fn new_span(&self, _: &span::Attributes<'_>) -> span::Id {
        span::Id::from_u64(1)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = self.0.lock().unwrap();
        write!(text, "\n{}", event.metadata().level()).unwrap();
        event.record(&mut Line(&mut text));
    }

    fn enter(&self, _: &span::Id) {}

    fn exit(&self, _: &span::Id) {}
}

/// Goes on from a position until there is no more. Answers the log, the number of alerts taken,
/// and the position then.
fn follow(wazuh: &Wazuh, position: Option<Position>) -> (String, usize, Position) {
    let options = Options { damaged_wait: Duration::ZERO, ..from_beginning(&wazuh.path()) };
    let wake = Arc::new(Notify::new());
    let mut follower = Follower::new(Arc::new(options), position, wake);
    let (journal, mut taken, mut last) = (Journal::default(), 0, None);
    tracing::subscriber::with_default(journal.clone(), || {
        loop {
            match follower.step() {
                Step::Batch(batch) => {
                    let alerts = |(record, _): &&(Record, u64)| matches!(record, Record::Alert(_));
                    taken += batch.records.iter().filter(alerts).count();
                    last = Some(batch.position);
                }
                Step::Again => {}
                Step::Idle => break,
                Step::Trouble(trouble) => panic!("{trouble}"),
            }
        }
    });
    let text = journal.0.lock().unwrap().clone();
    (text, taken, last.expect("every start stores a position"))
}

#[test]
fn truncation_in_place_is_a_warning_that_names_the_file() {
    let mut wazuh = Wazuh::new();
    wazuh.write_alerts(3);
    let (text, taken, position) = follow(&wazuh, None);
    assert!(taken == 3 && !text.contains("WARN") && !text.contains("ERROR"), "{text}");
    wazuh.truncate(3);
    wazuh.write_alerts(9);
    let (text, taken, _) = follow(&wazuh, Some(position));
    assert_eq!(taken, 9);
    assert!(text.contains("WARN") && text.contains("truncated in place"), "{text}");
    assert!(text.contains("alerts.json offset="), "{text}");
}

#[test]
fn a_deleted_file_is_an_error_that_names_place_and_part() {
    let mut wazuh = Wazuh::new();
    wazuh.write_alerts(3);
    let (_, _, position) = follow(&wazuh, None);
    wazuh.midnight(1);
    wazuh.write_alerts(2);
    wazuh.midnight(1);
    wazuh.write_alerts(2);
    let part = position.part.unwrap();
    fs::remove_file(wazuh.plain(part)).unwrap();
    let (text, taken, _) = follow(&wazuh, Some(position));
    assert_eq!(taken, 4);
    assert!(text.contains("ERROR") && text.contains("is lost"), "{text}");
    assert!(text.contains(&part.to_string()), "{text}");
}

#[test]
fn a_damaged_part_is_an_error_and_what_precedes_the_damage_is_taken() {
    for (keep, expected) in [(0.9, 2000), (0.0, 1)] {
        let mut wazuh = Wazuh::new();
        let (_, _, position) = follow(&wazuh, None);
        wazuh.midnight(1);
        let part = wazuh.part();
        wazuh.write_alerts(4000);
        wazuh.midnight(1);
        wazuh.compress_old();
        wazuh.write_alerts(1);
        let packed = format!("{}.gz", wazuh.plain(part).display());
        let file = fs::File::options().write(true).open(&packed).unwrap();
        let len = file.metadata().unwrap().len() as f64 * keep;
        file.set_len(len as u64).unwrap();
        let (text, taken, _) = follow(&wazuh, Some(position));
        assert!((expected..4000).contains(&taken), "{taken} {text}");
        assert!(text.contains("ERROR") && text.contains("is damaged"), "{text}");
        assert!(text.contains(&packed), "{text}");
    }
}

#[test]
fn an_ordinary_rotation_is_no_reason_to_warn() {
    let mut wazuh = Wazuh::new();
    wazuh.write_alerts(3);
    let (_, _, position) = follow(&wazuh, None);
    wazuh.write_alerts(1);
    wazuh.midnight(1);
    wazuh.write_alerts(1);
    wazuh.size_limit();
    wazuh.compress_old();
    let (text, taken, _) = follow(&wazuh, Some(position));
    assert_eq!(taken, 2);
    assert!(!text.contains("WARN") && !text.contains("ERROR"), "{text}");
}
