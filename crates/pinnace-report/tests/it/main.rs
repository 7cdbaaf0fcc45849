//! Reports over runs made by hand, from the record to each rendering.

// Helpers of tests are tests too, but clippy only knows those that carry `#[test]`.
#![allow(clippy::expect_used, clippy::unwrap_used)]

mod built;
mod caveats;
mod figures;
mod renderings;
mod robust;
