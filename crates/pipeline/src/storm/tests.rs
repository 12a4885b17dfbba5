use holdfast_model::{LogId, NewEvent};

use super::*;

fn settings(rest: Rest) -> Option<StormSettings> {
    let by = ["rule.id", "agent.id"].map(|path| Path::new(path).unwrap()).into();
    Some(StormSettings { rest, by, window: Duration::from_secs(60) })
}

fn event(seq: Seq, rule: &str, second: u64) -> Event {
    let body = format!(
        r#"{{"rule":{{"id":"{rule}","level":5,"description":"sshd: failed"}},"agent":{{"id":"001","name":"web"}}}}"#
    );
    Event::new(seq, NewEvent::alert(body), "a".into(), Timestamp(second * 1_000))
}

#[test]
fn the_first_passes_the_rest_of_its_window_is_held_back_and_the_next_begins_anew() {
    let mut storm = Storm::new(settings(Rest::Summary), Vec::new());
    assert_eq!(storm.judge(&event(1, "5710", 0)), Judgement::Passes);
    assert_eq!(storm.judge(&event(2, "5710", 1)), Judgement::Suppressed(1));
    assert_eq!(storm.judge(&event(3, "5711", 2)), Judgement::Passes, "another rule");
    assert_eq!(storm.judge(&event(4, "5710", 59)), Judgement::Suppressed(1));
    assert_eq!(storm.judge(&event(5, "5710", 60)), Judgement::Passes);
    let ended = storm.take_ended().unwrap();
    assert_eq!(
        (ended.first, ended.suppressed, ended.first_suppressed, ended.last_suppressed),
        (1, 2, 2, 4)
    );
    assert_eq!(storm.take_ended(), None);
    storm.end_due(Timestamp(1_000_000));
    assert_eq!(storm.take_ended(), None, "a window that held nothing back leaves nothing");
    assert_eq!(storm.next_end(), None);
}

#[test]
fn an_event_that_is_read_again_after_a_crash_passes_again() {
    let mut storm = Storm::new(settings(Rest::Summary), Vec::new());
    storm.judge(&event(7, "1", 0));
    storm.judge(&event(8, "1", 1));
    let stored = storm.window_of(7).unwrap().clone();
    let mut storm = Storm::new(settings(Rest::Summary), vec![stored]);
    assert_eq!(storm.judge(&event(7, "1", 0)), Judgement::Passes);
    assert_eq!(storm.judge(&event(9, "1", 2)), Judgement::Suppressed(7));
    assert_eq!(storm.window_of(7).unwrap().suppressed, 2);
}

#[test]
fn a_summary_is_an_alert_that_says_how_many_and_which() {
    let mut storm = Storm::new(settings(Rest::Summary), Vec::new());
    for seq in 1..=100 {
        storm.judge(&event(seq, "5710", seq / 10));
    }
    storm.end_due(Timestamp(60_000));
    let window = storm.take_ended().unwrap();
    let log = LogId::new("abcdefghij").unwrap();
    let summary = summary(&window, &log);
    assert_eq!((summary.seq, &*summary.source), (2, SUMMARY_SOURCE));
    let body: Value = serde_json::from_slice(&summary.body).unwrap();
    assert_eq!(body["rule"]["description"], "99 more like this within 1m: sshd: failed");
    assert_eq!(body["rule"]["level"], 5);
    let said = &body["holdfast"]["summary"];
    assert_eq!(
        (said["count"].as_u64(), said["samples"].as_array().map(Vec::len)),
        (Some(99), Some(20))
    );
    assert_eq!(said["first_id"], "abcdefghij-2");
    assert_eq!(said["last_id"], "abcdefghij-100");
    assert_eq!(said["by"], "rule.id=5710, agent.id=001");
}

#[test]
fn there_are_so_many_windows_at_most_and_then_events_go_singly() {
    let mut storm = Storm::new(settings(Rest::Summary), Vec::new());
    for seq in 0..WINDOWS_MAX as Seq {
        storm.judge(&event(seq + 1, &seq.to_string(), 0));
    }
    let more = WINDOWS_MAX as Seq + 1;
    assert_eq!(storm.judge(&event(more, "new", 1)), Judgement::Passes);
    assert_eq!(storm.judge(&event(more + 1, "new", 1)), Judgement::Passes, "singly");
    assert_eq!(storm.judge(&event(more + 2, "7", 1)), Judgement::Suppressed(8));
    assert_eq!(storm.judge(&event(more + 3, "new", 61)), Judgement::Passes);
    assert_eq!(storm.judge(&event(more + 4, "new", 62)), Judgement::Suppressed(more + 3));
}

#[test]
fn windows_of_a_lane_that_has_no_storm_control_any_more_end_at_once() {
    let mut storm = Storm::new(settings(Rest::Nothing), Vec::new());
    storm.judge(&event(1, "1", 0));
    storm.judge(&event(2, "1", 0));
    let stored = storm.window_of(1).unwrap().clone();
    let mut storm = Storm::new(None, vec![stored.clone()]);
    assert_eq!(storm.judge(&event(3, "1", 0)), Judgement::Passes);
    assert_eq!(storm.take_ended(), Some(stored));
}

#[test]
fn an_alert_of_any_shape_makes_a_window_that_fits_into_its_record() {
    let mut storm = Storm::new(settings(Rest::Summary), Vec::new());
    let long = "ä<x".repeat(5_000);
    for seq in 1..=30 {
        let body = format!(
            r#"{{"rule":{{"id":"1","description":"{long}","groups":["{long}","{long}"]}},"agent":{{"name":"{long}"}},"location":"{long}"}}"#
        );
        storm.judge(&Event::new(seq, NewEvent::alert(body), "a".into(), Timestamp(0)));
    }
    let window = storm.window_of(1).unwrap();
    let bytes: usize = window.samples.iter().map(|sample| sample.text.len() + 24).sum();
    assert!(window.alert.len() + bytes + window.by.len() < 24 * 1024);
}
