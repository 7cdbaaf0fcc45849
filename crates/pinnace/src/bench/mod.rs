//! The bench client: from what a person asked for to a report.
//!
//! [`resolve`] turns flags and files into one [`Order`] per client; [`conduct`] carries one out in
//! this process; [`fleet`] runs several as processes of their own, started together.

pub(crate) mod conduct;
pub(crate) mod fleet;
pub(crate) mod order;
pub(crate) mod outcome;
pub(crate) mod progress;
pub(crate) mod resolve;

pub(crate) use order::Order;
