//! The words every other crate speaks, and the ports the outside world plugs into.
//!
//! Plain data and pure functions. Nothing here does I/O, reads a clock, or needs a runtime, so
//! every rule about an event can be tested without one. [`intake::Intake`] is what a source calls;
//! [`delivery::Destination`] is what a lane calls.

pub mod alert;
pub mod callback;
pub mod chain;
pub mod delivery;
pub mod event;
pub mod facets;
pub mod intake;
pub mod lane;
pub mod name;
pub mod notebook;
pub mod secret;
pub mod settings;
pub mod time;
pub mod units;

pub use alert::{AlertError, check_alert};
pub use callback::{
    Action, Actor, CallbackReply, CallbackRequest, Callbacks, Heard, Notice, Operators, Refusal,
};
pub use chain::Chain;
pub use delivery::{
    Delivered, DeliveryError, Destination, Enrichment, Member, Parent, Reason, Receipt, Shipment,
};
pub use event::{Event, EventId, Kind, LogId, NewEvent, Seq};
pub use facets::Facets;
pub use intake::{Accepted, Intake, IntakeBatch, IntakeError, Reject, RejectReason};
pub use lane::{DeadReason, LaneState, Ledger};
pub use name::{Name, delivery_key, summary_key};
pub use notebook::{Notebook, NotebookError};
pub use secret::Secret;
pub use time::Timestamp;
