//! The database through its public face: batches in, lists, runs and queries out.

mod query;
mod samples;
mod store;
