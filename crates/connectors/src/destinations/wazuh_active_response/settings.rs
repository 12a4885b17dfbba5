//! What may be done, and against whom.

use std::{collections::BTreeMap, net::IpAddr};

use holdfast_model::settings::{Node, Section, Setting, Value};
use ipnet::IpNet;

use crate::{
    vendor,
    wazuh_api::{PASSWORD, URL, USER},
};

pub(super) const COMMANDS: Setting = Setting::optional(
    "commands",
    "[\"!firewall-drop\"]",
    "The commands that may be run, exactly as the Wazuh API takes them, at most 20. `!firewall-drop` starts that script on the agent, for good. `firewall-drop600` is a command of the manager's `ar.conf` with its timeout.",
);

pub(super) const COMMAND: Setting = Setting::optional(
    "command",
    "\"!firewall-drop\"",
    "What is run for an alert, or for a lookup's answer about one, that passes the lane. It must be in `commands`. Without it those are refused.",
);

pub(super) const REQUESTS: Setting = Setting::optional(
    "requests",
    "{ block = \"!firewall-drop\" }",
    "What is run for a callback that asks for something: the request's name and a command that is in `commands`. A name that is not here is refused.",
);

pub(super) const ADDRESS: Setting = Setting::new(
    "address",
    "[\"data.srcip\", \"data.win.eventdata.ipAddress\"]",
    "Where the alert has the address: fields by their dotted path, at most 10. The first that holds something counts.",
);

pub(super) const NEVER_BLOCK: Setting = Setting::new(
    "never_block",
    "[\"10.0.0.0/8\", \"172.16.0.0/12\", \"192.168.0.0/16\", \"100.64.0.0/10\", \"fc00::/7\"]",
    "Networks whose addresses are never given to a command, at most 1000. Default: the private ones. Always spared, whatever stands here: loopback, link-local, multicast and unspecified addresses, this machine's own, and those of the manager in `url`.",
);

pub(super) const ALLOW_MANAGER: Setting = Setting::new(
    "allow_manager",
    "false",
    "Whether agent 000, the manager itself, may be told to run something.",
);

pub(super) const DRY_RUN: Setting = Setting::new(
    "dry_run",
    "false",
    "Judge everything, send nothing, and say in the receipt what would have been sent.",
);

pub(super) const ALL: &[&Setting] = &[
    &URL,
    &USER,
    &PASSWORD,
    &COMMANDS,
    &COMMAND,
    &REQUESTS,
    &ADDRESS,
    &NEVER_BLOCK,
    &ALLOW_MANAGER,
    &DRY_RUN,
];

const COMMANDS_MAX: usize = 20;
const FIELDS_MAX: usize = 10;
const NETWORKS_MAX: usize = 1000;

#[derive(Clone, Debug)]
pub(super) struct Policy {
    pub(super) commands: Vec<String>,
    pub(super) command: Option<String>,
    pub(super) requests: BTreeMap<String, String>,
    pub(super) address: Vec<String>,
    pub(super) never_block: Vec<IpNet>,
    pub(super) allow_manager: bool,
    pub(super) dry_run: bool,
}

impl Policy {
    pub(super) fn read(section: &Section<'_>) -> Option<Self> {
        let commands = vendor::texts(section, &COMMANDS, COMMANDS_MAX);
        let command = section.text(&COMMAND).map(str::to_owned);
        let requests = requests(section);
        let address = vendor::texts(section, &ADDRESS, FIELDS_MAX);
        let networks = vendor::texts(section, &NEVER_BLOCK, NETWORKS_MAX);
        let allow_manager = section.bool(&ALLOW_MANAGER);
        let dry_run = section.bool(&DRY_RUN);
        let commands = commands?;
        if commands.is_empty() {
            section.fault("", format!("`{}` is missing: {}", COMMANDS.name, COMMANDS.doc));
        }
        let requests = requests?;
        let mut fit = !commands.is_empty();
        let used = command.iter().map(|command| (COMMAND.name, command));
        let used = used.chain(requests.values().map(|command| (REQUESTS.name, command)));
        for (key, command) in used {
            if !commands.contains(command) {
                section.fault(key, format!("`{command}` is not in `commands`"));
                fit = false;
            }
        }
        let given = |texts: Vec<String>, setting: &Setting| {
            if section.has(setting.name) { texts } else { listed(setting) }
        };
        let never_block = networks_of(section, &given(networks?, &NEVER_BLOCK));
        let address = given(address?, &ADDRESS);
        if address.is_empty() {
            section.fault(ADDRESS.name, "name at least one field");
            fit = false;
        }
        let never_block = never_block?;
        fit.then_some(Self {
            commands,
            command,
            requests,
            address,
            never_block,
            allow_manager,
            dry_run,
        })
    }
}

fn requests(section: &Section<'_>) -> Option<BTreeMap<String, String>> {
    let given = section.has(REQUESTS.name);
    let Some(table) = section.table(REQUESTS.name) else { return (!given).then(BTreeMap::new) };
    let mut fit = true;
    let mut requests = BTreeMap::new();
    for (name, Node { value, .. }) in table.entries() {
        if let Value::Text(command) = value {
            requests.insert(name.clone(), command.clone());
        } else {
            table.fault(name, "it must be a command in quotes");
            fit = false;
        }
    }
    fit.then_some(requests)
}

fn networks_of(section: &Section<'_>, texts: &[String]) -> Option<Vec<IpNet>> {
    let one = |text: &String| {
        let address = || text.parse::<IpAddr>().map(IpNet::from).ok();
        let network = text.parse::<IpNet>().ok().or_else(address);
        if network.is_none() {
            section.fault(NEVER_BLOCK.name, format!("`{text}` is not a network or an address"));
        }
        network
    };
    // All of them first, so that all faults are reported.
    let networks: Vec<_> = texts.iter().map(one).collect();
    networks.into_iter().collect()
}

/// The default of a list, as it is written.
fn listed(setting: &Setting) -> Vec<String> {
    let inner = setting.default.unwrap_or_default().trim_matches(['[', ']']);
    inner.split(',').map(|text| text.trim().trim_matches('"').to_owned()).collect()
}
