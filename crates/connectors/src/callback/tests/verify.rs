//! What is verified, and what is refused.

use super::*;
use crate::testing::fault;

#[test]
fn every_type_that_takes_callbacks_has_a_case() {
    let takes = |kind: &&crate::destinations::Kind| {
        kind.settings.iter().any(|setting| setting.name == "callback")
    };
    let cases = cases();
    for kind in CATALOG.iter().filter(takes) {
        assert!(cases.iter().any(|case| case.kind == kind.name), "{} has no case", kind.name);
        let without = build(kind, kind.example, &context()).unwrap();
        assert!(without.callbacks().is_none(), "{}: not set up", kind.name);
    }
}

#[test]
fn a_valid_callback_says_what_was_done_to_what_by_whom() {
    for case in cases() {
        let body = case.body.as_bytes();
        let heard = hear(&case.usual(), &case.signed(body), body, NOW).unwrap();
        let [notice] = heard.notices.as_slice() else { panic!("{}: {heard:?}", case.kind) };
        assert_eq!(notice.action, case.action, "{}", case.kind);
        let known = notice.remote_ids.iter().any(|id| id == case.remote_id);
        assert!(known, "{}: {:?}", case.kind, notice.remote_ids);
        let event = notice.event.as_ref().map(ToString::to_string);
        assert_eq!(event.as_deref(), case.named.then_some(EVENT), "{}", case.kind);
        assert_eq!(notice.actor.as_ref().map(|actor| actor.id.as_str()), Some(case.actor));
        assert!(!notice.delivery_id.is_empty(), "{}", case.kind);
        let again = hear(&case.usual(), &case.signed(body), body, NOW).unwrap();
        assert_eq!(again, heard, "{}: the same for a repeat", case.kind);
        let ignoring = format!("secret = \"{}\"\nignore = [\"U1\"]", case.secret());
        let ignoring = case.destination(&ignoring.replace('\n', ", "));
        let heard = hear(&ignoring, &case.signed(body), body, NOW).unwrap();
        assert_eq!(heard.notices, [], "{}: its doings are ours", case.kind);
    }
}

#[test]
fn a_wrong_signature_is_refused_whatever_is_wrong_with_it() {
    for case in cases() {
        let (destination, body) = (case.usual(), case.body.as_bytes());
        let refused = |what: &str, headers: &[(String, Vec<u8>)], body: &[u8]| {
            let said = hear(&destination, headers, body, NOW);
            assert_eq!(said, Err(Refusal::Signature), "{}: {what}", case.kind);
        };
        let good = case.signed(body);
        refused("no header", &[], body);
        refused("another secret", &(case.sign)(case.other(), body, NOW.0 / 1000), body);
        refused("an empty secret", &(case.sign)("", body, NOW.0 / 1000), body);
        for left_out in 0..good.len() {
            let mut headers = good.clone();
            headers.remove(left_out);
            refused("a header is missing", &headers, body);
            let mut headers = good.clone();
            headers.push(good[left_out].clone());
            refused("a header is there twice", &headers, body);
            let mut headers = good.clone();
            headers[left_out].1.pop();
            refused("a header is cut", &headers, body);
            headers[left_out].1 = vec![0xFF];
            refused("a header is no text", &headers, body);
        }
        if case.signs {
            let mut changed = body.to_vec();
            changed[body.len() / 2] ^= 1;
            refused("a byte is changed", &good, &changed);
            refused("a byte is missing", &good, &body[1..]);
            refused("nothing is there", &good, b"");
        }
        if case.kind == "pagerduty" {
            let upper = String::from_utf8(good[0].1.clone()).unwrap().to_uppercase();
            refused("other letters", &[header(&good[0].0, upper)], body);
        }
    }
}

#[test]
fn an_old_one_and_one_from_the_future_are_stale() {
    for case in cases() {
        let window_s = match case.kind {
            "slack" | "webhook" => 300,
            "pagerduty" | "jira" => 49 * 3600,
            // Nothing they send says when it was sent.
            _ => continue,
        };
        let (destination, body) = (case.usual(), case.body.as_bytes());
        let headers = case.signed(body);
        let at = |seconds: i64| Timestamp(NOW.0.saturating_add_signed(seconds * 1000));
        for seconds in [window_s - 1, 1 - window_s] {
            let said = hear(&destination, &headers, body, at(seconds));
            assert!(said.is_ok(), "{} {seconds}: {said:?}", case.kind);
        }
        for seconds in [window_s + 1, -window_s - 1, 10 * window_s] {
            let said = hear(&destination, &headers, body, at(seconds));
            assert_eq!(said, Err(Refusal::Stale), "{} {seconds}", case.kind);
        }
    }
}

