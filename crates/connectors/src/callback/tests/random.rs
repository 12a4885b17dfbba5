//! Anything at all, signed: no panic; and one changed byte: never accepted.

use std::sync::LazyLock;

use proptest::{collection::vec, prelude::*};

use super::*;

/// A body that is like the right one, with anything in the place of some of its values.
fn changed(value: &Value, picks: &mut std::slice::Iter<'_, u8>) -> Value {
    let odd = match picks.next() {
        Some(0) => Some(Value::Null),
        Some(1) => Some(json!(-1)),
        Some(2) => Some(json!(1e300)),
        Some(3) => Some(json!("")),
        Some(4) => Some(json!([])),
        Some(5) => Some(json!({})),
        Some(6) => Some(json!("é\u{0}.,/~18446744073709551616")),
        Some(7) => Some(json!([[{ "text": 7 }]])),
        Some(8) => Some(json!(u64::MAX)),
        Some(9) => Some(json!(true)),
        _ => None,
    };
    match (odd, value) {
        (Some(odd), _) => odd,
        (None, Value::Object(map)) => {
            map.iter().map(|(key, value)| (key.clone(), changed(value, picks))).collect()
        }
        (None, Value::Array(list)) => list.iter().map(|value| changed(value, picks)).collect(),
        (None, value) => value.clone(),
    }
}

/// Made once, because building reads the network's settings.
static ALL: LazyLock<Vec<(Case, Arc<dyn Destination>)>> = LazyLock::new(|| {
    cases().into_iter().map(|case| (case.usual(), case)).map(|(d, c)| (c, d)).collect()
});

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn whatever_is_signed_there_is_an_answer_and_no_panic(
        bytes in vec(any::<u8>(), 0..300), picks in vec(0u8..60, 0..80),
    ) {
        for (case, destination) in ALL.iter() {
            hear(destination, &case.signed(&bytes), &bytes, NOW).ok();
            let like = match case.kind {
                "slack" => {
                    let payload = form_urlencoded::parse(case.body.as_bytes()).next().unwrap().1;
                    let payload = serde_json::from_str(&payload).unwrap();
                    form(&changed(&payload, &mut picks.iter()))
                }
                _ => {
                    let body = serde_json::from_str(&case.body).unwrap();
                    changed(&body, &mut picks.iter()).to_string()
                }
            };
            let said = hear(destination, &case.signed(like.as_bytes()), like.as_bytes(), NOW);
            prop_assert_ne!(said, Err(Refusal::Signature));
        }
    }

    #[test]
    fn no_changed_byte_is_accepted(at in any::<prop::sample::Index>(), bit in 0u8..8) {
        for (case, destination) in ALL.iter() {
            let good = case.body.as_bytes();
            let headers = case.signed(good);
            if case.signs {
                let mut body = good.to_vec();
                body[at.index(good.len())] ^= 1 << bit;
                let said = hear(destination, &headers, &body, NOW);
                prop_assert_eq!(said, Err(Refusal::Signature), "{}", case.kind);
            }
            for name in 0..headers.len() {
                let mut headers = headers.clone();
                let value = &mut headers[name].1;
                // The first of two signatures is nobody's, and may be anything.
                let from = if case.kind == "pagerduty" { value.len() - 67 } else { 0 };
                let from = if headers_is_standard(case, name) { value.len() - 47 } else { from };
                let index = from + at.index(value.len() - from);
                value[index] ^= 1 << bit;
                let said = hear(destination, &headers, good, NOW);
                prop_assert_eq!(said, Err(Refusal::Signature), "{}", case.kind);
            }
        }
    }
}

fn headers_is_standard(case: &Case, name: usize) -> bool {
    case.kind == "webhook" && name == 2
}
