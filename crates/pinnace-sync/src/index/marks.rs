//! What is known of a tree as a whole, and which of its paths were removed lately.
//!
//! Invariant: the list of removals holds every removal whose number is above [`Marks::removals_from`], in the
//! order in which they were made, and at most [`REMOVALS_MAX`]. Left to others: what the marks mean; they are
//! kept and given back.

use std::collections::VecDeque;

use super::record::Fields;

/// So many removals are remembered.
pub const REMOVALS_MAX: usize = 100_000;

/// Removals with the number of the change, oldest first.
pub type Removals = VecDeque<(u64, Box<[u8]>)>;

/// What is known of a tree as a whole.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// Whose history this is; zeros when it has none yet.
    pub lineage: [u8; 16],
    /// The number of the newest change.
    pub seq: u64,
    /// The number up to which changes were synced.
    pub durable_seq: u64,
    /// File system and inode of the root when it was last seen.
    pub root_identity: Option<(u64, u64)>,
    /// The boot of this host in which the index was last written.
    pub boot: [u8; 16],
    /// A digest of the rules by which entries are left out.
    pub excludes: u64,
    /// Removals with a higher number are all remembered.
    pub removals_from: u64,
}

/// Bytes of marks in a record.
pub(super) const MARKS_BYTES: usize = 88;

impl Marks {
    /// Remembers a removal, and forgets the oldest when there are too many.
    pub fn note_removal(&mut self, removals: &mut Removals, seq: u64, path: Box<[u8]>) {
        removals.push_back((seq, path));
        while removals.len() > REMOVALS_MAX {
            if let Some((forgotten, _)) = removals.pop_front() {
                self.removals_from = forgotten;
            }
        }
    }

    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        let (fsid, inode) = self.root_identity.unwrap_or_default();
        bytes.extend_from_slice(&self.lineage);
        bytes.extend_from_slice(&self.boot);
        for number in [
            self.seq,
            self.durable_seq,
            u64::from(self.root_identity.is_some()),
            fsid,
            inode,
            self.excludes,
            self.removals_from,
        ] {
            bytes.extend_from_slice(&number.to_le_bytes());
        }
    }

    pub(super) fn decode(fields: &mut Fields<'_>) -> Option<Self> {
        let (lineage, boot) = (fields.array()?, fields.array()?);
        let (seq, durable_seq) = (fields.u64()?, fields.u64()?);
        let has_identity = fields.u64()?;
        let identity = (fields.u64()?, fields.u64()?);
        Some(Self {
            lineage,
            seq,
            durable_seq,
            root_identity: (has_identity == 1).then_some(identity),
            boot,
            excludes: fields.u64()?,
            removals_from: fields.u64()?,
        })
    }
}
