//! Vendors' own Python clients and Holdfast, pointed at the same receiver: for the same call they
//! agree in method, path, content type, headers and the shape of the body, or the difference is
//! written down with its reason.
//!
//! The clients live in a virtual environment that `tests/run` makes, `clients-venv` in the target
//! folder; `HOLDFAST_CLIENTS_VENV` names another.

mod calls;
mod compare;
mod vendor;

use std::{
    path::PathBuf,
    process::{Command, Output},
    thread,
};

use self::{
    calls::{CALLS, Call},
    compare::Comparison,
};
use crate::support::{Config, Gateway, Receiver, Request, eventually};

const ALERT: &str = r#"{"timestamp":"2026-03-10T06:02:17.173+0000","rule":{"level":10,"description":"sshd: brute force trying to get access to the system.","id":"5712","groups":["syslog","sshd"],"mitre":{"id":["T1110"]}},"agent":{"id":"001","name":"web01","ip":"10.0.0.1"},"manager":{"name":"mgr-1"},"id":"1773122537.1","full_log":"Mar 10 06:02:17 web01 sshd[1]: Failed password for root","data":{"srcip":"203.0.113.9","dstuser":"root"},"location":"/var/log/auth.log"}"#;

/// How many clients run at the same time.
const CLIENTS_AT_ONCE: usize = 3;

/// What a client's program says when its package is not there.
const NOT_INSTALLED: i32 = 3;

/// The clients' Python, if there is one.
fn python() -> PathBuf {
    let venv = std::env::var_os("HOLDFAST_CLIENTS_VENV").map(PathBuf::from).unwrap_or_else(|| {
        let test = std::env::current_exe().expect("the test binary has a path");
        let target = test.ancestors().nth(3).expect("it is target/<profile>/deps/<test>");
        target.join("clients-venv")
    });
    let python = venv.join("bin/python");
    assert!(python.is_file(), "there is no {}: tests/run makes it", python.display());
    python
}

/// Runs the vendors' clients, a few at a time.
fn run_clients(receivers: &[Receiver]) -> Vec<Output> {
    let python = python();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/drive.py");
    let run = |(call, receiver): (&Call, &Receiver)| {
        let mut command = Command::new(&python);
        command.arg(script).arg(call.name).arg(receiver.url("")).env("NO_PROXY", "*");
        command.output().expect("start the clients' Python")
    };
    let pairs: Vec<_> = CALLS.iter().zip(receivers).collect();
    let mut outputs = Vec::new();
    for some in pairs.chunks(CLIENTS_AT_ONCE) {
        thread::scope(|scope| {
            let running: Vec<_> = some.iter().map(|pair| scope.spawn(|| run(*pair))).collect();
            outputs.extend(running.into_iter().map(|thread| thread.join().expect("a client ran")));
        });
    }
    outputs
}

fn gateway(receivers: &[Receiver]) -> Gateway {
    let config = CALLS.iter().zip(receivers).fold(Config::new(), |config, (call, receiver)| {
        let keys = call.destination.replace("{url}", &receiver.url(""));
        config.table(&format!("[destinations.{}]\n{keys}", call.name))
    });
    Gateway::start(config)
}

fn is_ours(request: &Request) -> bool {
    request.header("user-agent").is_some_and(|agent| agent.starts_with("holdfast/"))
}

fn find(receiver: &Receiver, call: &Call, ours: bool) -> Option<Request> {
    let requests = receiver.exchanges().into_iter().map(|exchange| exchange.request);
    let mut found = requests.filter(|one| is_ours(one) == ours && call.is_made_by(one));
    found.next()
}

#[test]
fn holdfast_and_the_vendors_own_clients_send_the_same() {
    let receivers: Vec<_> = CALLS.iter().map(|_| Receiver::start(vendor::answer)).collect();
    let mut gateway = gateway(&receivers);
    gateway.accept(ALERT);
    for call in CALLS {
        gateway.wait_for_term(call.name, "delivered", 1);
    }
    let outputs = run_clients(&receivers);
    let mut problems = Vec::new();
    println!("{:<18} {:<19} {:<38} agreed, and what differs", "call", "client", "request");
    for ((call, receiver), output) in CALLS.iter().zip(&receivers).zip(&outputs) {
        let said = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat())
            .into_owned();
        if output.status.code() == Some(NOT_INSTALLED) {
            println!("{:<18} {:<19} not installed: {}", call.name, call.client, said.trim());
            if call.required {
                problems.push(format!("{}: {} is not installed", call.name, call.client));
            }
            continue;
        }
        if !output.status.success() {
            problems.push(format!("{}: the client failed: {said}", call.name));
            continue;
        }
        let ours = eventually("Holdfast's request", || find(receiver, call, true));
        let Some(theirs) = find(receiver, call, false) else {
            problems.push(format!("{}: the client made no such request", call.name));
            continue;
        };
        let comparison = Comparison::of(call, &ours, &theirs);
        println!("{:<18} {:<19} {comparison}", call.name, call.client);
        problems.extend(comparison.problems(call));
    }
    assert!(problems.is_empty(), "{}", problems.join("\n"));
    gateway.finish();
}
