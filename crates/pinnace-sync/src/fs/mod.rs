//! The file system as both ends use it: from held directories, never by a path from the root of the system.
//!
//! Invariant: no symlink is followed, not even one that is put in the way at the last moment; a path never leaves
//! the tree it is opened in. Left to others: what is done with what was opened.

mod attrs;
mod place;
mod reads;
mod root;

pub use attrs::{Attrs, digest_of as attrs_digest};
pub use place::{boot_id, boot_text, place_of};
pub use reads::bytes_from_disk;
pub use root::{Root, open_file, read_exactly, stat_at, stat_of};
