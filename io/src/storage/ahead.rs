//! Telling the system what will be read.

use std::fs::File;
use std::num::NonZeroU64;

use rustix::fs::{Advice, fadvise};

/// Bytes in one call: Linux begins to read no more than a device takes at a time, and forgets the
/// rest.
const CALL_MAX: u64 = 256 * 1024;

/// Begins to read so much of a file into memory, and does not wait for it. A hint: whatever goes
/// wrong shows when the file is read.
pub fn read(file: &File, offset: u64, len: u64) {
    let end = offset.saturating_add(len);
    let mut at = offset;
    while let Some(left) = NonZeroU64::new(end - at) {
        let now = left.min(NonZeroU64::MIN.saturating_add(CALL_MAX - 1));
        if fadvise(file, at, Some(now), Advice::WillNeed).is_err() {
            return;
        }
        at += now.get();
    }
}
