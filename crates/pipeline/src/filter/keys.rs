//! The keys of `when`, with what the manual says of them.

use holdfast_model::settings::Setting;

pub(super) const KIND: Setting = Setting::new(
    "kind",
    "\"alert\"",
    "Kinds of events that pass: alert, lookup, callback, canary, operator.",
);
pub(super) const LEVEL: Setting =
    Setting::optional("level", "10", "Least `rule.level` that passes, 0 to 16.");
pub(super) const LEVEL_MAX: Setting =
    Setting::optional("level_max", "12", "Highest `rule.level` that passes, 0 to 16.");
pub(super) const RULE_IDS: Setting =
    Setting::optional("rule_ids", "[\"5710\", \"100000-109999\"]", "Rule ids and ranges of them.");
pub(super) const NOT_RULE_IDS: Setting =
    Setting::optional("not_rule_ids", "[5710]", "Rule ids that do not pass.");
pub(super) const GROUPS: Setting =
    Setting::optional("groups", "[\"authentication_failed\"]", "Exact names out of `rule.groups`.");
pub(super) const NOT_GROUPS: Setting =
    Setting::optional("not_groups", "[\"sca\"]", "Groups whose alerts do not pass.");
pub(super) const GROUP_PATTERN: Setting = Setting::optional(
    "group_pattern",
    "\"^authentication|sshd\"",
    "A pattern for the names in `rule.groups`, in Wazuh's OSMatch syntax; one that fits is enough.",
);
pub(super) const GROUP_LINE: Setting = Setting::optional(
    "group_line",
    "\"sshd,|pci_dss_10\"",
    "A pattern for the groups as one line, as alerts.log has them: the names, then the compliance tags, a comma behind each. What `<group>` of a `<syslog_output>` is tried on.",
);
pub(super) const AGENTS: Setting = Setting::optional(
    "agents",
    "[\"001\", \"web-*\"]",
    "Agent ids, or names in which `*` stands for anything.",
);
pub(super) const NOT_AGENTS: Setting =
    Setting::optional("not_agents", "[\"lab-*\"]", "Agents whose alerts do not pass.");
pub(super) const LOCATION: Setting = Setting::optional(
    "location",
    "\"^/var/log|syscheck\"",
    "A pattern for `location` in Wazuh's OSMatch syntax: `^`, `$`, `|`, a leading `!`.",
);
pub(super) const NOT_LOCATION: Setting =
    Setting::optional("not_location", "\"osquery\"", "Locations that do not pass.");

pub(super) const DECODERS: Setting =
    Setting::optional("decoders", "[\"sshd\"]", "Exact names of `decoder.name`.");
pub(super) const NOT_DECODERS: Setting =
    Setting::optional("not_decoders", "[\"json\"]", "Decoders whose alerts do not pass.");
pub(super) const MITRE: Setting = Setting::optional(
    "mitre",
    "[\"T1110\"]",
    "MITRE ATT&CK techniques out of `rule.mitre.id`; a technique stands for its sub-techniques too.",
);
pub(super) const NOT_MITRE: Setting =
    Setting::optional("not_mitre", "[\"T1078\"]", "Techniques that do not pass.");
pub(super) const AGENT_GROUPS: Setting = Setting::optional(
    "agent_groups",
    "[\"linux\"]",
    "Groups of the agent, from its label `group` (`agent.labels.group`): a name or several with commas.",
);
pub(super) const NOT_AGENT_GROUPS: Setting =
    Setting::optional("not_agent_groups", "[\"lab\"]", "Agent groups that do not pass.");
pub(super) const INTEGRATION: Setting = Setting::optional(
    "integration",
    "[\"virustotal\"]",
    "What an integration put into Wazuh: exact values of `data.integration`.",
);
pub(super) const NOT_INTEGRATION: Setting =
    Setting::optional("not_integration", "[\"virustotal\"]", "Integrations that do not pass.");
pub(super) const WHERE: Setting = Setting::optional(
    "where",
    "\"alert.data.srcip.startsWith('203.0.113.') && event.kind == 'alert'\"",
    "A condition in CEL over `alert` (Wazuh's JSON) and `event` (`seq`, `kind`, `source`, `integration`, `received_at`). When it errs, the event passes and is counted. At most 8 KiB, and two loops inside one another.",
);

/// The keys of `when`.
pub const SETTINGS: &[&Setting] = &[
    &KIND,
    &LEVEL,
    &LEVEL_MAX,
    &RULE_IDS,
    &NOT_RULE_IDS,
    &GROUPS,
    &NOT_GROUPS,
    &GROUP_PATTERN,
    &GROUP_LINE,
    &AGENTS,
    &NOT_AGENTS,
    &LOCATION,
    &NOT_LOCATION,
    &DECODERS,
    &NOT_DECODERS,
    &MITRE,
    &NOT_MITRE,
    &AGENT_GROUPS,
    &NOT_AGENT_GROUPS,
    &INTEGRATION,
    &NOT_INTEGRATION,
    &WHERE,
];
