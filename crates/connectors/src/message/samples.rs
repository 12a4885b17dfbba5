//! The shipped sample alerts, one of each kind, as destinations are tested with them.

use holdfast_model::Member;

use crate::testing::alert;

/// Every sample with a name for failures.
pub(crate) fn all() -> Vec<(String, Member)> {
    let text = include_str!("../../../../config/samples/alerts.json");
    let members = text.lines().enumerate().map(|(index, line)| {
        let name = format!("sample {} ({})", index + 1, &line[..line.len().min(90)]);
        (name, alert(index as u64 + 1, line.to_owned()))
    });
    let all: Vec<_> = members.collect();
    assert_eq!(all.len(), 34, "one of every kind");
    all
}

/// An alert whose every text tries to break out of the mark-up around it, and that is too long.
pub(crate) fn hostile() -> Member {
    let nasty = "<!channel> </script> *b* _i_ `c` | = \\ \" ' & %7B {{ 7*7 }} @everyone [x](http://e)\n\r\t\u{202e}é";
    let long = nasty.repeat(600);
    let alert_json = serde_json::json!({
        "timestamp": "2026-03-10T06:02:17.173+0000",
        "rule": { "level": 12, "description": long, "id": "100001", "groups": [nasty, "x"] },
        "agent": { "id": "001", "name": nasty, "ip": "10.0.0.1" },
        "data": { "srcip": nasty, "dstuser": long },
        "full_log": long,
        "location": nasty,
        "id": "1.2",
    });
    alert(99, alert_json.to_string())
}
