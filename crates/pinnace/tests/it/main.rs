//! The program through its command line and its two doors, as users and their programs meet it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    unreachable_pub,
    reason = "helpers of tests fail by panicking"
)]

mod api;
mod bench;
mod bench_server;
mod chat;
mod command_line;
mod demo;
mod doors;
mod drain;
mod http;
mod kill;
mod leases;
mod lifecycle;
mod limits;
mod logins;
mod logs;
mod metrics;
mod mirror;
mod mirror_days;
mod mirror_kill;
mod mirror_limits;
mod nats;
mod nats_access;
mod plain;
mod requests;
mod runs;
mod slow;
mod sockets;
mod storage;
mod streams;
mod support;
mod trees;
mod upkeep;
