//! Extended attributes of files and directories, ACLs among them.
//!
//! Encoded as they are sent: for each, in the order of their names, `name bytes | name | value bytes | value` with
//! LEB128 counts.
//!
//! Invariant: the same attributes have the same encoding and digest on every host. What the server may not set it
//! says, and keeps nothing of. Left to others: symlinks, which have none that a user could set.

use std::os::fd::AsFd;

use rustix::fs::XattrFlags;
use rustix::io::Errno;

use crate::meta::ATTRS_NONE;
use crate::wire::{Reader, WireError, put_bytes};

/// Bytes of all attributes of an entry; more are refused. Linux takes 64 KiB for each.
const ATTRS_BYTES_MAX: usize = 256 << 10;

/// Attributes that belong to this host and not to the file.
const OWN: &[&[u8]] = &[
    b"security.selinux",
    b"security.ima",
    b"security.evm",
    b"system.nfs4_acl",
];

/// The attributes of one entry.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attrs(Vec<(Vec<u8>, Vec<u8>)>);

impl Attrs {
    /// Reads the attributes of an open file or directory. A file system without any has none.
    ///
    /// # Errors
    /// What the system says.
    pub fn read(of: impl AsFd) -> Result<Self, Errno> {
        // Most files have none: one call says so.
        let mut names = [0u8; 1024];
        let names = match rustix::fs::flistxattr(&of, &mut names[..]) {
            Ok(0) | Err(Errno::NOTSUP) => return Ok(Self::default()),
            Ok(count) => names[..count].to_vec(),
            Err(Errno::RANGE) => {
                let mut names = vec![0; ATTRS_BYTES_MAX];
                let count = rustix::fs::flistxattr(&of, &mut names[..])?;
                names.truncate(count);
                names
            }
            Err(error) => return Err(error),
        };
        let mut attrs = Vec::new();
        let names = names.split(|byte| *byte == 0);
        for name in names.filter(|name| !name.is_empty() && !OWN.contains(name)) {
            let mut value = vec![0; ATTRS_BYTES_MAX];
            match rustix::fs::fgetxattr(&of, name, &mut value[..]) {
                Ok(count) => value.truncate(count),
                // It went in between, or is for others to read.
                Err(Errno::NODATA | Errno::ACCESS | Errno::PERM) => continue,
                Err(error) => return Err(error),
            }
            attrs.push((name.to_vec(), value));
        }
        attrs.sort();
        Ok(Self(attrs))
    }

    /// The encoding; empty if there are none.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (name, value) in &self.0 {
            put_bytes(&mut out, name);
            put_bytes(&mut out, value);
        }
        out
    }

    /// Names and values, in the order of the names.
    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&[u8], &[u8])> {
        self.0.iter().map(|(name, value)| (&name[..], &value[..]))
    }

    /// Reads what [`Attrs::encode`] wrote.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(bytes: &[u8]) -> Result<Self, WireError> {
        if bytes.len() > ATTRS_BYTES_MAX {
            return Err(WireError::Value(
                "an entry has more than 256 KiB of attributes",
            ));
        }
        let mut reader = Reader::new(bytes);
        let mut attrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
        while !reader.is_empty() {
            let (name, value) = (reader.bytes()?, reader.bytes()?);
            if name.is_empty() || name.len() > 255 || memchr::memchr(0, name).is_some() {
                return Err(WireError::Value("an attribute's name has 1 to 255 bytes"));
            }
            if attrs
                .last()
                .is_some_and(|(before, _)| before.as_slice() >= name)
            {
                return Err(WireError::Value(
                    "attributes come in the order of their names",
                ));
            }
            attrs.push((name.to_vec(), value.to_vec()));
        }
        Ok(Self(attrs))
    }

    /// Gives these attributes to an open file or directory and takes all others from it. Returns whether all
    /// could be set: some are for the superuser, and some file systems have none.
    ///
    /// # Errors
    /// What the system says, apart from a refusal.
    pub fn write(&self, to: impl AsFd) -> Result<bool, Errno> {
        let mut all = true;
        for (name, _) in Self::read(&to)?.0 {
            if !self.0.iter().any(|(wanted, _)| *wanted == name) {
                all &= permitted(rustix::fs::fremovexattr(&to, name.as_slice()))?;
            }
        }
        for (name, value) in &self.0 {
            let set = rustix::fs::fsetxattr(&to, name.as_slice(), value, XattrFlags::empty());
            all &= permitted(set)?;
        }
        Ok(all)
    }
}

/// Whether it was done; a refusal is no failure.
fn permitted(result: Result<(), Errno>) -> Result<bool, Errno> {
    match result {
        Ok(()) => Ok(true),
        Err(Errno::PERM | Errno::ACCESS | Errno::NOTSUP | Errno::NODATA | Errno::INVAL) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// The digest of encoded attributes.
#[must_use]
pub fn digest_of(encoded: &[u8]) -> u64 {
    if encoded.is_empty() {
        return ATTRS_NONE;
    }
    let mut first = [0; 8];
    first.copy_from_slice(&blake3::hash(encoded).as_bytes()[..8]);
    u64::from_le_bytes(first).max(ATTRS_NONE + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;

    #[test]
    fn attributes_go_from_file_to_file() {
        let folder = tempfile::tempdir().unwrap();
        let [a, b] = ["a", "b"].map(|name| File::create(folder.path().join(name)).unwrap());
        assert_eq!(digest_of(&Attrs::read(&a).unwrap().encode()), ATTRS_NONE);
        for (name, value) in [("user.z", "1"), ("user.a", "")] {
            let set = rustix::fs::fsetxattr(&a, name, value.as_bytes(), XattrFlags::empty());
            set.unwrap();
        }
        rustix::fs::fsetxattr(&b, "user.old", b"x", XattrFlags::empty()).unwrap();
        let attrs = Attrs::read(&a).unwrap();
        let decoded = Attrs::decode(&attrs.encode()).unwrap();
        assert_eq!(decoded, attrs);
        assert!(decoded.write(&b).unwrap());
        assert_eq!(Attrs::read(&b).unwrap(), attrs);
        assert_ne!(digest_of(&attrs.encode()), ATTRS_NONE);
    }
}
