//! File names that strangers chose, made safe: nothing leaves the folder of the torrent, on any
//! platform.
//!
//! One set of rules for all platforms, so that a torrent has the same files everywhere. A name is
//! changed only where it must be: `foo... bar` stays as it is. Characters that only some file
//! systems refuse (`?`, `*`, `"`, `<`, `>`, `|`, a colon that is no drive) stay, because they lead
//! nowhere.

use alloc::borrow::ToOwned;
use alloc::collections::BTreeSet;
use alloc::format;
use alloc::string::String;
use core::hash::Hasher;

use siphasher::sip::SipHasher13;

/// Longest name of a file or folder in bytes, which is what common file systems allow.
pub const COMPONENT_LEN_MAX: usize = 255;
/// Most components of one path (libtorrent's limit).
pub const DEPTH_MAX: usize = 100;
/// Most files that may need another name because theirs is taken (libtorrent's limit).
pub const RENAMES_MAX: usize = 100;

/// What is kept of an extension when a name is cut.
const EXTENSION_LEN_MAX: usize = 16;

/// A single path component from raw bytes, or `None` if it says nothing (empty, `.` or `..`).
///
/// - separators and bidirectional controls are dropped; if nothing is left, the name is `_`;
/// - control characters, line separators and each undecodable sequence become `_`;
/// - the colon of a drive letter becomes `_`; names of devices (`CON`, `nul.txt`) get a `_` in
///   front;
/// - trailing dots and spaces, which some platforms ignore, are cut;
/// - what is longer than [`COMPONENT_LEN_MAX`] is cut before its extension.
pub fn sanitise(raw: &[u8]) -> Option<String> {
    if matches!(raw, b"" | b"." | b"..") {
        return None;
    }
    let mut name = String::with_capacity(raw.len().min(COMPONENT_LEN_MAX));
    for chunk in raw.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '/' | '\\' => {}
                c if is_bidi_control(c) => {}
                c if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') => name.push('_'),
                c => name.push(c),
            }
        }
        if !chunk.invalid().is_empty() {
            name.push('_');
        }
    }
    if matches!(name.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic()) {
        name.replace_range(1..2, "_");
    }
    name.truncate(name.trim_end_matches(['.', ' ']).len());
    if name.is_empty() {
        name.push('_');
    }
    if is_device(&name) {
        name.insert(0, '_');
    }
    if name.len() > COMPONENT_LEN_MAX {
        name = with_suffix(&name, "");
    }
    Some(name)
}

