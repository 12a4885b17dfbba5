use std::cell::RefCell;

use holdfast_model::{
    EventId, LogId, NewEvent, Timestamp,
    settings::{Node, Value},
};

use super::*;

fn filter(entries: &[(&str, Value)]) -> Filter {
    let entries: Vec<_> = entries
        .iter()
        .map(|(key, value)| ((*key).to_owned(), Node { line: 1, value: value.clone() }))
        .collect();
    let faults = RefCell::default();
    let filter = Filter::read(&Section::new("when", 1, &entries, &faults));
    assert_eq!(*faults.borrow(), []);
    filter
}

fn texts(items: &[&str]) -> Value {
    Value::List(
        items.iter().map(|text| Node { line: 1, value: Value::Text((*text).into()) }).collect(),
    )
}

fn event(body: &str) -> Event {
    Event::new(1, NewEvent::alert(body.to_owned()), "wazuh".into(), Timestamp(0))
}

const SSHD: &str = r#"{"rule":{"level":10,"id":"5763","groups":["sshd","authentication_failures"],
    "mitre":{"id":["T1110.001"]},"pci_dss":["10.2"]},"decoder":{"name":"sshd"},"data":{"integration":"virustotal"},
    "agent":{"id":"001","name":"web-01","labels":{"group":"web, dmz"}},"location":"/var/log/auth.log"}"#;

#[test]
fn each_condition_and_its_twin() {
    #[rustfmt::skip]
    let table: &[(&str, Value, bool)] = &[
        ("level",        Value::Integer(10),                true),
        ("level",        Value::Integer(11),                false),
        ("level_max",    Value::Integer(9),                 false),
        ("rule_ids",     texts(&["1-9", "5700-5799"]),      true),
        ("rule_ids",     texts(&["5764"]),                  false),
        ("not_rule_ids", texts(&["5763"]),                  false),
        ("not_rule_ids", texts(&["1"]),                     true),
        ("groups",       texts(&["sshd", "x"]),             true),
        ("groups",       texts(&["ssh"]),                   false),
        ("not_groups",   texts(&["sshd"]),                  false),
        ("group_pattern", Value::Text("^SSH".into()),       true),
        ("group_pattern", Value::Text("^ssh$|pam".into()),  false),
        ("group_pattern", Value::Text("!sshd".into()),      true),
        ("group_line",   Value::Text("sshd,auth".into()),   true),
        ("group_line",   Value::Text("^auth".into()),       false),
        ("group_line",   Value::Text("pci_dss_10.2,$".into()), true),
        ("group_line",   Value::Text("!sshd".into()),       false),
        ("agents",       texts(&["001"]),                   true),
        ("agents",       texts(&["web-*"]),                 true),
        ("agents",       texts(&["*-01"]),                  true),
        ("agents",       texts(&["*b*0*"]),                 true),
        ("agents",       texts(&["db-*"]),                  false),
        ("not_agents",   texts(&["web-*"]),                 false),
        ("location",     Value::Text("^/var/log".into()),   true),
        ("location",     Value::Text("!auth".into()),       false),
        ("not_location", Value::Text("auth".into()),        false),
        ("kind",         texts(&["lookup"]),                false),
        ("decoders",     texts(&["sshd"]),                  true),
        ("not_decoders", texts(&["sshd"]),                  false),
        ("mitre",        texts(&["T1110"]),                 true),
        ("mitre",        texts(&["T1110.001"]),             true),
        ("mitre",        texts(&["T111"]),                  false),
        ("not_mitre",    texts(&["T1110"]),                 false),
        ("agent_groups", texts(&["web"]),                   true),
        ("agent_groups", texts(&["we"]),                    false),
        ("not_agent_groups", texts(&["dmz"]),               false),
        ("integration",  texts(&["virustotal"]),            true),
        ("not_integration", texts(&["virustotal"]),         false),
    ];
    for (key, value, expected) in table {
        assert_eq!(
            filter(&[(key, value.clone())]).judge(&event(SSHD)) == Verdict::Passes,
            *expected,
            "{key} {value:?}"
        );
    }
}

