//! Servers under test, each a process of its own on free ports. One file per server.
//!
//! Invariant: a server ends with the value that stands for it, also when a measurement fails.

pub mod pinnace;

use std::process::Child;

use anyhow::Result;

use crate::limits::{LOOK_INTERVAL, SERVER_END_MAX};
use crate::process;

/// A running server.
#[derive(Debug)]
pub struct Served {
    child: Child,
    /// Address and port of its NATS door.
    pub nats: String,
    /// Address and port of its HTTP door; empty when it has none.
    pub http: String,
}

impl Served {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it in good order.
    ///
    /// # Errors
    /// When it did not end on SIGTERM.
    pub fn end(mut self) -> Result<()> {
        process::end(&mut self.child, SERVER_END_MAX, LOOK_INTERVAL)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // Ended already in the usual case; what can go wrong here has nobody to be told to.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
