//! What the measuring programs share: writers and servers under test (one adapter per file), a fleet
//! of simulated bench clients, a generator of message load, and the bookkeeping around them.
//!
//! Invariant: a program ends only processes it started, by handle, and everything it waits for has a
//! limit from [`limits`].
//!
//! Left to others: what is measured and printed (`src/bin/`), how to read it (`README.md`).

pub mod delay_proxy;
pub mod figures;
pub mod fleet;
pub mod limits;
pub mod load;
pub mod machine;
pub mod memory;
pub mod process;
pub mod results;
pub mod servers;
pub mod writers;
