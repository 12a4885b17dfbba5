use holdfast_model::{EventId, Kind as EventKind, LogId, Member, Parent};

use super::*;
use crate::{
    http::fake::{Act, Fake, answer},
    testing::{self, alert, context, event, fault, shipment},
};

const TOKEN: &str = r#"{"data":{"token":"jwt-one-0123456789"},"error":0}"#;
const DONE: &str = r#"{"data":{"affected_items":["001"],"total_affected_items":1,"total_failed_items":0,"failed_items":[]},"message":"AR command was sent to all agents","error":0}"#;
const ALERT: &str = r#"{"agent":{"id":"001","name":"web01"},"data":{"srcip":"203.0.113.77"}}"#;
const ASKED: &str = r#"{"destination":"soc-slack","action":"action_requested","actor":{"id":"U123","name":"Ann"},"data":{"request":"block","authorized":true,"srcip":"198.51.100.1","agent":"002"},"agent":{"id":"002"}}"#;

fn ok(body: &str) -> Act {
    Act::Say(answer("200 OK", "", body))
}

fn built(url: &str, more: &str) -> Arc<dyn Destination> {
    let table = format!(
        "url = \"{url}\"\nuser = \"me\"\npassword = \"pass-word\"\ncommands = [\"!firewall-drop\"]\n\
         requests = {{ block = \"!firewall-drop\" }}\n{more}"
    );
    testing::build(&KIND, &table, &context()).unwrap()
}

fn about(body: &str, parent: Option<Member>) -> Member {
    let id: EventId = LogId::new("abcdefghij").unwrap().event(1);
    let first = event(2, EventKind::Callback, body.to_owned());
    let mut asked = (*first.event).clone();
    asked.parent = Some(id.clone());
    let event = parent.map(|parent| Arc::clone(&parent.event));
    let parent = Some(Arc::new(Parent {
        id,
        key: "k".to_owned(),
        remote_id: None,
        links: Vec::new(),
        event,
    }));
    Member { event: Arc::new(asked), parent, ..first }
}

#[tokio::test]
async fn a_request_acts_on_exactly_the_agent_and_address_of_the_alert() {
    let fake = Fake::start([ok(TOKEN), ok(DONE)]).await;
    let member = about(ASKED, Some(alert(1, ALERT)));
    let said = built(&fake.url, "").deliver(&shipment([member])).await.unwrap();
    let Delivered::All(receipt) = said else { panic!("one event") };
    let expected = "!firewall-drop 203.0.113.77 on agent 001, asked for by U123 in soc-slack, event abcdefghij-2";
    assert_eq!(receipt.remote_id.as_deref(), Some(expected));
    let seen = fake.seen();
    assert_eq!(seen[1].line, "PUT /active-response?agents_list=001 HTTP/1.1");
    assert_eq!(seen[1].header("authorization"), Some("Bearer jwt-one-0123456789"));
    let body: Value = serde_json::from_str(seen[1].text()).unwrap();
    let data = json!({ "srcip": "203.0.113.77", "holdfast_key": "abcdefghij-2.lane" });
    assert_eq!(body, json!({ "command": "!firewall-drop", "alert": { "data": data } }));
}

