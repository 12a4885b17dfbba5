//! The calls that are compared, and what is known to differ.

use crate::support::Request;

/// One call of one vendor.
pub(super) struct Call {
    /// What `drive.py` knows it by, and the destination's name.
    pub(super) name: &'static str,
    /// The client's package.
    pub(super) client: &'static str,
    /// Whether the test fails where it is not installed.
    pub(super) required: bool,
    /// The destination's table; `{url}` is the receiver.
    pub(super) destination: &'static str,
    /// How its path begins, and what its body holds.
    path: &'static str,
    body: &'static str,
    /// Headers whose values must be the same.
    pub(super) headers: &'static [&'static str],
    /// A name that may stand around the whole body.
    pub(super) wrapper: &'static str,
    /// How many members of the body both set at least.
    pub(super) agreed_min: usize,
    /// What differs, and why that is right.
    pub(super) differences: &'static [(&'static str, &'static str)],
}

// === impl Call ===

impl Call {
    pub(super) fn is_made_by(&self, request: &Request) -> bool {
        request.path.starts_with(self.path) && request.text().contains(self.body)
    }
}

const AUTH: &[&str] = &["authorization"];

const PLAIN: Call = Call {
    name: "",
    client: "",
    required: true,
    destination: "",
    path: "/",
    body: "",
    headers: AUTH,
    wrapper: "",
    agreed_min: 0,
    differences: &[],
};

