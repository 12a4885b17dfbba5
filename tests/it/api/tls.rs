//! TLS: certificates of servers and of clients, exchanged while the gateway runs.
//!
//! `curl` is the client, so that what is judged is not what judges.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustix::process::Signal;

use crate::support::{
    Config, Gateway,
    config::{TOKEN, free_port, write_private},
    eventually,
};

/// Somebody who signs certificates.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "an authority");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// A certificate and its key.
    pub(crate) fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}

/// Files of one test, each written for its owner alone.
pub(crate) struct Files(pub(crate) PathBuf);

impl Files {
    pub(crate) fn put(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        write_private(&path, text);
        path
    }

    pub(crate) fn pair(&self, name: &str, (cert, key): &(String, String)) -> [PathBuf; 2] {
        [self.put(&format!("{name}.pem"), cert), self.put(&format!("{name}.key"), key)]
    }
}

/// The status of a GET, or that there was none.
fn curl(port: u16, path: &str, ca: &Path, client: Option<&[PathBuf; 2]>) -> Option<u16> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "30", "--output", "/dev/null"]);
    command.args(["--write-out", "%{http_code}", "--cacert"]).arg(ca);
    if let Some([cert, key]) = client {
        command.arg("--cert").arg(cert).arg("--key").arg(key);
    }
    command.args(["--header", &format!("Authorization: Bearer {TOKEN}")]);
    command.arg(format!("https://127.0.0.1:{port}{path}"));
    let output = command.output().expect("start curl");
    let status = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    status.filter(|status| output.status.success() && *status != 0)
}

pub(crate) fn with_tls(config: Config, more: &str) -> Config {
    let at = |name: &str| config.file(name).display().to_string();
    let tls = format!(
        "tls = {{ cert = \"{}\", key = \"{}\"{more} }}\n\
         tokens = [{{ name = \"it\", role = \"admin\", token = \"{TOKEN}\" }}]",
        at("server.pem"),
        at("server.key")
    );
    config.server(&tls)
}

/// Starts it and waits until it answers over TLS.
pub(crate) fn start(gateway: &mut Gateway, ca: &Path, client: Option<&[PathBuf; 2]>) {
    gateway.spawn();
    eventually("it answers over TLS", || {
        assert!(gateway.exited().is_none(), "{}", gateway.last_words());
        (curl(gateway.port, "/readyz", ca, client) == Some(200)).then_some(())
    });
}

pub(crate) fn stop(gateway: &mut Gateway) {
    assert_eq!(gateway.terminate(), Some(0), "{}", gateway.last_words());
    gateway.verified();
}

#[test]
fn with_a_client_ca_only_its_certificates_come_in() {
    let config = Config::new();
    let files = Files(config.folder().to_owned());
    let (ours, theirs) = (Authority::new(), Authority::new());
    let ca = files.put("ca.pem", &ours.pem);
    files.pair("server", &ours.sign("127.0.0.1"));
    let client = files.pair("client", &ours.sign("soc"));
    let stranger = files.pair("stranger", &theirs.sign("soc"));
    let callbacks = free_port();
    let more = format!(
        ", client_ca = \"{}\" }}\ncallbacks = {{ listen = \"127.0.0.1:{callbacks}\"",
        ca.display()
    );
    let mut gateway = Gateway::new(with_tls(config, &more));
    start(&mut gateway, &ca, Some(&client));
    assert_eq!(curl(gateway.port, "/v1/destinations", &ca, Some(&client)), Some(200));
    assert_eq!(curl(gateway.port, "/v1/destinations", &ca, None), None);
    assert_eq!(curl(gateway.port, "/v1/destinations", &ca, Some(&stranger)), None);
    let plain = gateway.call("GET", "/livez").send();
    assert!(plain.is_err(), "nothing is served without TLS: {plain:?}");
    let vendor = curl(callbacks, "/v1/callbacks/x", &ca, None);
    assert_eq!(vendor, Some(405), "callbacks want TLS, and no certificate");
    stop(&mut gateway);
}

#[test]
fn new_certificates_are_served_without_a_restart_and_bad_ones_never() {
    let config = Config::new();
    let files = Files(config.folder().to_owned());
    let (old, new) = (Authority::new(), Authority::new());
    let (old_ca, new_ca) = (files.put("old.pem", &old.pem), files.put("new.pem", &new.pem));
    files.pair("server", &old.sign("127.0.0.1"));
    let mut gateway = Gateway::new(with_tls(config, ""));
    start(&mut gateway, &old_ca, None);
    assert_eq!(curl(gateway.port, "/livez", &new_ca, None), None);

    files.put("server.pem", "not a certificate\n");
    eventually("the bad file is complained of", || {
        gateway
            .log()
            .contains("the new certificates cannot be used; the old ones stay")
            .then_some(())
    });
    assert_eq!(curl(gateway.port, "/livez", &old_ca, None), Some(200), "the old one is served");

    files.pair("server", &new.sign("127.0.0.1"));
    eventually("the new certificate is served", || {
        (curl(gateway.port, "/livez", &new_ca, None) == Some(200)).then_some(())
    });
    assert_eq!(curl(gateway.port, "/livez", &old_ca, None), None);
    stop(&mut gateway);
}

#[test]
fn a_bad_certificate_at_a_reload_keeps_the_old_one_and_says_so_and_a_good_one_is_served_at_once() {
    let config = Config::new();
    let files = Files(config.folder().to_owned());
    let (old, new) = (Authority::new(), Authority::new());
    let (old_ca, new_ca) = (files.put("old.pem", &old.pem), files.put("new.pem", &new.pem));
    files.pair("server", &old.sign("127.0.0.1"));
    let other = files.pair("other", &new.sign("127.0.0.1"));
    let mut gateway = Gateway::new(with_tls(config, ""));
    start(&mut gateway, &old_ca, None);
    let path = gateway.config.file("holdfast.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    // The new file names other certificates, and the first time another one's key.
    let [cert, key] = other.map(|path| path.display().to_string());
    let server = |name: &str| gateway.config.file(name).display().to_string();
    let mixed = text.replace(&server("server.pem"), &cert);
    write_private(&path, &mixed);
    gateway.signal(Signal::HUP);
    eventually("the bad file is complained of", || {
        gateway.log().contains("do not go together").then_some(())
    });
    eventually("the reload is over", || {
        gateway.log().contains("nothing was changed").then_some(())
    });
    assert_eq!(curl(gateway.port, "/livez", &old_ca, None), Some(200), "the old one is served");
    assert_eq!(curl(gateway.port, "/livez", &new_ca, None), None);

    write_private(&path, &mixed.replace(&server("server.key"), &key));
    gateway.signal(Signal::HUP);
    eventually("the new certificate is served", || {
        (curl(gateway.port, "/livez", &new_ca, None) == Some(200)).then_some(())
    });
    assert_eq!(curl(gateway.port, "/livez", &old_ca, None), None);
    stop(&mut gateway);
}