/// Alerts whose agent or address is refused, and why.
const ALERTS: &[(&str, &str)] = &[
    (r#"{"data":{"srcip":"203.0.113.77"}}"#, "no agent"),
    (r#"{"agent":{"id":""},"data":{"srcip":"203.0.113.77"}}"#, "no agent"),
    (r#"{"agent":{"id":"all"},"data":{"srcip":"203.0.113.77"}}"#, "not one agent"),
    (r#"{"agent":{"id":"001,002"},"data":{"srcip":"203.0.113.77"}}"#, "not one agent"),
    (r#"{"agent":{"id":["001"]},"data":{"srcip":"203.0.113.77"}}"#, "not one agent"),
    (r#"{"agent":{"id":"000"},"data":{"srcip":"203.0.113.77"}}"#, "agent 000"),
    (r#"{"agent":{"id":"0000"},"data":{"srcip":"203.0.113.77"}}"#, "agent 000"),
    (r#"{"agent":{"id":"001"},"data":{}}"#, "no address"),
    (r#"{"agent":{"id":"001"},"data":{"srcip":"1.2.3.4; rm"}}"#, "not an address"),
    (r#"{"agent":{"id":"001"},"data":{"srcip":"10.1.2.3"}}"#, "10.0.0.0/8"),
    (r#"{"agent":{"id":"001"},"data":{"srcip":"::ffff:10.1.2.3"}}"#, "10.0.0.0/8"),
    (r#"{"agent":{"id":"001"},"data":{"srcip":"127.0.0.1"}}"#, "loopback"),
    (r#"{"agent":{"id":"001"},"data":{"srcip":"169.254.1.1"}}"#, "link-local"),
    (r#"{"agent":{"id":"001"},"data":{"srcip":"fe80::1"}}"#, "link-local"),
    (r#"{"agent":{"id":"001"},"data":{"srcip":"0.0.0.0"}}"#, "no address of a host"),
    (r#"{"agent":{"id":"001"},"data":{"srcip":"255.255.255.255"}}"#, "link-local"),
    (r#"{"agent":{"id":"001"},"data":{"srcip":"224.0.0.1"}}"#, "multicast"),
];

/// Callbacks about a good alert that are refused, and why.
const CALLBACKS: &[(&str, &str)] = &[
    ("{oops", "only `action_requested`"),
    (r#"{"action":"closed","data":{"authorized":true,"request":"block"}}"#, "`closed`"),
    (r#"{"action":"action_requested","data":{"request":"block"}}"#, "not authorized"),
    (
        r#"{"action":"action_requested","data":{"request":"block","authorized":"true"}}"#,
        "not authorized",
    ),
    (
        r#"{"action":"action_requested","data":{"request":"block","authorized":false,"refused":"operator"}}"#,
        "operator",
    ),
    (
        r#"{"action":"action_requested","data":{"request":"reboot","authorized":true}}"#,
        "no `reboot`",
    ),
    (r#"{"action":"action_requested","data":{"command":"!x","authorized":true}}"#, "no ``"),
];

#[tokio::test]
async fn whatever_is_refused_sends_nothing_and_says_why() {
    let fake = Fake::start([ok(TOKEN), ok(DONE)]).await;
    let destination = built(&fake.url, "");
    let with_command = built(&fake.url, "command = \"!firewall-drop\"");
    let mut cases = Vec::new();
    for (body, why) in ALERTS {
        cases.push((about(ASKED, Some(alert(1, *body))), *why));
    }
    for (body, why) in CALLBACKS {
        cases.push((about(body, Some(alert(1, ALERT))), *why));
    }
    cases.push((about(ASKED, None), "no alert that the log still has"));
    let lookup = event(1, EventKind::Lookup, ALERT);
    cases.push((about(ASKED, Some(lookup)), "no alert that the log still has"));
    cases.push((alert(1, ALERT), "no `command` is set"));
    cases.push((event(1, EventKind::Operator, ALERT), "asks for nothing"));
    let mut unparented = about(ASKED, Some(alert(1, ALERT)));
    let mut bare = (*unparented.event).clone();
    bare.parent = None;
    unparented.event = Arc::new(bare);
    cases.push((unparented, "not authorized"));
    for (member, why) in cases {
        let body = String::from_utf8_lossy(&member.event.body).into_owned();
        let error = destination.deliver(&shipment([member])).await.unwrap_err();
        assert_eq!(error.reason, Reason::Refused, "{body}");
        assert!(error.excerpt.contains(why), "{why}: {}", error.excerpt);
    }
    for (body, why) in ALERTS {
        let error = with_command.deliver(&shipment([alert(1, *body)])).await.unwrap_err();
        assert!(error.excerpt.contains(why), "{why}: {}", error.excerpt);
    }
    // The fake manager's address, where the operator lifts the usual list.
    let lifted = built("http://127.0.0.1:9", "never_block = []\ncommand = \"!firewall-drop\"");
    let own = ALERT.replace("203.0.113.77", "127.0.0.1");
    assert!(lifted.deliver(&shipment([alert(1, own)])).await.is_err());
    assert!(fake.seen().is_empty(), "nothing was asked");
}

#[tokio::test]
async fn a_dry_run_judges_and_sends_nothing() {
    let fake = Fake::start([ok(TOKEN)]).await;
    let destination = built(&fake.url, "dry_run = true\ncommand = \"!firewall-drop\"");
    let said = destination.deliver(&shipment([alert(1, ALERT)])).await.unwrap();
    let Delivered::All(receipt) = said else { panic!("one event") };
    assert!(
        receipt.remote_id.unwrap().starts_with("dry run, nothing was sent: !firewall-drop 203")
    );
    assert!(fake.seen().is_empty());
}

#[tokio::test]
async fn a_partial_failure_is_in_the_body_of_a_200() {
    #[rustfmt::skip]
    let table = [
        (1650, Reason::Misconfigured), (1652, Reason::Misconfigured), (1701, Reason::Refused),
        (1703, Reason::Refused), (1707, Reason::Refused), (1750, Reason::Refused),
        (1014, Reason::ServerFault), (4000, Reason::Forbidden),
    ];
    for (code, expected) in table {
        let said = json!({ "error": 1, "data": { "affected_items": [], "failed_items": [
            { "error": { "code": code, "message": "because" }, "id": ["001"] }] } });
        let fake = Fake::start([ok(TOKEN), ok(&said.to_string())]).await;
        let member = about(ASKED, Some(alert(1, ALERT)));
        let error = built(&fake.url, "").deliver(&shipment([member])).await.unwrap_err();
        assert_eq!(error.reason, expected, "{code}");
        assert!(error.excerpt.contains(&format!("agent 001, asked for by U123 in soc-slack, event abcdefghij-2: Wazuh's code {code}: because")), "{}", error.excerpt);
    }
    let fake = Fake::start([ok(TOKEN), ok(&DONE.replace("001", "002"))]).await;
    let member = about(ASKED, Some(alert(1, ALERT)));
    let error = built(&fake.url, "").deliver(&shipment([member])).await.unwrap_err();
    assert_eq!(error.reason, Reason::BadAnswer, "it speaks of another agent");
}

#[tokio::test]
async fn an_expired_token_is_renewed() {
    let no = Act::Say(answer("401 Unauthorized", "", "{}"));
    let fake = Fake::start([ok(TOKEN), no, ok(TOKEN), ok(DONE)]).await;
    let member = about(ASKED, Some(alert(1, ALERT)));
    assert!(built(&fake.url, "").deliver(&shipment([member])).await.is_ok());
    assert_eq!(fake.seen().len(), 4);
}

#[test]
fn an_unlisted_command_is_a_fault_of_the_configuration() {
    let base = "url = \"http://127.0.0.1:9\"\nuser = \"me\"\npassword = \"pass-word\"\n";
    let said = |more: &str| fault(&KIND, &format!("{base}{more}"), &context());
    assert!(said("").contains("`commands` is missing"));
    let listed = "commands = [\"!firewall-drop\"]\n";
    assert!(
        said(&format!("{listed}command = \"!reboot\"")).contains("`!reboot` is not in `commands`")
    );
    let requests = "requests = { block = \"!reboot\" }";
    assert!(said(&format!("{listed}{requests}")).contains("`!reboot` is not in `commands`"));
    assert!(said(&format!("{listed}never_block = [\"10.0.0.0/33\"]")).contains("10.0.0.0/33"));
}

#[test]
fn this_machines_addresses_are_read_from_the_kernels_lists() {
    let trie = "Main:\n  +-- 0.0.0.0/0 3 0 5\n     |-- 192.0.2.0\n        /24 link UNICAST\n     |-- 192.0.2.9\n        /32 host LOCAL\n     |-- 192.0.2.255\n        /32 link BROADCAST\n";
    assert_eq!(spared::local_v4(trie), ["192.0.2.9".parse::<std::net::IpAddr>().unwrap()]);
    let table = "20010db8000000000000000000000001 02 40 00 80     eth0\n";
    assert_eq!(spared::local_v6(table), ["2001:db8::1".parse::<std::net::IpAddr>().unwrap()]);
}
