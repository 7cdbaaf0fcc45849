//! Whether a share still is what is known of it.
//!
//! What is found to be different becomes known as it is, and the client is told like of any row that it does not know; it
//! compares it with its source and sends what is right.
//!
//! Invariant: nothing in the share is changed here. Left to others: the source's side of the comparison.

use super::recover::{Reading, Walk, shown};
use super::session::{ROWS_FRAME_BYTES, Session};
use super::share::{Share, ShareError};
use crate::wire::RowsBuilder;

/// Paths that are told.
const TOLD_MAX: usize = 1000;

/// Compares; with `deep` all files are read. Returns what was found to be different.
pub(super) fn check(
    share: &Share,
    session: &Session,
    deep: bool,
) -> Result<Vec<String>, ShareError> {
    let reading = if deep {
        Reading::Everything
    } else {
        Reading::Unknown
    };
    let found = Walk::new(share, reading).run()?;
    let mut rows = RowsBuilder::default();
    for path in &found {
        let facts = {
            let state = share.lock();
            let node = state.index.find(path);
            node.map(|node| super::session::facts(&state.index, node))
        };
        rows.push(path, facts.as_ref());
        if rows.bytes() > ROWS_FRAME_BYTES {
            session.send_found(&rows.take());
        }
    }
    if rows.bytes() > 0 {
        session.send_found(&rows.take());
    }
    Ok(found
        .iter()
        .take(TOLD_MAX)
        .map(|path| shown(path))
        .collect())
}
