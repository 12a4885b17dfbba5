//! The API from outside: what an event went through, who may do what, and every way to be refused.

mod callbacks;
pub(crate) mod people;
mod problems;
mod roles;
mod timeline;
pub(crate) mod tls;
mod tokens;
mod trial;