pub(super) const CALLS: &[Call] = &[
    Call {
        name: "pagerduty",
        client: "pagerduty",
        destination: "type = \"pagerduty\"\nurl = \"{url}/v2/enqueue\"\nrouting_key = \"0123456789abcdef0123456789abcdef\"",
        agreed_min: 15,
        ..PLAIN
    },
    Call {
        name: "opsgenie",
        client: "opsgenie-sdk",
        destination: "type = \"opsgenie\"\nurl = \"{url}/v2/alerts\"\napi_key = \"00000000-1111-2222-3333-444444444444\"\nresponders = [\"team:SOC\"]",
        agreed_min: 15,
        ..PLAIN
    },
    Call {
        name: "jira-cloud",
        client: "jira",
        destination: "type = \"jira\"\nurl = \"{url}\"\nversion = \"cloud\"\nemail = \"holdfast@example.com\"\ntoken = \"jira-secret\"\nproject = \"SEC\"\nissue_type = \"Task\"",
        agreed_min: 19,
        ..PLAIN
    },
    Call {
        name: "jira-server",
        client: "jira",
        destination: "type = \"jira\"\nurl = \"{url}\"\nversion = \"server\"\ntoken = \"jira-secret\"\nproject = \"SEC\"\nissue_type = \"Task\"",
        agreed_min: 10,
        ..PLAIN
    },
    Call {
        name: "thehive",
        client: "thehive4py",
        destination: "type = \"thehive\"\nurl = \"{url}\"\napi_key = \"thehive-secret\"\norganisation = \"soc\"",
        headers: &["authorization", "x-organisation"],
        agreed_min: 19,
        ..PLAIN
    },
    Call {
        name: "misp-event",
        client: "pymisp",
        destination: "type = \"misp\"\nurl = \"{url}\"\napi_key = \"misp-secret\"\ntags = [\"tlp:amber\"]",
        path: "/events/add",
        headers: &["authorization", "accept"],
        wrapper: "Event",
        agreed_min: 21,
        differences: &[("wrapper", "MISP takes an event with or without its name around it")],
        ..PLAIN
    },
    Call {
        name: "misp-sighting",
        client: "pymisp",
        destination: "type = \"misp\"\nurl = \"{url}\"\napi_key = \"misp-secret\"\ncreate = \"sighting\"",
        path: "/sightings/add",
        headers: &["authorization", "accept"],
        agreed_min: 6,
        ..PLAIN
    },
    Call {
        name: "misp-warninglists",
        client: "pymisp",
        destination: "type = \"misp\"\nurl = \"{url}\"\napi_key = \"misp-secret\"",
        path: "/warninglists/checkValue",
        headers: &["authorization", "accept"],
        agreed_min: 2,
        ..PLAIN
    },
    Call {
        name: "opencti-incident",
        client: "pycti",
        destination: "type = \"opencti\"\nurl = \"{url}\"\ntoken = \"11111111-2222-4333-8444-555555555555\"\nlabels = [\"wazuh\"]",
        agreed_min: 18,
        ..PLAIN
    },
    Call {
        name: "opencti-indicator",
        client: "pycti",
        destination: "type = \"opencti\"\nurl = \"{url}\"\ntoken = \"11111111-2222-4333-8444-555555555555\"\nlabels = [\"wazuh\"]\ncreate = \"indicator\"",
        agreed_min: 17,
        ..PLAIN
    },
    Call {
        name: "opencti-sighting",
        client: "pycti",
        destination: "type = \"opencti\"\nurl = \"{url}\"\ntoken = \"11111111-2222-4333-8444-555555555555\"\nlabels = [\"wazuh\"]\ncreate = \"sighting\"",
        body: "stixSightingRelationshipAdd",
        agreed_min: 16,
        ..PLAIN
    },
    Call {
        name: "slack-bot",
        client: "slack_sdk",
        destination: "type = \"slack\"\napi_url = \"{url}/api\"\ntoken = \"slack-secret-token\"\nchannel = \"C0123456789\"",
        agreed_min: 17,
        ..PLAIN
    },
    Call {
        name: "slack-webhook",
        client: "slack_sdk",
        destination: "type = \"slack\"\nwebhook_url = \"{url}/services/T0/B0/x\"",
        agreed_min: 11,
        ..PLAIN
    },
    Call {
        name: "telegram",
        client: "python-telegram-bot",
        destination: "type = \"telegram\"\napi_url = \"{url}\"\ntoken = \"123456789:telegram-secret\"\nchat_id = -1001234567890",
        agreed_min: 2,
        differences: &[
            ("content-type", "Telegram takes JSON and forms"),
            ("type of .chat_id", "a form has only texts"),
            ("type of .link_preview_options", "a form has only texts"),
        ],
        ..PLAIN
    },
    Call {
        name: "elasticsearch",
        client: "elasticsearch",
        destination: "type = \"elasticsearch\"\nurl = \"{url}\"\nindex = \"holdfast-alerts\"\ngzip = false\napi_key = \"ZWxhc3RpYzpzZWNyZXQ=\"",
        agreed_min: 8,
        differences: &[
            ("method", "_bulk takes POST and PUT"),
            (
                "content-type",
                "the type of the client's own version; every version takes the plain one",
            ),
            ("query", "filter_path only shortens the answer"),
        ],
        ..PLAIN
    },
    Call {
        name: "opensearch",
        client: "opensearch-py",
        destination: "type = \"elasticsearch\"\nurl = \"{url}\"\nindex = \"holdfast-alerts\"\ngzip = false\nuser = \"holdfast\"\npassword = \"opensearch-secret\"",
        agreed_min: 8,
        differences: &[
            ("content-type", "both are taken; the body is NDJSON"),
            ("query", "filter_path only shortens the answer"),
        ],
        ..PLAIN
    },
    Call {
        name: "splunk",
        client: "splunk-hec-handler",
        destination: "type = \"splunk_hec\"\nurl = \"{url}\"\ntoken = \"12345678-1234-1234-1234-1234567890ab\"\nindex = \"wazuh\"\ngzip = false",
        agreed_min: 11,
        differences: &[("content-type", "the collector does not look at it")],
        ..PLAIN
    },
    Call {
        name: "xsoar-6",
        client: "demisto-py",
        destination: "type = \"xsoar\"\nurl = \"{url}\"\nversion = \"6\"\napi_key = \"xsoar-secret\"\nincident_type = \"Wazuh Alert\"\nkey_field = \"holdfastkey\"",
        agreed_min: 13,
        ..PLAIN
    },
    Call {
        name: "xsoar-8",
        client: "demisto-py",
        destination: "type = \"xsoar\"\nurl = \"{url}/xsoar\"\nversion = \"8\"\napi_key = \"xsoar-secret\"\nkey_id = \"7\"\nkey_type = \"standard\"\nincident_type = \"Wazuh Alert\"\nkey_field = \"holdfastkey\"",
        headers: &["authorization", "x-xdr-auth-id"],
        agreed_min: 11,
        ..PLAIN
    },
    Call {
        name: "servicenow",
        client: "pysnow",
        required: false,
        destination: "type = \"servicenow\"\nurl = \"{url}\"\nuser = \"holdfast\"\npassword = \"servicenow-secret\"\ntable = \"incident\"\nfields = { category = \"security\" }",
        headers: &["authorization", "accept"],
        agreed_min: 8,
        differences: &[("query", "pysnow's paging, which means nothing to a creation")],
        ..PLAIN
    },
    Call {
        name: "discord",
        client: "discord-webhook",
        destination: "type = \"discord\"\nurl = \"{url}/api/webhooks/1/discord-secret\"",
        agreed_min: 11,
        differences: &[("query", "true as Python writes it")],
        ..PLAIN
    },
];
