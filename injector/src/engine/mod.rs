//! The engine that runs containers: which of them run, and as which processes, by the API that Docker and Podman share. It
//! is asked on threads of its own, with time limits; what it answers goes to `injector_core::containers`, which decides
//! what it means.
//!
//! `api` sends requests, `model` is what is read of their answers, `look_up` asks once for a config, and `follow` listens
//! to events for as long as the config is in force.

mod api;
mod follow;
mod look_up;
mod model;

pub use api::EngineError;
pub use follow::{News, follow};
pub use look_up::{Found, inspect_all, look_up, look_up_blocking, running, select};
