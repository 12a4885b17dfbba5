//! Why nothing is done. A person reads it with the dead letter.

use holdfast_model::{DeliveryError, Kind, Reason};

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refusal {
    #[error("an event of kind {} asks for nothing", .0.as_str())]
    Kind(Kind),
    #[error("no `command` is set for events of kind {}", .0.as_str())]
    NoCommand(Kind),
    #[error("the callback says `{0}`; only `action_requested` asks for something")]
    Action(String),
    #[error("the callback is not authorized ({0})")]
    Unauthorized(String),
    #[error("`requests` has no `{0}`")]
    UnknownRequest(String),
    #[error("the command `{0}` is not in `commands`")]
    Unlisted(String),
    #[error("it is about no alert that the log still has, so there is no agent")]
    NoAlert,
    #[error("the alert has no agent; without one every agent would be meant")]
    NoAgent,
    #[error("`{0}` is not one agent's id")]
    BadAgent(String),
    #[error("agent 000 is the manager; `allow_manager` is not set")]
    Manager,
    #[error("the alert has no address under {0}")]
    NoAddress(String),
    #[error("`{0}` is not an address")]
    BadAddress(String),
    #[error("{address} is never blocked: {why}")]
    Spared { address: std::net::IpAddr, why: String },
}

impl From<Refusal> for DeliveryError {
    fn from(refusal: Refusal) -> Self {
        let said = format!("refused, nothing was sent: {refusal}");
        Self::caused_by(Reason::Refused, refusal).with_excerpt(said)
    }
}
