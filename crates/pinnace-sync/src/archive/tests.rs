//! Archives of trees of every kind, there and back, by our own code and by tar.

use std::fs::{self, File, Permissions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};

use proptest::prelude::*;
use rustix::fs::{Timespec, Timestamps, XattrFlags};

use super::head::{Head, What};
use super::{UnpackError, pack, unpack};
use crate::fs::{Attrs, Root};
use crate::meta::Stamp;

/// A tree with everything in it that is hard to keep.
fn plant(at: &Path) {
    fs::create_dir_all(at.join("d/empty")).unwrap();
    fs::write(at.join("d/a"), vec![7; 200_000]).unwrap();
    fs::write(at.join("d/none"), "").unwrap();
    fs::hard_link(at.join("d/a"), at.join("z")).unwrap();
    symlink("/etc/passwd", at.join("l")).unwrap();
    symlink("x".repeat(300), at.join("d/long")).unwrap();
    fs::write(at.join("line\nbreak = \u{e9}"), "x").unwrap();
    let long = at.join("n".repeat(200)).join("m".repeat(200));
    fs::create_dir_all(&long).unwrap();
    fs::write(long.join("deep"), "deep").unwrap();
    let holes = File::create(at.join("holes")).unwrap();
    holes.set_len(1 << 20).unwrap();
    fs::write(at.join("set"), "x").unwrap();
    fs::set_permissions(at.join("set"), Permissions::from_mode(0o4751)).unwrap();
    let set = File::open(at.join("set")).unwrap();
    for (name, value) in [("user.a=b%3D", &b"\n1 x=\n\0\xff"[..]), ("user.b", b"")] {
        rustix::fs::fsetxattr(&set, name, value, XattrFlags::empty()).unwrap();
    }
    fs::set_permissions(at.join("d"), Permissions::from_mode(0o500)).unwrap();
    for (path, secs, nanos) in [("set", -5, 250_000_000), ("d", 1, 1), ("z", 1 << 34, 7)] {
        let times = Timestamps {
            last_access: Timespec {
                tv_sec: 0,
                tv_nsec: 0,
            },
            last_modification: Timespec {
                tv_sec: secs,
                tv_nsec: nanos,
            },
        };
        rustix::fs::futimens(File::open(at.join(path)).unwrap(), &times).unwrap();
    }
}

/// Everything that is to be kept of what is at a path, in lines.
fn told(root: &Path, at: &Path, lines: &mut Vec<String>) {
    let path = match at.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(at),
    };
    let meta = fs::symlink_metadata(&path).unwrap();
    let mut line = format!(
        "{at:?} {:o} {}:{} {}.{:09}",
        meta.mode(),
        meta.uid(),
        meta.gid(),
        meta.mtime(),
        meta.mtime_nsec()
    );
    if meta.is_symlink() {
        line += &format!(" {:?}", fs::read_link(&path).unwrap());
    } else {
        let attrs = Attrs::read(File::open(&path).unwrap()).unwrap();
        line += &format!(" {:?}", attrs.encode());
    }
    if meta.is_file() {
        let content = blake3::hash(&fs::read(&path).unwrap());
        line += &format!(" {content} {}", meta.nlink());
    }
    lines.push(line);
    if meta.is_dir() {
        let entries = fs::read_dir(&path).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
            .iter()
            .for_each(|name| told(root, &at.join(name), lines));
    }
}

fn lines(root: &Path, name: &str) -> Vec<String> {
    let mut lines = Vec::new();
    told(&root.join(name), Path::new(""), &mut lines);
    lines
}

fn packed(folder: &Path, name: &str, as_name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let root = Root::open(folder).unwrap();
    pack(
        root.as_fd(),
        name.as_bytes(),
        as_name.as_bytes(),
        &mut bytes,
    )
    .unwrap();
    bytes
}

#[test]
fn a_tree_comes_back_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    plant(&at.join("7f"));
    let bytes = packed(at, "7f", "tree");
    let root = Root::open(at).unwrap();
    let unpacked = unpack(&mut &bytes[..], &root).unwrap();
    let before = lines(at, "7f");
    assert_eq!(lines(at, "tree"), before);
    assert_eq!(unpacked.name, b"tree");
    assert_eq!(unpacked.entries, before.len() as u64);
    let holes = fs::metadata(at.join("tree/holes")).unwrap();
    assert_eq!(holes.blocks(), 0, "zeros became holes again");
    // Once more: it is there already, and nothing is left of the attempt.
    let again = unpack(&mut &bytes[..], &root).unwrap_err();
    assert!(matches!(again, UnpackError::Exists(name) if name == "tree"));
    assert_eq!(fs::read_dir(at).unwrap().count(), 2);
    // The same tree is the same archive.
    assert_eq!(packed(at, "tree", "tree").len(), bytes.len());
}

#[test]
fn single_things_come_back_too() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    fs::write(at.join("f"), "file").unwrap();
    symlink("nowhere", at.join("l")).unwrap();
    fs::create_dir(at.join("d")).unwrap();
    fs::set_permissions(at.join("d"), Permissions::from_mode(0o111)).unwrap();
    for name in ["f", "l", "d"] {
        let new = format!("{name}2");
        let root = Root::open(at).unwrap();
        unpack(&mut &packed(at, name, &new)[..], &root).unwrap();
        assert_eq!(lines(at, &new), lines(at, name));
    }
}

