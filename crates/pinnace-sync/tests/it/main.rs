//! Both ends of a mirror, joined by socket pairs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod clocks;
mod durability;
mod first;
mod hand;
mod histories;
mod hostile;
mod links;
mod live;
mod pair;
mod parts;
mod power;
mod races;
mod replaced;
mod safety;
mod storm;
mod story;
mod traps;
mod trash;
mod tree;