#[test]
fn an_alert_without_the_field_passes_only_the_not_twin() {
    let bare = event("{}");
    let passes = |key: &str, value| filter(&[(key, value)]).judge(&bare) == Verdict::Passes;
    assert!(!passes("level", Value::Integer(0)));
    assert!(!passes("agents", texts(&["*"])));
    assert!(!passes("mitre", texts(&["T1110"])));
    assert!(passes("not_groups", texts(&["sca"])));
    assert!(passes("not_decoders", texts(&["sshd"])));
    assert_eq!(Filter::default().judge(&bare), Verdict::Passes);
}

#[test]
fn all_conditions_must_hold() {
    let both = [("level", Value::Integer(3)), ("groups", texts(&["sca"]))];
    assert_eq!(filter(&both).judge(&event(SSHD)), Verdict::Filtered);
}

#[test]
fn a_where_that_errs_passes_the_event_and_says_so() {
    let with = |source: &str| filter(&[("where", Value::Text(source.into()))]);
    assert_eq!(with("alert.rule.level > 3").judge(&event(SSHD)), Verdict::Passes);
    assert_eq!(with("alert.rule.level > 30").judge(&event(SSHD)), Verdict::Filtered);
    let verdict = with("alert.data.srcip == '1'").judge(&event(SSHD));
    assert!(matches!(verdict, Verdict::Unsure(_)), "{verdict:?}");
    let plain_first =
        [("level", Value::Integer(12)), ("where", Value::Text("alert.x == 1".into()))];
    assert_eq!(filter(&plain_first).judge(&event(SSHD)), Verdict::Filtered);
}

#[test]
fn what_other_systems_did_to_an_event_passes_a_lane_that_follows_it() {
    let log = LogId::new("abcdefghij").unwrap();
    let callback = |source: &str, action: &str, parent: Option<EventId>| {
        let body = format!(r#"{{"action":"{action}"}}"#);
        let new = NewEvent { kind: Kind::Callback, parent, body: body.into() };
        Event::new(9, new, source.into(), Timestamp(0))
    };
    let about = || Some(log.event(1));
    let mut filter = Filter::default().following(vec![Action::Closed]);
    filter.of_lane("oncall");
    assert_eq!(filter.judge(&callback("cases", "closed", about())), Verdict::Passes);
    let others = [
        callback("oncall", "closed", about()),
        callback("cases", "commented", about()),
        callback("cases", "closed", None),
    ];
    for event in others {
        assert_eq!(filter.judge(&event), Verdict::Filtered, "{event:?}");
    }
    let closed = callback("cases", "closed", about());
    assert_eq!(Filter::default().judge(&closed), Verdict::Filtered, "nobody asked for it");
}

#[test]
fn a_guard_against_loops_refuses_what_was_injected_and_for_lookups_answers() {
    let injected = r#"{"data":{"integration":"misp"},"location":"misp"}"#;
    let of_kind = |kind, body: &str| {
        let new = NewEvent { kind, parent: None, body: body.to_owned().into() };
        Event::new(1, new, "wazuh".into(), Timestamp(0))
    };
    let kinds = [("kind", texts(&["alert", "lookup", "callback"]))];
    #[rustfmt::skip]
    let table = [
        // kind, body, without a guard, beside Wazuh, as a lookup
        (Kind::Alert,    injected, [true, false, false]),
        (Kind::Alert,    SSHD,     [true, true, true]),
        (Kind::Lookup,   injected, [true, true, false]),
        (Kind::Callback, "{}",     [true, true, true]),
        (Kind::Operator, "{}",     [false, false, false]),
    ];
    for (kind, body, expected) in table {
        let plain = filter(&kinds);
        let (mut wazuh, mut lookup) = (plain.clone(), plain.clone());
        wazuh.refuse_loops(false);
        lookup.refuse_loops(true);
        let replay = Filter::from_json(&serde_json::Map::new()).unwrap().and(lookup.clone());
        let event = of_kind(kind, body);
        let passes = |filter: &Filter| filter.judge(&event) == Verdict::Passes;
        assert_eq!([&plain, &wazuh, &lookup].map(passes), expected, "{kind:?} {body}");
        assert!(!passes(&replay) || expected[2], "it holds in a replay, too");
    }
}