#[test]
fn tar_reads_what_is_packed_and_what_tar_packs_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    plant(&at.join("tree"));
    let out = at.join("out");
    fs::create_dir(&out).unwrap();
    fs::write(at.join("a.tar"), packed(at, "tree", "tree")).unwrap();
    let tar = |arguments: &[&str]| {
        let mut tar = Command::new("tar");
        tar.current_dir(at).args(["--xattrs", "--xattrs-include=*"]);
        let done = tar.args(arguments).stderr(Stdio::piped()).output().unwrap();
        assert!(done.status.success(), "{done:?}");
    };
    tar(&["-xpf", "a.tar", "-C", "out"]);
    assert_eq!(lines(&out, "tree"), lines(at, "tree"));
    let made = ["--format=posix", "--pax-option=delete=atime,delete=ctime"];
    tar(&[made[0], made[1], "-cf", "b.tar", "tree"]);
    fs::remove_dir_all(out.join("tree")).unwrap();
    let root = Root::open(&out).unwrap();
    unpack(&mut File::open(at.join("b.tar")).unwrap(), &root).unwrap();
    assert_eq!(lines(&out, "tree"), lines(at, "tree"));
}

/// Gives bytes and then fails, as a connection does whose server was killed.
struct Cut<'a>(&'a [u8]);

impl Read for Cut<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            count => Ok(count),
        }
    }
}

#[test]
fn one_that_breaks_off_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let at = folder.path();
    plant(&at.join("tree"));
    let bytes = packed(at, "tree", "new");
    let root = Root::open(at).unwrap();
    for kept in (0..=bytes.len()).step_by(40_960).chain([bytes.len()]) {
        let cut = unpack(&mut Cut(&bytes[..kept]), &root).unwrap_err();
        assert!(matches!(cut, UnpackError::Archive(_)), "{cut}");
        assert_eq!(fs::read_dir(at).unwrap().count(), 1, "at {kept}");
        if kept < bytes.len() {
            assert!(unpack(&mut &bytes[..kept], &root).is_err(), "at {kept}");
        }
    }
}

fn head(path: &[u8], what: What) -> Vec<u8> {
    let head = Head {
        path: path.to_vec(),
        what,
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: Stamp::default(),
        attrs: Attrs::default(),
    };
    head.write()
}

#[test]
fn nothing_leads_out_of_the_directory() {
    let folder = tempfile::tempdir().unwrap();
    let (out, victim) = (folder.path().join("out"), folder.path().join("victim"));
    fs::create_dir(&out).unwrap();
    fs::create_dir(&victim).unwrap();
    fs::write(victim.join("secret"), "secret").unwrap();
    let root = Root::open(&out).unwrap();
    let to_victim = What::Symlink(victim.to_str().unwrap().into());
    let outside = [victim.to_str().unwrap().as_bytes(), b"/secret"].concat();
    let directory = || head(b"t", What::Directory);
    for parts in [
        vec![head(b"../t", What::File(0))],
        vec![head(b"/t", What::File(0))],
        vec![head(b"t/u", What::File(0))],
        vec![head(b".", What::Directory)],
        vec![directory(), head(b"t/../../victim/x", What::File(0))],
        vec![directory(), head(b"victim", What::File(0))],
        vec![head(b"t", to_victim.clone()), head(b"t/x", What::File(0))],
        vec![
            directory(),
            head(b"t/l", to_victim.clone()),
            head(b"t/l/x", What::File(0)),
        ],
        vec![directory(), head(b"t/x", What::Link(outside))],
        vec![
            directory(),
            head(b"t/x", What::Link(b"../../victim/secret".to_vec())),
        ],
        vec![
            directory(),
            head(b"t/x", What::Link(b"victim/secret".to_vec())),
        ],
        vec![
            directory(),
            head(b"t/l", to_victim),
            head(b"t/x", What::Link(b"t/l/secret".to_vec())),
        ],
        vec![directory(), directory()],
    ] {
        let bytes = [parts.concat(), vec![0; 1024]].concat();
        assert!(unpack(&mut &bytes[..], &root).is_err());
        assert_eq!(fs::read_dir(&out).unwrap().count(), 0);
        assert_eq!(fs::read_dir(&victim).unwrap().count(), 1);
    }
    assert!(unpack(&mut &[0; 1024][..], &root).is_err(), "an empty one");
}

fn heads() -> impl Strategy<Value = Head> {
    let name = proptest::collection::vec(1..=255u8, 1..120).prop_map(|mut name| {
        name.iter_mut()
            .filter(|byte| **byte == b'/')
            .for_each(|byte| *byte = b'_');
        [b"x", &name[..]].concat()
    });
    let what = prop_oneof![
        any::<u64>().prop_map(What::File),
        Just(What::Directory),
        proptest::collection::vec(1..=255u8, 1..300).prop_map(What::Symlink),
    ];
    let stamp = (-(1i64 << 40)..1i64 << 40, 0..1_000_000_000u32);
    let owner = (any::<u32>(), any::<u32>(), 0..0o10000u32);
    (name, what, stamp, owner).prop_map(|(path, what, (secs, nanos), (uid, gid, mode))| Head {
        path,
        what,
        mode,
        uid,
        gid,
        mtime: Stamp { secs, nanos },
        attrs: Attrs::default(),
    })
}

proptest! {
    #[test]
    fn any_head_is_read_as_it_was_written(head in heads()) {
        let bytes = head.write();
        prop_assert_eq!(bytes.len() % 512, 0);
        let mut rest = &bytes[..];
        prop_assert_eq!(Head::read(&mut rest).unwrap(), Some(head));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn any_bytes_are_read_or_refused(head in heads(), at: usize, byte: u8, cut: usize) {
        let mut bytes = head.write();
        let count = bytes.len();
        bytes[at % count] = byte;
        let _ = Head::read(&mut &bytes[..]);
        let _ = Head::read(&mut &bytes[..cut % count]);
    }
}
