//! Which alerts came of an event that an integration put into Wazuh.
//!
//! Such an alert shows what was injected: `data.integration` names who did, and `location` is where
//! it was injected as (`reference`: Wazuh 4.14 `virustotal.py`, `POST /events`). What Holdfast
//! injects may also carry an object `data.holdfast`.
//!
//! Does not know an alert that an active response caused: that has no mark, and no lookup's answer
//! in it.

use serde_json::Value;

/// Who puts answers into Wazuh.
const INTEGRATIONS: [&str; 4] = ["virustotal", "misp", "opencti", "osquery"];

/// Where Wazuh's API, and Holdfast itself, inject, whoever the integration is.
const LOCATIONS: [&str; 2] = ["API-Webhook", "holdfast"];

/// An alert whose body has none of these has no such mark.
pub(super) fn may_be_injected(body: &[u8]) -> bool {
    let has = |word: &[u8]| body.windows(word.len()).any(|window| window == word);
    has(b"\"integration\"") || has(b"\"holdfast\"")
}

pub(super) fn is_injected(alert: &Value) -> bool {
    if alert.pointer("/data/holdfast").is_some_and(Value::is_object) {
        return true;
    }
    let text = |pointer: &str| alert.pointer(pointer).and_then(Value::as_str);
    let Some(integration) = text("/data/integration") else { return false };
    let location = text("/location").unwrap_or_default();
    // Only text formats keep the agent before the place.
    let place = location.rsplit_once("->").map_or(location, |(_, place)| place);
    INTEGRATIONS.contains(&integration) && (place == integration || LOCATIONS.contains(&place))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_alert_shows_by_its_data_and_its_location_that_it_was_injected() {
        #[rustfmt::skip]
        let table = [
            (json!({"data":{"integration":"virustotal"},"location":"virustotal"}),      true),
            (json!({"data":{"integration":"misp"},"location":"API-Webhook"}),           true),
            (json!({"data":{"integration":"opencti"},"location":"(web) any->opencti"}), true),
            (json!({"data":{"integration":"osquery"},"location":"holdfast"}),           true),
            (json!({"data":{"holdfast":{"event":"abcdefghij-7"}},"location":"x"}),      true),
            (json!({"data":{"holdfast":"a word"},"location":"x"}),                      false),
            (json!({"data":{"integration":"virustotal"},"location":"/var/log/app"}),    false),
            (json!({"data":{"integration":"docker"},"location":"docker"}),              false),
            (json!({"data":{"osquery":{"name":"p"}},"location":"osquery"}),             false),
            (json!({"data":7,"location":["misp"]}),                                     false),
            (json!({}),                                                                 false),
        ];
        for (alert, injected) in table {
            let body = alert.to_string();
            assert_eq!(is_injected(&alert), injected, "{body}");
            assert!(!injected || may_be_injected(body.as_bytes()), "{body}");
        }
        assert!(!may_be_injected(b"{}") && !may_be_injected(b""));
    }
}
