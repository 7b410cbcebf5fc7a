//! What is transferred: a small tree of files, the torrent that describes it, and the check of a copy.
//!
//! The bytes come from a fixed seed, so every run moves the same torrent. The torrent file is written
//! here by hand, not by `teem`: a fault in our own encoder must not hide from its own reader. BEP 3.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use sha1::Digest as _;

use crate::Failure;

/// The name of the torrent, and of the folder that holds its files.
const NAME: &str = "interop garden";

/// Bytes in a piece.
const PIECE_LEN: usize = 256 * 1024;

/// The files in torrent order, with their lengths in bytes: no length is a multiple of a block, the
/// borders fall inside pieces, one piece holds parts of four files, and one file is empty.
const FILES: [(&[&str], usize); 6] = [
    (&["a long row.bin"], 41_234_567),
    (&["bed", "empty"], 0),
    (&["bed", "one byte"], 1),
    (&["bed", "deep", "seventeen bytes"], 17),
    (&["k\u{fc}rbis.bin"], 25_000_003),
    (&["last"], 1_048_577),
];

/// Which generation of the protocol the torrent is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// BEP 3.
    V1,
    /// BEP 52.
    V2,
    /// Both.
    Hybrid,
}

/// The content of the test torrent on disk, made once per run.
#[derive(Debug)]
pub struct Content {
    folder: PathBuf,
    info: Vec<u8>,
    sums: BTreeMap<PathBuf, [u8; 32]>,
}

impl Content {
    /// Writes the files below `folder` and hashes them.
    pub fn make(folder: &Path) -> Result<Self, Failure> {
        let mut rng = SplitMix(0x7465_656d);
        let mut pieces = Pieces::default();
        let mut sums = BTreeMap::new();
        for (parts, len) in FILES {
            let relative: PathBuf = std::iter::once(&NAME).chain(parts).collect();
            let path = folder.join(&relative);
            let io = || Failure::io(format!("writing {}", path.display()));
            fs::create_dir_all(path.parent().expect("a file lies in a folder")).map_err(io())?;
            let mut file = BufWriter::new(File::create(&path).map_err(io())?);
            let bytes = rng.bytes(len);
            file.write_all(&bytes).and_then(|()| file.flush()).map_err(io())?;
            pieces.update(&bytes);
            sums.insert(relative, sha2::Sha256::digest(&bytes).into());
        }
        let info = encode_info(&pieces.finish());
        Ok(Self { folder: folder.to_owned(), info, sums })
    }

    /// Bytes in all files together.
    pub fn len_bytes() -> usize {
        FILES.iter().map(|(_, len)| len).sum()
    }

    /// The SHA-1 of the info dictionary.
    pub fn info_hash(&self) -> [u8; 20] {
        sha1::Sha1::digest(&self.info).into()
    }

