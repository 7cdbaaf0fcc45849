//! The messages of a session, as bytes; `docs/formats/sync.md` describes them.
//!
//! Invariant: everything is validated when it is read (names, paths, counts, lengths), so that what a decoder
//! returns can be worked with. File bytes travel raw. Left to others: sockets, and what to do with a message.

mod bytes;
mod detail;
mod frame;
mod op;
mod pack;
mod rows;

pub use bytes::WireError;
pub(crate) use bytes::{Reader, put_bytes, put_number};
pub use detail::{DETAIL_BYTES_MAX, DETAIL_RANGES_MAX, Detail, read_parts, write_parts};
pub use frame::{FRAME_BYTES_MAX, FrameError, FrameKind, head, read_frame, write_frame};
pub use op::{DirRef, Facts, Op, PARTED_BYTES_MAX, Place, Step};
pub use pack::{
    OpenedPack, PACK_BYTES_MAX, PACK_CHUNKS_MAX, PACK_OPS_MAX, Pack, PackBuilder, PackDir, Piece,
};
pub use rows::{RowFacts, RowsBuilder, read_rows};
