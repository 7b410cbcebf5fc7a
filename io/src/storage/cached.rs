//! Reading what is in memory already, so that nobody has to wait for a disk.

use std::fs::File;

#[cfg(target_os = "linux")]
pub(super) use linux::read;

/// Fills `buf` from `offset` on if all of it is in memory. Returns whether it did: if not, `buf` says
/// nothing. Where the system cannot be asked, nothing is.
#[cfg(not(target_os = "linux"))]
pub(super) fn read(_: &File, _: &mut [u8], _: u64) -> bool {
    false
}

#[cfg(target_os = "linux")]
mod linux {
    use std::io::IoSliceMut;
    use std::os::unix::fs::FileExt;

    use rustix::fs::fstatfs;
    use rustix::io::{Errno, ReadWriteFlags, preadv2};

    use super::File;

    /// File systems that have nothing but memory (linux/magic.h): tmpfs and ramfs. They cannot be
    /// asked. What the system moved to swap is waited for.
    const IN_MEMORY: [u32; 2] = [0x0102_1994, 0x8584_58f6];

    /// Fills `buf` from `offset` on if all of it is in memory. Returns whether it did: if not, `buf`
    /// says nothing.
    pub(in crate::storage) fn read(file: &File, mut buf: &mut [u8], mut offset: u64) -> bool {
        while !buf.is_empty() {
            match preadv2(file, &mut [IoSliceMut::new(buf)], offset, ReadWriteFlags::NOWAIT) {
                Ok(0) => return false,
                Ok(count) => {
                    buf = &mut buf[count..];
                    offset += count as u64;
                }
                Err(Errno::INTR) => {}
                Err(Errno::OPNOTSUPP) => {
                    return is_in_memory(file) && file.read_exact_at(buf, offset).is_ok();
                }
                Err(_) => return false,
            }
        }
        true
    }

    fn is_in_memory(file: &File) -> bool {
        let kind = fstatfs(file).ok().and_then(|system| u32::try_from(system.f_type).ok());
        kind.is_some_and(|kind| IN_MEMORY.contains(&kind))
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io::Write;

    use rustix::fs::{Advice, fadvise};

    use super::*;

    fn written(folder: &str) -> Option<File> {
        let mut file = tempfile::tempfile_in(folder).ok()?;
        file.write_all(&content()).expect("room");
        Some(file)
    }

    fn content() -> Vec<u8> {
        (0..251).cycle().take(3 << 18).collect()
    }

    #[test]
    fn what_is_in_memory_is_read_and_what_is_not_there_is_not() {
        // A file system that is asked, as a rule, and one that need not be.
        let folders = [env!("CARGO_MANIFEST_DIR"), "/dev/shm"];
        let mut asked = 0;
        for file in folders.into_iter().filter_map(written) {
            let mut buf = vec![0; 1 << 18];
            if !read(&file, &mut buf, 5) {
                continue;
            }
            asked += 1;
            assert_eq!(buf, content()[5..5 + buf.len()]);
            // Its end is behind the file's.
            assert!(!read(&file, &mut buf, content().len() as u64 - 7));
        }
        assert!(asked > 0, "no file system here has a thing in memory");
    }

    #[test]
    fn what_the_system_gave_up_is_not_waited_for() {
        let Some(file) = written(env!("CARGO_MANIFEST_DIR")) else { return };
        file.sync_all().expect("a disk");
        fadvise(&file, 0, None, Advice::DontNeed).expect("advice");
        let mut buf = vec![0; 1 << 18];
        // A system need not heed that, and its disk may be memory.
        if !read(&file, &mut buf, 0) {
            use std::os::unix::fs::FileExt;
            file.read_exact_at(&mut buf, 0).expect("it is on the disk");
            assert!(read(&file, &mut buf, 0), "it has just been read");
        }
        assert_eq!(buf, content()[..buf.len()]);
    }
}