    /// The name of the torrent's own folder.
    pub fn name() -> &'static str {
        NAME
    }

    /// Writes the torrent file, with one tracker or none. Others than v1 torrents are libtorrent's,
    /// with or without the piece layers.
    pub fn write_torrent(
        &self,
        path: &Path,
        tracker: Option<&str>,
        format: Format,
        bare: bool,
    ) -> Result<(), Failure> {
        if format != Format::V1 {
            let mut make = self.libtorrent(format)?;
            make.arg("--output").arg(path);
            if let Some(url) = tracker {
                make.args(["--tracker", url]);
            }
            if bare {
                make.arg("--strip");
            }
            return run(make);
        }
        let mut out = b"d".to_vec();
        if let Some(url) = tracker {
            out.extend(format!("8:announce{}:{url}", url.len()).bytes());
        }
        out.extend(b"4:info");
        out.extend(&self.info);
        out.push(b'e');
        fs::write(path, out).map_err(Failure::io(format!("writing {}", path.display())))
    }

    /// The magnet link of a torrent file of the content, as libtorrent writes it.
    pub fn magnet(torrent: &Path) -> Result<String, Failure> {
        let mut command = Command::new(crate::program::libtorrent_python()?);
        let say = "import libtorrent, sys; print(libtorrent.make_magnet_uri(libtorrent.torrent_info(sys.argv[1])))";
        let said = command.args(["-W", "ignore", "-c", say]).arg(torrent).output();
        let said = said.map_err(Failure::io("asking libtorrent for a magnet link"))?;
        Ok(String::from_utf8_lossy(&said.stdout).trim().to_owned())
    }

    /// Whether a torrent of the content is the one that libtorrent makes: the same `info`, byte for
    /// byte, and the same piece layers.
    pub fn compare(&self, torrent: &Path, format: Format) -> Result<(), Failure> {
        let mut compare = self.libtorrent(format)?;
        compare.arg("--compare").arg(torrent);
        run(compare)
    }

    /// The folder that the torrent describes.
    pub fn path(&self) -> PathBuf {
        self.folder.join(NAME)
    }

    fn libtorrent(&self, format: Format) -> Result<Command, Failure> {
        let mut command = Command::new(crate::program::libtorrent_python()?);
        command
            .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/peers/libtorrent_create.py"))
            .arg(self.path())
            .args(["--piece-size", &PIECE_LEN.to_string(), "--format"])
            .arg(match format {
                Format::V1 => "v1",
                Format::V2 => "v2",
                Format::Hybrid => "hybrid",
            });
        Ok(command)
    }

    /// Copies the files below `folder`, so that a program may do to them what it wants.
    pub fn copy_to(&self, folder: &Path) -> Result<(), Failure> {
        for relative in self.sums.keys() {
            let path = folder.join(relative);
            fs::create_dir_all(path.parent().expect("a file lies in a folder"))
                .and_then(|()| fs::copy(self.folder.join(relative), &path))
                .map_err(Failure::io(format!("copying to {}", path.display())))?;
        }
        Ok(())
    }

    /// Checks that `folder` holds exactly the torrent's files, with the right bytes. Files of no bytes
    /// may be missing unless `empty_files` asks for them.
    pub fn verify(&self, folder: &Path, empty_files: bool) -> Result<(), Failure> {
        let fault = |path: &Path, fault| Failure::Content { path: path.to_owned(), fault };
        let nothing: [u8; 32] = sha2::Sha256::digest(b"").into();
        for (relative, sum) in &self.sums {
            if !empty_files && *sum == nothing && !folder.join(relative).exists() {
                continue;
            }
            let mut file =
                File::open(folder.join(relative)).map_err(|_| fault(relative, "is missing"))?;
            if hash(&mut file).map_err(Failure::io(format!("reading {}", relative.display())))?
                != *sum
            {
                return Err(fault(relative, "has the wrong bytes"));
            }
        }
        let mut found = Vec::new();
        list(&folder.join(NAME), &mut found)
            .map_err(Failure::io(format!("listing {}", folder.display())))?;
        for path in found {
            let relative = path.strip_prefix(folder).expect("it was found below the folder");
            if !self.sums.contains_key(relative) {
                return Err(fault(relative, "is not part of the torrent"));
            }
        }
        Ok(())
    }
}

/// Runs a short program to its end, and tells what it said if that was bad.
fn run(mut command: Command) -> Result<(), Failure> {
    let output = command.output().map_err(Failure::io("starting libtorrent"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Failure::io("making a torrent with libtorrent")(std::io::Error::other(said)))
}

fn hash(file: &mut File) -> std::io::Result<[u8; 32]> {
    let mut hasher = sha2::Sha256::default();
    let mut buf = vec![0; 256 * 1024];
    loop {
        let n = file.read(&mut buf)?;
        if n == 0 {
            return Ok(hasher.finalize().into());
        }
        hasher.update(&buf[..n]);
    }
}

fn list(folder: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            list(&entry.path(), found)?;
        } else {
            found.push(entry.path());
        }
    }
    Ok(())
}

