//! Whether what is read comes from a disk or from memory.

/// Bytes that this process has had read from disks so far; nothing where the system does not tell.
#[must_use]
pub fn bytes_from_disk() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").unwrap_or_default();
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("read_bytes: "));
    line.and_then(|bytes| bytes.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_was_written_back_and_dropped_is_read_from_the_disk() {
        /// Of a file system in memory.
        const TMPFS: u64 = 0x0102_1994;
        // Beside the program, which is on a disk more often than temporary files are.
        let program = std::env::current_exe().unwrap();
        let file = tempfile::tempfile_in(program.parent().unwrap()).unwrap();
        file.write_all_at(&vec![7; 4 << 20], 0).unwrap();
        file.sync_all().unwrap();
        let before = bytes_from_disk();
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).unwrap();
        file.read_exact_at(&mut vec![0; 4 << 20], 0).unwrap();
        let read = bytes_from_disk() - before;
        let is_in_memory = rustix::fs::fstatfs(&file).unwrap().f_type as u64 == TMPFS;
        assert_eq!(read >= 1 << 20, !is_in_memory, "{read} bytes");
    }
}
