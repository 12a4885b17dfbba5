//! What of the log, and what of each event: times, fields, expressions, and cursors of another kind.

use std::{thread, time::Duration};

use super::{kept, numbers, ok};
use crate::support::{Gateway, alerts};

#[test]
fn a_range_of_time_begins_and_ends_where_it_says() {
    let mut gateway = Gateway::start(kept());
    for from in [0, 70, 140] {
        gateway.accept(&alerts::ndjson(from..from + 70));
        thread::sleep(Duration::from_millis(20));
    }
    let all = ok(gateway.get("/v1/alerts?limit=1000"));
    let at = |n: usize| all["data"][n]["received_at"].as_str().unwrap();
    let page = |query: &str| ok(gateway.get(&format!("/v1/alerts?limit=1000&{query}")));
    assert_eq!(numbers(&page(&format!("since={}", at(70)))), (70..210).collect::<Vec<_>>());
    let some = page(&format!("since={}&until={}", at(70), at(140)));
    assert_eq!(numbers(&some), (70..140).collect::<Vec<_>>());
    assert_eq!(some["has_more"], false);
    let cursor = all["data"][75]["cursor"].as_str().unwrap();
    let rest = page(&format!("until={}&cursor={cursor}", at(140)));
    assert_eq!(numbers(&rest), (76..140).collect::<Vec<_>>());
    assert_eq!(numbers(&page("since=2999-01-01T00:00:00Z")), [] as [u64; 0]);
    // Behind its end nothing is waited for.
    let done = page(&format!("until={}&wait=60s&cursor={}", at(0), cursor));
    assert_eq!(done["has_more"], false);
    gateway.finish();
}

#[test]
fn fields_and_expressions_choose_and_a_cursor_of_another_version_is_refused() {
    let mut gateway = Gateway::start(kept());
    let alert = |n: u64| format!("{{\"number\":{n},\"rule\":{{\"level\":{n},\"id\":\"1\"}}}}\n");
    gateway.accept(&(0..6).map(alert).collect::<String>());
    let page =
        ok(gateway
            .get("/v1/alerts?fields=number,rule.id,data.srcip&where=alert.rule.level%20%3E%203"));
    assert_eq!(numbers(&page), [4, 5]);
    assert_eq!(page["data"][0]["alert"].to_string(), r#"{"number":4,"rule":{"id":"1"}}"#);
    // "9.k3v9x0aq2m-42"
    let answer = gateway.get("/v1/alerts?cursor=OS5rM3Y5eDBhcTJtLTQy");
    assert_eq!(answer.status, 400);
    assert!(answer.text.contains("another version"), "{}", answer.text);
    gateway.finish();
}
