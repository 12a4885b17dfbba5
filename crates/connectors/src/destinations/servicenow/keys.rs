//! ServiceNow's keys of the configuration.

use holdfast_model::settings::Setting;

use crate::{callback, message, vendor};

pub(super) const ALL: &[&Setting] = &[
    &URL,
    &USER,
    &PASSWORD,
    &CLIENT_ID,
    &CLIENT_SECRET,
    &TABLE,
    &IMPORT_SET,
    &IMPORT_PREFIX,
    &DISPLAY,
    &FIELDS,
    &SEVERITY,
    &CLOSE_STATE,
    &CLOSE_CODE,
    &CLOSE_NOTES,
    &CLOSED_STATES,
    &vendor::SEARCH_LAG,
    &message::GROUP,
    &message::RESOLVED_BY,
    &message::TEMPLATE,
    &callback::SHARED,
];

pub(super) const URL: Setting = Setting::optional(
    "url",
    "\"https://example.service-now.com\"",
    "The instance, without `/api`.",
);

pub(super) const USER: Setting = Setting::optional(
    "user",
    "\"holdfast\"",
    "A user of the instance without multi-factor login, for basic authentication, with `password`.",
);

pub(super) const PASSWORD: Setting = Setting::optional(
    "password",
    "{ file = \"/etc/holdfast/secrets/servicenow\" }",
    "The user's password. A secret.",
);

pub(super) const CLIENT_ID: Setting = Setting::optional(
    "client_id",
    "\"0123456789abcdef0123456789abcdef\"",
    "An OAuth application's id, for client credentials instead of a user, with `client_secret`.",
);

pub(super) const CLIENT_SECRET: Setting = Setting::optional(
    "client_secret",
    "{ file = \"/etc/holdfast/secrets/servicenow-client\" }",
    "The OAuth application's secret. A secret.",
);

pub(super) const TABLE: Setting = Setting::new(
    "table",
    "\"incident\"",
    "What an event becomes: \"incident\", \"sn_si_incident\" (Security Incident Response) or \"em_event\" (Event Management).",
);

pub(super) const IMPORT_SET: Setting = Setting::optional(
    "import_set",
    "\"u_staging\"",
    "A staging table: rows go there, and its transform map makes incidents of them. It must coalesce on the correlation id, or a lost answer can make a second one.",
);

pub(super) const IMPORT_PREFIX: Setting = Setting::new(
    "import_prefix",
    "\"u_\"",
    "What stands before each column's name in the staging table; may be empty.",
);

pub(super) const DISPLAY: Setting = Setting::new(
    "correlation_display",
    "\"holdfast\"",
    "The records' `correlation_display`, or the events' `event_class`, 1 to 100 characters.",
);

pub(super) const FIELDS: Setting = Setting::optional(
    "fields",
    "{ assignment_group = \"d625dccec0a8016700a222a0f7900d06\", category = \"security\" }",
    "More fields of a new record, by column name; they replace what Holdfast writes there. References are sys_ids.",
);

pub(super) const SEVERITY: Setting = Setting::optional(
    "severity",
    "{ low = 3, medium = 2, high = 2, critical = 1 }",
    "The number for each severity. Of incidents it is impact and urgency, 1 (high) to 3. Of em_event it is the severity, 1 (critical) to 5 (OK), by default 4, 3, 2, 1.",
);

pub(super) const CLOSE_STATE: Setting = Setting::optional(
    "close_state",
    "\"6\"",
    "The state that `resolved_by` sets, a whole number. Default: \"6\" (Resolved), of sn_si_incident \"3\" (Closed).",
);

pub(super) const CLOSE_CODE: Setting = Setting::new(
    "close_code",
    "\"Solution provided\"",
    "The `close_code` that `resolved_by` sets. Choices differ between releases.",
);

pub(super) const CLOSE_NOTES: Setting = Setting::optional(
    "close_notes",
    "\"Wazuh saw the problem end.\"",
    "The `close_notes` that `resolved_by` sets. Default: the title and id of the event that ended it.",
);

pub(super) const CLOSED_STATES: Setting = Setting::optional(
    "closed_states",
    "[\"6\", \"7\", \"8\"]",
    "States in which a record is no longer open. Default: 6, 7 and 8, of sn_si_incident 3 and 7.",
);