#[test]
fn either_of_two_secrets_is_enough_while_they_are_changed() {
    for case in cases() {
        let both = format!("secret = [\"{}\", \"{}\"]", case.secret(), case.other());
        let (destination, body) = (case.destination(&both), case.body.as_bytes());
        for secret in [case.secret(), case.other()] {
            let headers = (case.sign)(secret, body, NOW.0 / 1000);
            assert!(hear(&destination, &headers, body, NOW).is_ok(), "{}", case.kind);
        }
        let third = (case.sign)("a-third-secret", body, NOW.0 / 1000);
        assert_eq!(hear(&destination, &third, body, NOW), Err(Refusal::Signature), "{}", case.kind);
    }
}

#[test]
fn what_is_signed_and_makes_no_sense_is_malformed_and_names_what() {
    for case in cases() {
        let destination = case.usual();
        for body in ["", "{", "[]", "7", "{}", "payload=", "payload=%7B", "payload=[]", "a=b"] {
            let said = hear(&destination, &case.signed(body.as_bytes()), body.as_bytes(), NOW);
            assert!(matches!(said, Err(Refusal::Malformed(_))), "{} {body}: {said:?}", case.kind);
        }
    }
    let own = cases().pop().unwrap();
    #[rustfmt::skip]
    let table = [
        (json!({ "action": "closed" }), "remote_id"),
        (json!({ "action": "shrugged", "remote_id": "1" }), "shrugged"),
        (json!({ "action": "closed", "remote_id": "1", "colour": "red" }), "colour"),
        (json!({ "action": "closed", "event_id": "nonsense" }), "event_id"),
        (json!({ "action": "closed", "remote_id": "1", "at": "yesterday" }), "3339"),
        (json!({ "action": "closed", "remote_id": "1", "request": "block" }), "request"),
        (json!({ "action": "action_requested", "remote_id": "1" }), "request"),
        (json!({ "action": "action_requested", "remote_id": "1", "request": "rm -rf /" }), "request"),
    ];
    for (body, named) in table {
        let body = body.to_string();
        let said = hear(&own.usual(), &own.signed(body.as_bytes()), body.as_bytes(), NOW);
        let Err(Refusal::Malformed(text)) = said else { panic!("{body}: {said:?}") };
        assert!(text.contains(named), "{body}: {text}");
    }
}

#[test]
fn a_client_certificate_may_stand_for_the_secret() {
    let case = cases().pop().unwrap();
    let body = case.body.as_bytes();
    let hear = |destination: &Arc<dyn Destination>, headers: &Headers, client_certified| {
        let request = CallbackRequest { headers, query: "", body, client_certified, now: NOW };
        destination.callbacks().unwrap().hear(&request).is_ok()
    };
    let alone = case.destination("client_certificate = true");
    assert!(hear(&alone, &Vec::new(), true) && !hear(&alone, &Vec::new(), false));
    let both =
        case.destination(&format!("client_certificate = true, secret = \"{}\"", case.secret()));
    let good = case.signed(body);
    assert!(hear(&both, &good, true) && !hear(&both, &good, false));
    assert!(!hear(&both, &Vec::new(), true));
    let header = case.destination(&format!("header = \"X-Own\", secret = \"{}\"", case.secret()));
    assert!(!hear(&header, &good, true), "the usual header is not looked at");
    let own = vec![("x-own".to_owned(), case.secret().as_bytes().to_vec())];
    assert!(hear(&header, &own, false));
}

#[test]
fn a_wrong_table_is_a_fault_that_repeats_no_secret() {
    #[rustfmt::skip]
    let table = [
        ("jira", "", "callback: `secret` is missing"),
        ("jira", "secret = []", "callback.secret: give one secret"),
        ("jira", "secret = [\"a\", \"b\", \"c\"]", "callback.secret: give one secret"),
        ("jira", "secret = 7", "callback.secret: it must be a text"),
        ("jira", "secret = \"x\", header = \"X\"", "callback.header: there is no such key"),
        ("jira", "secret = \"x\", action_ttl = \"1s\"", "callback.action_ttl: 1s is not within"),
        ("jira", "secret = \"x\", operators = [\"\"]", "callback.operators: at most 200"),
        ("webhook", "secret = \"hunter2\"", "callback.secret: it must begin with `whsec_`"),
        ("telegram", "secret = \"hunter 2\"", "callback.secret: Telegram takes"),
        ("xsoar", "secret = \"x\", header = \"a b\"", "callback.a b: it is not a header's name"),
    ];
    for (kind, callback, expected) in table {
        let kind = CATALOG.iter().find(|known| known.name == kind).unwrap();
        let table = format!("callback = {{ {callback} }}\n{}", kind.example);
        let said = fault(kind, &table, &context());
        let expected = format!("destinations.lane.{expected}");
        assert!(said.starts_with(&expected) && !said.contains("hunter"), "{callback}: {said}");
    }
}
