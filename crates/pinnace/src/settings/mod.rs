//! Settings from four places: flag, then `PINNACE_*` environment, then file, then default.
//!
//! A setting has a dotted key (`server.http`), a text, and the place it came from, so that every
//! complaint can name that place. Values are texts until a command says what it needs of them.

mod auth;
mod file;
mod layers;
mod login;
mod values;

pub(crate) use file::{Scalar, WorkerEntry};
pub(crate) use layers::Layers;
pub(crate) use login::{shown, url_shown};
