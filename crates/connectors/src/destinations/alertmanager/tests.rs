use super::*;
use crate::{
    http::fake::{Act, Fake, Seen, answer},
    message::samples,
    testing::{alert, build as build_kind, context, fault, shipment},
};

fn destination(fake: &Fake, more: &str) -> Arc<dyn Destination> {
    let table = format!("url = \"{}/am/\"\n{more}", fake.url);
    build_kind(&KIND, &table, &context()).unwrap()
}

fn json_of(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

async fn sent(more: &str, member: Member) -> Value {
    let fake = Fake::start([Act::Say(answer("200 OK", "", ""))]).await;
    destination(&fake, more).deliver(&shipment([member])).await.unwrap();
    let seen = fake.only();
    assert_eq!(seen.line, "POST /am/api/v2/alerts HTTP/1.1");
    assert_eq!(seen.header("content-type"), Some("application/json"));
    json_of(&seen)
}

fn with_rule(rule: &str) -> Member {
    alert(1, format!(r#"{{"rule":{{"id":"{rule}","level":3}},"agent":{{"id":"001"}}}}"#))
}

/// What the schema `postableAlerts` demands, and what `api.go` checks behind it.
fn assert_valid(name: &str, body: &Value) {
    for alert in body.as_array().unwrap() {
        let known = ["labels", "annotations", "startsAt", "endsAt", "generatorURL"];
        assert!(alert.as_object().unwrap().keys().all(|key| known.contains(&key.as_str())));
        let labels = alert["labels"].as_object().unwrap();
        assert!(labels.contains_key("alertname"), "{name}");
        for (label, value) in labels {
            assert!(is_label_name(label), "{name}: {label}");
            let value = value.as_str().unwrap();
            assert!(!value.is_empty() && !value.contains('\n'), "{name}: {label}");
        }
        let annotations = alert["annotations"].as_object().unwrap();
        assert!(annotations.iter().all(|(key, value)| is_label_name(key) && value.is_string()));
        let time = |key: &str| Timestamp::parse(alert[key].as_str().unwrap()).unwrap();
        assert!(time("startsAt") <= time("endsAt"), "{name}");
    }
}

#[tokio::test]
async fn every_sample_is_a_valid_alert() {
    let hostile = ("hostile".to_owned(), samples::hostile());
    for (name, member) in samples::all().into_iter().chain([hostile]) {
        let id = member.id.to_string();
        let body = sent("labels = { team = \"soc\" }", member).await;
        assert_valid(&name, &body);
        let labels = body[0]["labels"].as_object().unwrap();
        assert!(labels.values().all(|value| !value.as_str().unwrap().contains(&id)), "{name}");
    }
}

#[tokio::test]
async fn every_event_of_a_problem_is_the_same_alert_and_fires_for_as_long_as_is_set() {
    let event = |seq| alert(seq, r#"{"rule":{"id":"7","level":12},"agent":{"id":"001"}}"#);
    let before = now();
    let first = sent("resolve_after = \"2h\"", event(1)).await;
    let second = sent("", event(2)).await;
    assert_eq!(first[0]["labels"], second[0]["labels"]);
    assert_eq!(first[0]["labels"]["severity"], "critical");
    // The event came in long ago and fires nevertheless.
    let received = event(1).event.received_at;
    assert_eq!(first[0]["startsAt"], received.to_string());
    let ends = Timestamp::parse(first[0]["endsAt"].as_str().unwrap()).unwrap();
    assert!(ends >= before.saturating_add(Duration::from_secs(7200)));
    let other = sent("", alert(1, r#"{"rule":{"id":"7"},"agent":{"id":"002"}}"#)).await;
    assert_ne!(first[0]["labels"]["problem"], other[0]["labels"]["problem"]);
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_alert_that_ends_before_it_starts() {
    let fake = Fake::start([Act::Say(answer("200 OK", "", ""))]).await;
    let entries = [("url".to_owned(), Node { line: 1, value: Given::Text(fake.url.clone()) })];
    let faults = std::cell::RefCell::default();
    let section = Section::new("d", 1, &entries, &faults);
    let alertmanager = Alertmanager {
        api: Api::new(&section, &context(), vendor::address(&section, &URL).unwrap(), Auth::None)
            .unwrap(),
        labels: Vec::new(),
        resolve_after: Duration::from_secs(60),
        severities: Severities::read(&section, ["info"; 4], SEVERITY_WORDS).unwrap(),
        lifecycle: Lifecycle::default(),
        template: message::Template::read(&section).unwrap(),
    };
    let member = alert(1, "{}");
    let message = Message::of(&member);
    let firing = alertmanager.firing(&message, &member, "p", Timestamp(1000));
    assert_eq!(firing["startsAt"], "1970-01-01T00:00:01.000Z");
    assert_eq!(firing["endsAt"], "1970-01-01T00:01:01.000Z");
}

#[tokio::test]
async fn a_resolving_rule_ends_the_alert_with_the_labels_it_has_there() {
    let settings = "resolved_by = { \"504\" = \"503\" }";
    let open = sent(settings, with_rule("504")).await;
    let problem = open[0]["labels"]["problem"].as_str().unwrap().to_owned();
    // There it has another severity, and a stranger's alert is among the answers.
    let mut labels = open[0]["labels"].clone();
    labels["severity"] = "page".into();
    let there = json!([
        { "labels": labels, "annotations": { "a": "b" }, "startsAt": "2026-03-10T06:00:00.000Z" },
        { "labels": { "problem": "other" }, "annotations": {} },
    ]);
    let fake = Fake::start([
        Act::Say(answer("200 OK", "", &there.to_string())),
        Act::Say(answer("200 OK", "", "")),
    ])
    .await;
    let delivered =
        destination(&fake, settings).deliver(&shipment([with_rule("503")])).await.unwrap();
    let Delivered::All(receipt) = delivered else { panic!("one event has one answer") };
    assert_eq!(receipt.remote_id.as_ref(), Some(&problem));
    let seen = fake.seen();
    let expected = format!("GET /am/api/v2/alerts?filter=problem%3D%22{problem}%22 HTTP/1.1");
    assert_eq!(seen[0].line, expected);
    let body = json_of(&seen[1]);
    assert_valid("resolve", &body);
    assert_eq!(body.as_array().unwrap().len(), 1);
    assert_eq!(body[0]["labels"], labels);
    assert!(Timestamp::parse(body[0]["endsAt"].as_str().unwrap()).unwrap() <= now());
}

#[tokio::test]
async fn nothing_to_end_is_settled_and_a_senseless_list_is_not() {
    let settings = "resolved_by = { \"504\" = \"503\" }";
    for (body, expected) in [("[]", None), ("{}", Some(Reason::BadAnswer))] {
        let fake = Fake::start([Act::Say(answer("200 OK", "", body))]).await;
        let result = destination(&fake, settings).deliver(&shipment([with_rule("503")])).await;
        match result {
            Ok(Delivered::All(receipt)) => assert!(receipt.duplicate && expected.is_none()),
            Ok(Delivered::Each(_)) => panic!("one event has one answer"),
            Err(error) => assert_eq!(Some(error.reason), expected),
        }
        assert_eq!(fake.seen().len(), 1);
    }
}

#[tokio::test]
async fn each_answer_has_its_meaning() {
    #[rustfmt::skip]
    let table = [
        ("400 Bad Request", r#""invalid label set: invalid name \"bad-name\"""#, Reason::Refused),
        ("400 Bad Request", r#"{"code":400,"message":"parsing alerts body"}"#, Reason::Refused),
        ("401 Unauthorized", "", Reason::Unauthorized),
        ("403 Forbidden", "", Reason::Forbidden),
        ("404 Not Found", "", Reason::Misconfigured),
        ("415 Unsupported Media Type", "", Reason::Refused),
        ("422 Unprocessable", "", Reason::Refused),
        ("500 Internal Server Error", r#""no""#, Reason::ServerFault),
        ("503 Service Unavailable", "", Reason::ServerFault),
        ("302 Found", "", Reason::Misconfigured),
    ];
    for (status, body, expected) in table {
        let fake = Fake::start([Act::Say(answer(status, "", body))]).await;
        let shipment = shipment([alert(1, "{}")]);
        let error = destination(&fake, "").deliver(&shipment).await.unwrap_err();
        assert_eq!(error.reason, expected, "{status} {body}");
    }
}

#[tokio::test]
async fn credentials_are_sent_checked_and_masked() {
    let fake = Fake::start([Act::Say(answer("401 No", "", "bad: hunter22"))]).await;
    let destination = destination(&fake, "user = \"me\"\npassword = \"hunter22\"");
    let error = destination.check().await.unwrap().unwrap_err();
    assert_eq!((error.reason, error.excerpt.as_str()), (Reason::Unauthorized, "bad: [masked]"));
    let seen = fake.only();
    assert_eq!(seen.line, "GET /am/api/v2/status HTTP/1.1");
    assert_eq!(seen.header("authorization"), Some("Basic bWU6aHVudGVyMjI="));
}

#[test]
fn wrong_settings_are_faults() {
    #[rustfmt::skip]
    let table = [
        ("labels = { bad-name = \"x\" }", "lane.labels.bad-name: a label's name is"),
        ("labels = { 1a = \"x\" }", "lane.labels.1a: a label's name is"),
        ("labels = { problem = \"x\" }", "lane.labels.problem: this label is Holdfast's own"),
        ("labels = { team = \"\" }", "lane.labels.team: it must be a text"),
        ("resolve_after = \"1s\"", "lane.resolve_after: 1s is not within"),
        ("user = \"me\"", "`user` and `password` need each other"),
        ("bearer = \"t\"\nuser = \"me\"\npassword = \"p\"", "lane.bearer: it cannot go with"),
    ];
    for (more, expected) in table {
        let table = format!("url = \"http://a\"\n{more}");
        let problem = fault(&KIND, &table, &context());
        assert!(problem.contains(expected), "{problem}");
    }
}
