//! The segments of a log as its directory and their headers present them, before a record is read.
//!
//! Invariant: nothing is changed here, and a log of a later version is refused before anything is.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::Lsn;
use crate::disk::{Disk, DiskFile, read_full};
use crate::error::OpenError;
use crate::limits::SEGMENT_HEADER_BYTES;
use crate::segment::{self, HeaderBlock};

/// A segment as the directory and its header present it.
pub(crate) struct Candidate {
    pub(crate) name: String,
    pub(crate) path: PathBuf,
    pub(crate) first_lsn: Lsn,
    pub(crate) file: Arc<dyn DiskFile>,
    pub(crate) header: HeaderBlock,
}

/// A way to open a file.
type Open<'a> = dyn Fn(&Path) -> io::Result<Arc<dyn DiskFile>> + 'a;

/// The segments, in the order of their names, and the files that a crash left unfinished.
pub(crate) fn list(
    disk: &dyn Disk,
    dir: &Path,
    open: &Open<'_>,
) -> Result<(Vec<Candidate>, Vec<PathBuf>), OpenError> {
    let mut candidates = Vec::new();
    let mut leftovers = Vec::new();
    for name in disk.list(dir).map_err(io_error("list", dir))? {
        let path = dir.join(&name);
        if let Some(first_lsn) = parse_leftover(&name) {
            leftovers.push(dir.join(format!("{first_lsn:020}.new")));
        }
        let Some(first_lsn) = segment::parse_name(&name) else {
            continue;
        };
        let file = open(&path).map_err(io_error("open", &path))?;
        let mut block = vec![0; SEGMENT_HEADER_BYTES as usize];
        let n = read_full(&*file, &mut block, 0).map_err(io_error("read", &path))?;
        let header = segment::parse_header(&block[..n]);
        if let HeaderBlock::Newer(found) = header {
            return Err(OpenError::NewerVersion {
                path,
                found,
                supported: segment::VERSION,
            });
        }
        candidates.push(Candidate {
            name,
            path,
            first_lsn,
            file,
            header,
        });
    }
    candidates.sort_by_key(|candidate| candidate.first_lsn);
    Ok((candidates, leftovers))
}

fn parse_leftover(name: &str) -> Option<Lsn> {
    segment::parse_name(&format!("{}.log", name.strip_suffix(".new")?))
}

/// The salt all segments share; `None` when there are no segments.
pub(crate) fn common_salt(candidates: &[Candidate]) -> Result<Option<u32>, OpenError> {
    let mut common = None;
    for candidate in candidates {
        if let HeaderBlock::Good {
            salt, first_lsn, ..
        } = candidate.header
            && (*common.get_or_insert(salt) != salt || first_lsn != candidate.first_lsn)
        {
            return Err(OpenError::ForeignSegment {
                path: candidate.path.clone(),
            });
        }
    }
    match (common, candidates.first()) {
        (None, Some(first)) => Err(OpenError::HeaderLost {
            path: first.path.clone(),
        }),
        (common, _) => Ok(common),
    }
}

/// An error of the system at a path.
pub(crate) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> OpenError + 'a {
    move |source| OpenError::Io {
        action,
        path: path.to_owned(),
        source,
    }
}
