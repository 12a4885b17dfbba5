//! `<syslog_output>`, and what Wazuh mails, as destinations. Pure.

use super::{
    Draft,
    blocks::{EmailAlerts, Global, SyslogOutput},
    table::{Groups, Table, plain, quoted},
};

/// What `rule.mail` says, which Wazuh sets from `<email_alert_level>` and the rules' options.
const MAILED: &str = "where = \"has(alert.rule) && has(alert.rule.mail) && alert.rule.mail\"";

pub(super) fn syslog(draft: &mut Draft<'_>, block: &SyslogOutput, line: usize) {
    let mut table = Table::new(draft.name("syslog"), "syslog");
    table.note(format!("<syslog_output> of {}", draft.at(line)));
    let SyslogOutput { server, port, format, fqdn, when } = block;
    let host = if server.contains(':') { format!("[{server}]") } else { server.clone() };
    table.text("address", &format!("{host}:{port}"));
    table.note("Wazuh knows UDP alone, which loses without a word. Where the receiver has it, take \"relp\" or \"tls\".");
    table.text("transport", "udp");
    let (layout, groups) = match format.as_str() {
        "json" => ("wazuh_json", Groups::Each),
        "cef" => ("wazuh_cef", Groups::Line),
        "splunk" => ("wazuh_splunk", Groups::Line),
        _ => ("wazuh", Groups::Line),
    };
    table.text("format", layout);
    if *fqdn {
        table.note("<use_fqdn>yes: the header has the manager's name as the alert has it; set `hostname` for another one.");
    }
    table.when(when, groups, &[]);
    draft.tables.push(table);
}

/// One destination for the mails to everybody, and one for each `<email_alerts>`.
pub(super) fn mails(draft: &mut Draft<'_>, global: &Global, blocks: &[(EmailAlerts, String)]) {
    if !global.mails {
        if !blocks.is_empty() {
            draft.remark(
                "<email_alerts> without <email_notification>yes sends nothing, and is left out.",
            );
        }
        return;
    }
    let server = global.server.as_deref().unwrap_or_default().trim().to_owned();
    if server.is_empty() || server.starts_with('/') || global.from.is_none() {
        draft.remark("Mails are left out: `email` speaks SMTP to a server, and needs <smtp_server> as a name and <email_from>.");
        return;
    }
    if !global.to.is_empty() {
        let mut table = email(draft, global, &server, &global.to);
        table.note("What wazuh-maild sends to everybody in <global>");
        if let Some(count) = global.max_per_hour.filter(|count| *count > 0) {
            table.note("Above <email_maxperhour> Wazuh puts alerts into one mail; here they wait. `digest` sums up what is alike.");
            table.text("rate", &format!("{count}/h"));
        }
        table.set("when", format!("{{ {MAILED} }}"));
        draft.tables.push(table);
    }
    for (block, at) in blocks {
        let mut table = email(draft, global, &server, std::slice::from_ref(&block.to));
        table.note(format!("<email_alerts> of {at}"));
        if !block.others.is_empty() {
            let others = block.others.join(", ");
            table.note(format!(
                "Without a counterpart: {others}. Each alert is a mail of its own, sent at once."
            ));
        }
        let mut when = block.when.clone();
        if when.location.take().is_some() {
            table.note("<event_location> is left out, so this may send more: there it names agents and hosts too, here say `agents` and `location`.");
        }
        table.when(&when, Groups::Line, &[MAILED.to_owned()]);
        draft.tables.push(table);
    }
}

fn email(draft: &mut Draft<'_>, global: &Global, server: &str, to: &[String]) -> Table {
    let mut table = Table::new(draft.name("email"), "email");
    // `host:port` is how newer versions of Wazuh name another port.
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !host.contains(':') && port.parse::<u16>().is_ok() => (host, port),
        _ => (server, "25"),
    };
    table.text("host", host);
    table.set("port", port);
    table.note("Wazuh mails in the clear; take tls = \"starttls\" where the server has it.");
    table.text("tls", "none");
    table.text("from", global.from.as_deref().unwrap_or_default().trim());
    let to: Vec<String> = to.iter().map(|address| quoted(address.trim())).collect();
    table.set("to", format!("[{}]", to.join(", ")));
    table
}

/// What the file says besides, that a person should know of.
pub(super) fn remarks(draft: &mut Draft<'_>, global: &Global) {
    if global.no_json {
        draft.remark("<jsonout_output> is `no`, so Wazuh writes no alerts.json: set it to `yes`, or nothing comes in.");
    }
    if let Some(socket) = &global.forward_to {
        let socket = plain(socket);
        draft.remark(format!("<forward_to> {socket} has no counterpart here and stays in ossec.conf; what it sends is in alerts.json too."));
    }
}