/// Marks that turn the direction of what is displayed, so that a name lies about its extension.
const fn is_bidi_control(c: char) -> bool {
    matches!(
        c,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Whether Windows would open a device instead of a file, whatever the extension.
fn is_device(name: &str) -> bool {
    let stem = name.split(['.', ':']).next().unwrap_or_default().trim_end_matches(' ');
    if ["con", "prn", "aux", "nul", "conin$", "conout$"]
        .iter()
        .any(|device| stem.eq_ignore_ascii_case(device))
    {
        return true;
    }
    let mut chars = stem.chars();
    let prefix =
        [chars.next(), chars.next(), chars.next()].map(|c| c.map(|c| c.to_ascii_lowercase()));
    let numbered =
        matches!(prefix, [Some('c'), Some('o'), Some('m')] | [Some('l'), Some('p'), Some('t')]);
    numbered
        && matches!(chars.next(), Some('0'..='9' | '\u{b9}' | '\u{b2}' | '\u{b3}'))
        && chars.next().is_none()
}

/// `name` with `suffix` before its extension, cut to [`COMPONENT_LEN_MAX`]: `bar.txt` and `.1`
/// give `bar.1.txt`.
fn with_suffix(name: &str, suffix: &str) -> String {
    let dot = name.rfind('.').filter(|dot| *dot > 0 && name.len() - dot <= EXTENSION_LEN_MAX);
    let (stem, extension) = name.split_at(dot.unwrap_or(name.len()));
    let room = COMPONENT_LEN_MAX.saturating_sub(suffix.len() + extension.len());
    let stem = &stem[..stem.floor_char_boundary(room)];
    let joined = format!("{stem}{suffix}{extension}");
    joined.trim_end_matches(['.', ' ']).to_owned()
}

/// The names that are taken in one torrent, compared as a file system that ignores case would.
///
/// Only hashes are kept. A collision among them renames a file that need not be, and nothing else.
#[derive(Debug, Default)]
pub(super) struct Taken {
    paths: BTreeSet<u64>,
    renames: usize,
}

impl Taken {
    /// Takes all folders above the last component of `path`, which is joined by `/`.
    pub(super) fn take_folders(&mut self, path: &str) {
        let mut hasher = SipHasher13::new();
        let mut start = 0;
        for (slash, _) in path.match_indices('/') {
            fold(&path[start..slash], &mut hasher);
            self.paths.insert(hasher.finish());
            start = slash;
        }
    }

    /// Takes `path` for a file, under another name if its own is taken. `None` if that happened
    /// too often.
    pub(super) fn take_file(&mut self, path: String) -> Option<String> {
        if self.paths.insert(folded_hash(&path)) {
            return Some(path);
        }
        let (folder, name) = path.split_at(path.rfind('/').map_or(0, |slash| slash + 1));
        for number in 1..=RENAMES_MAX {
            if self.renames >= RENAMES_MAX {
                return None;
            }
            let other = format!("{folder}{}", with_suffix(name, &format!(".{number}")));
            if self.paths.insert(folded_hash(&other)) {
                self.renames += 1;
                return Some(other);
            }
        }
        None
    }
}

fn folded_hash(path: &str) -> u64 {
    let mut hasher = SipHasher13::new();
    fold(path, &mut hasher);
    hasher.finish()
}

/// Hashes `text` without its case. Upper case first, since `ς` and `σ` share theirs, and some file
/// systems compare that.
fn fold(text: &str, hasher: &mut SipHasher13) {
    let mut folded = [0; 64];
    for part in text.split_inclusive(|c: char| !c.is_ascii()) {
        let ascii = part.trim_end_matches(|c: char| !c.is_ascii());
        for bytes in ascii.as_bytes().chunks(folded.len()) {
            let folded = &mut folded[..bytes.len()];
            folded.copy_from_slice(bytes);
            folded.make_ascii_lowercase();
            hasher.write(folded);
        }
        for c in part[ascii.len()..].chars().flat_map(char::to_uppercase) {
            for c in c.to_lowercase() {
                hasher.write(c.encode_utf8(&mut [0; 4]).as_bytes());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::string::ToString;
    use std::vec::Vec;

    #[test]
    fn names_are_changed_only_where_they_must_be() {
        let cases: [(&[u8], Option<&str>); 42] = [
            (b"foo... bar", Some("foo... bar")),
            (b"...foo", Some("...foo")),
            (b".hidden", Some(".hidden")),
            (b"What? <why> *: \"x|y\"", Some("What? <why> *: \"x|y\"")),
            ("日本語.txt".as_bytes(), Some("日本語.txt")),
            (b"", None),
            (b".", None),
            (b"..", None),
            (b"...", Some("_")),
            (b". .", Some("_")),
            (b"/", Some("_")),
            (b"\\//", Some("_")),
            (b"/etc/passwd", Some("etcpasswd")),
            (b"..\\..\\evil", Some("....evil")),
            (b"temp/../../abc", Some("temp....abc")),
            (b"../", Some("_")),
            (b"..\0", Some(".._")),
            (b"C:", Some("C_")),
            (b"c:\\windows", Some("c_windows")),
            (b"\\\\server\\share", Some("servershare")),
            (b"\\\\?\\C:\\x", Some("?C:x")),
            (b"\0\0", Some("__")),
            (b"a\x1b[31mb", Some("a_[31mb")),
            (b"tail. . ", Some("tail")),
            (b"tail ", Some("tail")),
            (b"CON", Some("_CON")),
            (b"con.txt", Some("_con.txt")),
            (b"Nul.tar.gz", Some("_Nul.tar.gz")),
            (b"NUL .txt", Some("_NUL .txt")),
            (b"aux:x", Some("_aux:x")),
            (b"com1", Some("_com1")),
            ("LPT\u{b2}.x".as_bytes(), Some("_LPT\u{b2}.x")),
            (b"CONOUT$", Some("_CONOUT$")),
            (b"com10", Some("com10")),
            (b"console", Some("console")),
            (b"CON ", Some("_CON")),
            (b"\xff\xfetest", Some("__test")),
            (b"\xc0\xaetest", Some("__test")),
            (b"\xe0\x80", Some("__")),
            ("ann\u{202e}cod.exe".as_bytes(), Some("anncod.exe")),
            ("a\u{2066}b\u{200f}c".as_bytes(), Some("abc")),
            ("a\u{2028}b\u{85}c".as_bytes(), Some("a_b_c")),
        ];
        for (raw, expected) in cases {
            assert_eq!(sanitise(raw).as_deref(), expected, "{}", raw.escape_ascii());
        }
    }

    #[test]
    fn a_long_name_is_cut_before_its_extension() {
        let long = ["x".repeat(300), ".tar".to_string()].concat();
        let name = sanitise(long.as_bytes()).expect("a name");
        assert_eq!(name.len(), 255);
        assert!(name.ends_with("x.tar"));
        let wide = "日".repeat(100);
        assert_eq!(sanitise(wide.as_bytes()).expect("a name").len(), 255);
        let odd = ["日".repeat(100), "a".to_string()].concat();
        assert!(sanitise(odd.as_bytes()).expect("a name").len() <= 255);
    }

    #[test]
    fn names_that_differ_only_in_case_clash() {
        let mut taken = Taken::default();
        taken.take_folders("t/Dir/x");
        let paths: Vec<_> =
            ["t/bar.txt", "t/BAR.txt", "t/bar.1.txt", "t/dir", "t/Ö", "t/ö", "t/.x", "t/.X"]
                .into_iter()
                .map(|path| taken.take_file(path.to_string()).expect("few"))
                .collect();
        assert_eq!(
            paths,
            [
                "t/bar.txt",
                "t/BAR.1.txt",
                "t/bar.1.1.txt",
                "t/dir.1",
                "t/Ö",
                "t/ö.1",
                "t/.x",
                "t/.X.1"
            ]
        );
    }

    #[test]
    fn folding_knows_more_than_ascii() {
        let same = |a: &str, b: &str| folded_hash(a) == folded_hash(b);
        assert!(same("ΣΊΣΥΦΟΣ", "σίσυφος") && same("Straße", "STRASSE") && same("K", "\u{212a}"));
        let long = "aB".repeat(100);
        assert!(same(&long, &long.to_uppercase()) && !same(&long, &long[1..]));
    }

    #[test]
    fn too_many_clashes_are_refused() {
        let mut taken = Taken::default();
        let results: Vec<_> = (0..118).map(|_| taken.take_file("same".to_string())).collect();
        assert!(results[..=RENAMES_MAX].iter().all(Option::is_some));
        assert!(results[RENAMES_MAX + 1..].iter().all(Option::is_none));
    }

    proptest! {
        #[test]
        fn whatever_comes_in_a_safe_name_comes_out(
            raw in prop_oneof![
                prop::collection::vec(any::<u8>(), 0..400),
                "[./\\\\ :a-zA-Z\u{0}\u{202e}]{0,12}".prop_map(String::into_bytes),
                "\\PC{0,300}".prop_map(String::into_bytes),
            ],
        ) {
            if let Some(name) = sanitise(&raw) {
                prop_assert!(!name.is_empty() && name.len() <= COMPONENT_LEN_MAX);
                prop_assert!(!name.contains(['/', '\\', '\0']));
                prop_assert!(!name.chars().any(char::is_control));
                prop_assert!(name != "." && name != "..");
                prop_assert!(!name.ends_with(['.', ' ']));
                prop_assert!(!is_device(&name));
                prop_assert_eq!(sanitise(name.as_bytes()), Some(name));
            }
        }
    }
}
