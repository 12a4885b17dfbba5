//! How each destination that speaks HTTP is set up against a fake far end, and what that answers
//! when all is well.

use std::{sync::Arc, time::Duration};

use holdfast_model::Destination;

use super::{server::Server, type_of};
use crate::{
    destinations::{CATALOG, Context, Kind},
    testing::{build, context},
};

pub(super) struct Case {
    /// The type, and behind a dot what of it.
    pub(super) name: &'static str,
    /// The table's body; `URL` stands for the far end's address.
    table: &'static str,
    /// How the line of the request begins that carries the event.
    pub(super) subject: &'static str,
    /// Its answer; `KEY` stands for the event's key.
    pub(super) success: (&'static str, &'static str),
    /// What else is asked, and what is answered with 200.
    pub(super) beside: &'static [(&'static str, &'static str)],
}

const OK: &str = "200 OK";
const CREATED: &str = "201 Created";
const ACCEPTED: &str = "202 Accepted";
const RECORD: &str =
    r#"{"result":{"sys_id":"9d385017c611228701d22104cc95c371","number":"INC0010002"}}"#;

const WAZUH_LOGIN: (&str, &str) =
    ("POST /security/user/authenticate ", r#"{"data":{"token":"jwt-one-0123456789"},"error":0}"#);

#[rustfmt::skip]
pub(super) const ALL: &[Case] = &[
    Case { name: "webhook", table: "url = \"URL/x\"",
        subject: "POST /x ", success: (OK, "fine"), beside: &[] },
    Case { name: "slack.webhook", table: "webhook_url = \"URL/services/T0/B0/x\"",
        subject: "POST /services/", success: (OK, "ok"), beside: &[] },
    Case { name: "slack.bot", table: "token = \"xoxb-0123456789\"\nchannel = \"C0123456789\"\napi_url = \"URL\"\ngroup = \"problem\"",
        subject: "POST /chat.postMessage ", success: (OK, r#"{"ok":true,"channel":"C0123456789","ts":"1503435956.000247"}"#), beside: &[] },
    Case { name: "teams", table: "url = \"URL/workflows/x?sig=0123456789\"",
        subject: "POST /workflows/", success: (ACCEPTED, ""), beside: &[] },
    Case { name: "discord", table: "url = \"URL/api/v10/webhooks/1/token\"",
        subject: "POST /api/v10/webhooks/1/token?wait=true ", success: (OK, r#"{"id":"1234"}"#), beside: &[] },
    Case { name: "mattermost", table: "url = \"URL/hooks/key\"",
        subject: "POST /hooks/key ", success: (OK, "ok"), beside: &[] },
    Case { name: "telegram", table: "token = \"123456789:abcdefghijkl\"\nchat_id = -1001234567890\napi_url = \"URL\"",
        subject: "POST /bot123456789:abcdefghijkl/sendMessage ", success: (OK, r#"{"ok":true,"result":{"message_id":7}}"#), beside: &[] },
    Case { name: "pagerduty", table: "routing_key = \"0123456789abcdef0123456789abcdef\"\nurl = \"URL/v2/enqueue\"",
        subject: "POST /v2/enqueue ", success: (ACCEPTED, r#"{"status":"success","message":"Event processed","dedup_key":"KEY"}"#), beside: &[] },
    Case { name: "opsgenie", table: "api_key = \"0123456789abcdef\"\nurl = \"URL/v2/alerts\"\nresponders = [\"team:soc\", \"user:a@example.org\"]",
        subject: "POST /v2/alerts ", success: (ACCEPTED, r#"{"result":"Request will be processed","took":0.1,"requestId":"r-1"}"#), beside: &[] },
    Case { name: "alertmanager", table: "url = \"URL\"",
        subject: "POST /api/v2/alerts ", success: (OK, ""), beside: &[] },
    Case { name: "jira.cloud", table: "url = \"URL\"\nemail = \"a@example.org\"\ntoken = \"0123456789abcdef\"\nproject = \"SEC\"\nseverity = { high = \"High\" }",
        subject: "POST /rest/api/3/issue ", success: (CREATED, r#"{"id":"10000","key":"SEC-24","self":"http://x"}"#), beside: &[] },
    Case { name: "jira.server", table: "url = \"URL\"\nversion = \"server\"\ntoken = \"0123456789abcdef\"\nproject = \"SEC\"",
        subject: "POST /rest/api/2/issue ", success: (CREATED, r#"{"id":"10000","key":"SEC-24","self":"http://x"}"#), beside: &[] },
    Case { name: "servicenow.incident", table: "url = \"URL\"\nuser = \"me\"\npassword = \"pass-word\"",
        subject: "POST /api/now/table/incident ", success: (CREATED, RECORD), beside: &[] },
    Case { name: "servicenow.security", table: "url = \"URL\"\nuser = \"me\"\npassword = \"pass-word\"\ntable = \"sn_si_incident\"",
        subject: "POST /api/now/table/sn_si_incident ", success: (CREATED, RECORD), beside: &[] },
    Case { name: "servicenow.oauth", table: "url = \"URL\"\nclient_id = \"c1\"\nclient_secret = \"secret-one\"",
        subject: "POST /api/now/table/incident ", success: (CREATED, RECORD),
        beside: &[("POST /oauth_token.do ", r#"{"access_token":"token-one","token_type":"Bearer","expires_in":1799}"#)] },
    Case { name: "servicenow.import", table: "url = \"URL\"\nuser = \"me\"\npassword = \"pass-word\"\nimport_set = \"u_staging\"",
        subject: "POST /api/now/import/u_staging ",
        success: (CREATED, r#"{"result":[{"transform_map":"m","table":"incident","status":"inserted","sys_id":"9d385017c611228701d22104cc95c371"}]}"#), beside: &[] },
    Case { name: "servicenow.event", table: "url = \"URL\"\nuser = \"me\"\npassword = \"pass-word\"\ntable = \"em_event\"",
        subject: "POST /api/global/em/jsonv2 ", success: (OK, r#"{"result":{"Default Bulk Endpoint":"1 events were inserted"}}"#), beside: &[] },
    Case { name: "shuffle", table: "url = \"URL/api/v1/hooks/webhook_00000000-1111-2222-3333-444444444444\"",
        subject: "POST /api/v1/hooks/", success: (OK, r#"{"success":true,"execution_id":"9f0e1c4e"}"#), beside: &[] },
    Case { name: "thehive.5", table: "url = \"URL\"\napi_key = \"0123456789abcdef\"\norganisation = \"soc\"",
        subject: "POST /api/v1/alert ", success: (CREATED, r#"{"_id":"~987889880","_type":"Alert"}"#), beside: &[] },
    Case { name: "thehive.4", table: "url = \"URL\"\napi_key = \"0123456789abcdef\"\nversion = \"4\"",
        subject: "POST /api/alert ", success: (CREATED, r#"{"_id":"~987889880","id":"~987889880"}"#), beside: &[] },
    Case { name: "xsoar.8", table: "url = \"URL\"\napi_key = \"secret-key\"\nkey_id = \"7\"\nkey_field = \"holdfastkey\"",
        subject: "POST /incident ", success: (OK, r#"{"id":"1234","version":1}"#), beside: &[] },
    Case { name: "xsoar.6", table: "url = \"URL\"\napi_key = \"secret-key\"\nversion = \"6\"\nkey_field = \"holdfastkey\"",
        subject: "POST /incident ", success: (OK, r#"{"id":"1234","version":1}"#), beside: &[] },
    Case { name: "misp", table: "url = \"URL\"\napi_key = \"0123456789abcdef0123456789abcdef01234567\"\ntags = [\"tlp:amber\"]",
        subject: "POST /events/add ", success: (OK, r#"{"Event":{"id":"123","uuid":"x"}}"#),
        beside: &[("POST /warninglists/checkValue ", "[]")] },
    Case { name: "misp.sighting", table: "url = \"URL\"\napi_key = \"0123456789abcdef0123456789abcdef01234567\"\ncreate = \"sighting\"",
        subject: "POST /sightings/add ", success: (OK, r#"{"Sighting":{"id":"5"}}"#), beside: &[] },
    Case { name: "opencti.incident", table: "url = \"URL\"\ntoken = \"11111111-2222-4333-8444-555555555555\"\nlabels = [\"wazuh\"]",
        subject: "POST /graphql ", success: (OK, r#"{"data":{"incidentAdd":{"id":"8a1f","standard_id":"incident--x"}}}"#), beside: &[] },
    Case { name: "opencti.indicator", table: "url = \"URL\"\ntoken = \"11111111-2222-4333-8444-555555555555\"\ncreate = \"indicator\"",
        subject: "POST /graphql ", success: (OK, r#"{"data":{"indicatorAdd":{"id":"8a1f","standard_id":"indicator--x"}}}"#), beside: &[] },
    Case { name: "opencti.bundle", table: "url = \"URL\"\ntoken = \"11111111-2222-4333-8444-555555555555\"\ncreate = \"bundle\"\nconnector_id = \"f005a115-1139-491a-a1e6-7f93971648f3\"",
        subject: "POST /graphql ", success: (OK, r#"{"data":{"stixBundlePush":true}}"#), beside: &[] },
    Case { name: "splunk_hec", table: "url = \"URL\"\ntoken = \"12345678-1234-1234-1234-1234567890ab\"\nindex = \"wazuh\"\ngzip = false",
        subject: "POST /services/collector/event ", success: (OK, r#"{"text":"Success","code":0}"#), beside: &[] },
    Case { name: "splunk_hec.ack", table: "url = \"URL\"\ntoken = \"12345678-1234-1234-1234-1234567890ab\"\nacknowledge = true\ngzip = false",
        subject: "POST /services/collector/event ", success: (OK, r#"{"text":"Success","code":0,"ackId":7}"#),
        beside: &[("POST /services/collector/ack ", r#"{"acks":{"7":true}}"#)] },
    Case { name: "elasticsearch", table: "url = \"URL\"\napi_key = \"0123456789abcdef\"\ngzip = false\nindex = \"alerts-{date}\"",
        subject: "POST /_bulk", success: (OK, r#"{"errors":false,"items":[{"create":{"_index":"i","_id":"KEY","status":201}}]}"#), beside: &[] },
    Case { name: "wazuh_events", table: "url = \"URL\"\nuser = \"me\"\npassword = \"pass-word\"",
        subject: "POST /events ", success: (OK, r#"{"message":"The events were forwarded to analisysd","error":0}"#),
        beside: &[WAZUH_LOGIN] },
    Case { name: "wazuh_active_response", table: "url = \"URL\"\nuser = \"me\"\npassword = \"pass-word\"\ncommands = [\"!firewall-drop\"]\ncommand = \"!firewall-drop\"",
        subject: "PUT /active-response?agents_list=0", success: (OK, r#"{"data":{"affected_items":["001","002","003","004","005","006","007"],"failed_items":[]},"error":0}"#),
        beside: &[WAZUH_LOGIN] },
];

// === impl Case ===

impl Case {
    #[track_caller]
    pub(super) fn of(name: &str) -> &'static Self {
        ALL.iter().find(|case| case.name == name).unwrap_or_else(|| panic!("no case `{name}`"))
    }

    pub(super) fn destination(&self, server: &Server, timeout: Duration) -> Arc<dyn Destination> {
        let table = self.table.replace("URL", &server.url);
        let built = build(kind(self.name), &table, &Context { timeout, ..context() });
        built.unwrap_or_else(|faults| panic!("{}: {faults:?}", self.name))
    }
}

#[track_caller]
pub(super) fn kind(name: &str) -> &'static Kind {
    let found = CATALOG.iter().find(|kind| kind.name == type_of(name));
    found.unwrap_or_else(|| panic!("`{name}` is not in the catalogue"))
}
