//! Callers that show a certificate instead of a secret.

use std::{path::PathBuf, process::Command};

use crate::{
    api::tls::{Authority, Files, start, stop, with_tls},
    support::{Config, Gateway, config::free_port},
};

const BODY: &str = r#"{"action":"closed","remote_id":"7","delivery_id":"d7"}"#;

fn post(port: u16, ca: &PathBuf, client: Option<&[PathBuf; 2]>) -> Option<u16> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "30", "--output", "/dev/null"]);
    command.args(["--write-out", "%{http_code}", "--data", BODY, "--cacert"]).arg(ca);
    if let Some([cert, key]) = client {
        command.arg("--cert").arg(cert).arg("--key").arg(key);
    }
    command.arg(format!("https://127.0.0.1:{port}/v1/callbacks/cases"));
    let output = command.output().expect("start curl");
    let status = String::from_utf8_lossy(&output.stdout).trim().parse().ok();
    status.filter(|status| output.status.success() && *status != 0)
}

#[test]
fn a_certificate_of_our_ca_may_stand_for_the_secret() {
    let (config, port) = (Config::new(), free_port());
    let files = Files(config.folder().to_owned());
    let (ours, theirs) = (Authority::new(), Authority::new());
    let ca = files.put("ca.pem", &ours.pem);
    files.pair("server", &ours.sign("127.0.0.1"));
    let caller = files.pair("caller", &ours.sign("xsoar"));
    let stranger = files.pair("stranger", &theirs.sign("xsoar"));
    let more = format!(
        " }}\ncallbacks = {{ listen = \"127.0.0.1:{port}\", client_ca = \"{}\"",
        ca.display()
    );
    let config = with_tls(config, &more).table(
        "[destinations.cases]\ntype = \"xsoar\"\nurl = \"https://127.0.0.1:1/x\"\n\
         api_key = \"k\"\nkey_id = \"7\"\ncallback = { client_certificate = true }",
    );
    let mut gateway = Gateway::new(config);
    start(&mut gateway, &ca, None);
    assert_eq!(post(port, &ca, None), Some(401), "none is shown");
    assert_eq!(post(port, &ca, Some(&stranger)), None, "another CA's");
    assert_eq!(post(port, &ca, Some(&caller)), Some(200));
    stop(&mut gateway);
}
