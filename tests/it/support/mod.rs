//! What every black-box test stands on: the binary, a receiver with a script, and patience.
//!
//! Nothing here waits for a length of time to pass; it waits for a condition, and gives up with a
//! sentence that says what never came true.

pub(crate) mod alerts;
pub(crate) mod binary;
pub(crate) mod config;
pub(crate) mod gateway;
pub(crate) mod http;
pub(crate) mod receiver;
pub(crate) mod relay;
pub(crate) mod request;
pub(crate) mod wait;

pub(crate) use self::{
    config::Config,
    gateway::Gateway,
    http::Answer,
    receiver::Receiver,
    request::{Reply, Request},
    wait::{eventually, within_patience},
};
