//! A receiver whose certificate is wrong gets nothing: the lane is parked with all its events, says
//! why, and goes on when the certificate is right.

use std::fs;

use super::{
    certificates::{Authority, NAME},
    rsyslog::{Rsyslog, has_all, lane, relp_tls, tls},
};
use crate::support::{Config, Gateway, alerts};

const ALERTS: u64 = 30;

/// Beside the alerts the log may hold events about the lanes' own trouble.
fn keeps_all(gateway: &mut Gateway, lane: &str) {
    gateway
        .wait_for_lane(lane, "kept all", |lane| lane["ledger"]["pending"].as_u64() >= Some(ALERTS));
}

#[test]
fn a_wrong_certificate_is_refused_with_a_clear_error_and_costs_nothing() {
    let mut config = Config::new();
    let (ours, strangers) = (Authority::new("ours"), Authority::new("a stranger"));
    let folder = config.folder().to_owned();
    fs::write(folder.join("ca.pem"), &ours.pem).unwrap();
    // What is wrong, and the words that a person is told.
    let cases = [
        (
            "untrusted",
            &strangers,
            vec![NAME, "127.0.0.1"],
            false,
            ["UnknownIssuer", "unknown issuer"],
        ),
        (
            "wrong-name",
            &ours,
            vec!["other.example"],
            false,
            ["NotValidForName", "not valid for name"],
        ),
        ("expired", &ours, vec![NAME, "127.0.0.1"], true, ["Expired", "expired"]),
    ];
    // Ours is right: what is refused is the receiver's.
    ours.sign(&["holdfast.example"], false, &folder, "client");
    let trust = format!(
        "ca = \"{0}/ca.pem\"\nserver_name = \"{NAME}\"\n\
         client_certificate = \"{0}/client.pem\"\nclient_key = \"{0}/client.key\"",
        folder.display()
    );
    let mut receivers = Vec::new();
    for (name, authority, names, expired, words) in &cases {
        let place = folder.join(name);
        fs::create_dir(&place).unwrap();
        fs::write(place.join("ca.pem"), &ours.pem).unwrap();
        authority.sign(names, *expired, &place, "server");
        let kinds = [("tls", tls("gtls", &place)), ("relp_tls", relp_tls(&place))];
        for (transport, [modules, inputs]) in kinds {
            let lane_name = format!("{name}-{}", transport.replace('_', "-"));
            let rsyslog = Rsyslog::start(&place.join(transport), &modules, &inputs);
            let keys = format!("transport = \"{transport}\"\n{trust}");
            config = config.table(&lane(&lane_name, rsyslog.port, &keys));
            receivers.push((lane_name, rsyslog, *words, place.clone()));
        }
    }
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..ALERTS));
    for (name, rsyslog, words, _) in &receivers {
        gateway.wait_for_state(name, "config_failed");
        keeps_all(&mut gateway, name);
        let lane = gateway.lane(name);
        assert_eq!(lane["ledger"]["dead"], 0, "{name}");
        let reason = lane["reason"].as_str().unwrap_or_default().to_owned();
        println!("{name}: {reason}");
        assert!(words.iter().any(|word| reason.contains(word)), "{name}: {reason}");
        assert!(rsyslog.lines().is_empty(), "{name} was sent something");
    }
    let status = gateway.cli(&["status"]);
    println!("{}", status.out);
    for (name, _, words, _) in &receivers {
        let line = status.out.lines().find(|line| line.contains(name.as_str())).unwrap_or_default();
        let says = line.contains("config_failed") && words.iter().any(|word| line.contains(word));
        assert!(says, "{name}: {status:?}");
    }

    // The receiver's administrator mends it, and nothing else is done.
    for (name, rsyslog, _, place) in &mut receivers {
        ours.sign_good(place, "server");
        rsyslog.server.terminate();
        rsyslog.server.begin();
        gateway.wait_for_term(name, "delivered", ALERTS);
        has_all(name, rsyslog, ALERTS);
    }
    gateway.finish();
}

/// A receiver that wants a certificate of ours and gets none takes nothing, and no event counts as
/// delivered.
#[test]
fn a_receiver_that_wants_our_certificate_and_gets_none_makes_no_delivery() {
    let mut config = Config::new();
    let (ours, strangers) = (Authority::new("ours"), Authority::new("a stranger"));
    let folder = config.folder().to_owned();
    fs::write(folder.join("ca.pem"), &ours.pem).unwrap();
    ours.sign_good(&folder, "server");
    strangers.sign(&["holdfast.example"], false, &folder, "strange");
    let trust = format!("ca = \"{}/ca.pem\"\nserver_name = \"{NAME}\"", folder.display());
    let strange = format!(
        "client_certificate = \"{0}/strange.pem\"\nclient_key = \"{0}/strange.key\"",
        folder.display()
    );
    let mut receivers = Vec::new();
    for (kind, driver) in [("gnutls", "gtls"), ("openssl", "ossl"), ("relp", "")] {
        for (with, own) in [("none", ""), ("strange", strange.as_str())] {
            // librelp asks for a certificate, but takes a stranger's.
            if (kind, with) == ("relp", "strange") {
                continue;
            }
            let ([modules, inputs], transport) = match driver {
                "" => (relp_tls(&folder), "relp_tls"),
                _ => (tls(driver, &folder), "tls"),
            };
            let name = format!("{kind}-{with}");
            let rsyslog = Rsyslog::start(&folder.join(&name), &modules, &inputs);
            let keys = format!("transport = \"{transport}\"\n{trust}\n{own}");
            config = config.table(&lane(&name, rsyslog.port, &keys));
            receivers.push((name, rsyslog));
        }
    }
    let mut gateway = Gateway::start(config);
    gateway.accept(&alerts::ndjson(0..ALERTS));
    for (name, rsyslog) in &receivers {
        gateway.wait_for_lane(name, "failed", |lane| {
            lane["state"] == "config_failed" || lane["state"] == "open"
        });
        let lane = gateway.lane(name);
        println!("{name}: {} {}", lane["state"], lane["reason"]);
        let reason = lane["reason"].as_str().unwrap_or_default();
        let plain = ["hung up", "reset by peer", "Broken pipe", "CertificateRequired", "UnknownCA"];
        assert!(plain.iter().any(|word| reason.contains(word)), "{name}: {reason}");
        assert_eq!(lane["ledger"]["delivered"], 0, "{name}: {lane}");
        // Beside the alerts the log may hold events about the lanes' own trouble.
        assert!(lane["ledger"]["pending"].as_u64() >= Some(ALERTS), "{name}: {lane}");
        assert!(rsyslog.lines().is_empty(), "{name} took something");
    }
    gateway.finish();
}
