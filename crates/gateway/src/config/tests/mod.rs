mod faults;
mod files;
mod manual;
mod secrets;
mod server;
mod shipped;

use holdfast_connectors::secrets::SecretError;

use super::*;

/// Reads a text that nobody else can see.
fn read(text: &str) -> Result<Config, Vec<Fault>> {
    from_text(text, || Ok::<(), SecretError>(()))
}

/// The faults as `line key: problem`.
#[track_caller]
fn faults(text: &str) -> Vec<String> {
    match read(text) {
        Ok(config) => panic!("no fault in {config:?}"),
        Err(faults) => {
            let show = |fault: Fault| format!("{} {}: {}", fault.line, fault.key, fault.problem);
            faults.into_iter().map(show).collect()
        }
    }
}