/// Two hex digits for each byte, each pair after `before`.
pub(crate) fn hex(bytes: [u8; 20], before: &str) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut out, byte| {
        write!(out, "{before}{byte:02x}").expect("a string takes all");
        out
    })
}

/// The info dictionary, keys in order.
fn encode_info(pieces: &[u8]) -> Vec<u8> {
    let mut out = b"d5:filesl".to_vec();
    for (parts, len) in FILES {
        out.extend(format!("d6:lengthi{len}e4:pathl").bytes());
        for part in parts {
            out.extend(format!("{}:{part}", part.len()).bytes());
        }
        out.extend(b"ee");
    }
    out.extend(format!("e4:name{}:{NAME}", NAME.len()).bytes());
    out.extend(format!("12:piece lengthi{PIECE_LEN}e6:pieces{}:", pieces.len()).bytes());
    out.extend(pieces);
    out.push(b'e');
    out
}

/// Cuts the stream of all files into pieces and hashes each.
#[derive(Default)]
struct Pieces {
    hasher: sha1::Sha1,
    filled: usize,
    sums: Vec<u8>,
}

impl Pieces {
    fn update(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let (now, rest) = bytes.split_at(bytes.len().min(PIECE_LEN - self.filled));
            self.hasher.update(now);
            self.filled += now.len();
            bytes = rest;
            if self.filled == PIECE_LEN {
                self.close();
            }
        }
    }

    fn close(&mut self) {
        self.sums.extend(self.hasher.finalize_reset());
        self.filled = 0;
    }

    fn finish(mut self) -> Vec<u8> {
        if self.filled > 0 {
            self.close();
        }
        self.sums
    }
}

/// SplitMix64: enough for bytes that do not compress and do not repeat.
struct SplitMix(u64);

impl SplitMix {
    fn bytes(&mut self, len: usize) -> Vec<u8> {
        let mut out = Vec::with_capacity(len + 8);
        while out.len() < len {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            out.extend((z ^ (z >> 31)).to_le_bytes());
        }
        out.truncate(len);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_torrent_is_large_enough_and_odd_enough() {
        assert!(Content::len_bytes() >= 64 << 20);
        assert!(FILES.iter().any(|(_, len)| *len == 0), "no empty file");
        assert!(FILES.iter().all(|(_, len)| *len == 0 || len % (16 * 1024) != 0));
    }

    #[test]
    fn content_is_the_same_every_time_and_a_changed_copy_is_found_out() {
        let scratch = tempfile::tempdir().expect("a folder");
        let content = Content::make(&scratch.path().join("one")).expect("made");
        let copy = scratch.path().join("copy");
        content.copy_to(&copy).expect("copied");
        content.verify(&copy, true).expect("an untouched copy");

        let last = copy.join(NAME).join("last");
        let good = fs::read(&last).expect("it is there");
        let mut bad = good.clone();
        bad[1_000_000] ^= 1;
        fs::write(&last, bad).expect("written");
        let fault = content.verify(&copy, true).expect_err("one bit is wrong").to_string();
        assert!(fault.ends_with("last: has the wrong bytes"), "{fault}");

        fs::write(&last, good).expect("written");
        let weed = copy.join(NAME).join("weed");
        fs::write(&weed, "").expect("written");
        let fault = content.verify(&copy, true).expect_err("one file too many").to_string();
        assert!(fault.ends_with("weed: is not part of the torrent"), "{fault}");

        fs::remove_file(weed).expect("removed");
        fs::remove_file(copy.join(NAME).join("bed/empty")).expect("removed");
        let fault = content.verify(&copy, true).expect_err("the empty file is gone").to_string();
        assert!(fault.ends_with("bed/empty: is missing"), "{fault}");
        content.verify(&copy, false).expect("nothing else is wrong");

        assert_eq!(hex(content.info_hash(), ""), "7c76891c500e1f290265c921ce0c356f3d95402c");
    }
}
