//! The outside world, one file per thing Holdfast talks to.
//!
//! Sources bring events in through [`holdfast_model::Intake`]; destinations act on them behind
//! [`holdfast_model::Destination`]. Neither can reach the queue: a destination sends once and says
//! what happened, and what becomes of the event is the pipeline's decision.

mod auth;
mod body;
mod callback;
mod chat;
mod child;
pub mod destinations;
mod fleet;
pub mod http;
mod indicators;
mod message;
pub mod secrets;
mod serial;
pub mod server_tls;
pub mod sources;
mod uuid5;
mod vendor;
mod wazuh_api;
mod wazuh_event;

#[cfg(test)]
mod example;
#[cfg(test)]
mod proof;
#[cfg(test)]
mod testing;
