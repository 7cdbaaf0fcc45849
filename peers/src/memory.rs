//! Memory that the host backs before a run needs it.
//!
//! A guest with a balloon reports its free 2 MiB blocks to the host every two seconds, and the host
//! takes them back; the page cache of the next run then pays about 3 s of CPU a GiB for faults that
//! no writer caused. So before each run the memory it will need is touched and given back.

use std::hint::black_box;

use crate::limits::{PREWARM_BYTES_MAX, PREWARM_MARGIN_BYTES};

const PAGE_BYTES: usize = 4096;

/// Touches the `expected_bytes` a run will need, and some more, and gives them back to the kernel.
pub fn prewarm(expected_bytes: u64) {
    let bytes = (expected_bytes + PREWARM_MARGIN_BYTES).min(PREWARM_BYTES_MAX);
    let mut memory = vec![0u8; usize::try_from(bytes).unwrap_or(0)];
    for page in memory.chunks_mut(PAGE_BYTES) {
        page[0] = 1;
    }
    black_box(&memory);
}
