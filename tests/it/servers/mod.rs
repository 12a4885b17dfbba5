//! Against programs that we did not write: what they take and understand decides.
//!
//! `tests/programs` unpacks them under the target folder. A test starts its own, at a free port of
//! the loopback and with its own folder, and ends it.

mod alertmanager;
mod cef;
mod certificates;
mod mail;
mod refused_certificates;
mod relp_restarts;
pub(crate) mod rsyslog;
mod server;
mod syslog_ng;
