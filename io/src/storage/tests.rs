//! Tests of stores through their public traits.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use teem_core::machine::{Allocation, JobError, JobErrorKind, OpenFiles};
use teem_core::metainfo::Layout;

use super::testing::{layout, location, open_files};
use super::{FileStats, FileStore, MemoryStore, Storage, Store};

fn opened(files: &OpenFiles) -> Result<(Arc<dyn Storage>, FileStats), JobError> {
    FileStore::new().open(files)
}

fn open(files: &OpenFiles) -> (Arc<dyn Storage>, FileStats) {
    opened(files).expect("opened")
}

/// Why a store does not open.
fn refusal(files: &OpenFiles) -> JobError {
    opened(files).err().expect("refused")
}

fn read(storage: &dyn Storage, offset: u64, len: usize) -> Vec<u8> {
    let mut buf = vec![0xaa; len];
    storage.read_at(offset, &mut buf).expect("readable");
    // What is read without waiting is the same.
    let mut cached = vec![0xbb; len];
    if storage.read_cached(offset, &mut cached) {
        assert_eq!(cached, buf);
    }
    buf
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0)
}

/// All files below a folder, and all folders.
fn tree(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).expect("a folder").flatten() {
            found.push(entry.path().strip_prefix(folder).expect("below").display().to_string());
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(entry.path());
            }
        }
    }
    found.retain(|path| !path.starts_with(".teem"));
    found.sort();
    found
}

fn two_files() -> Arc<Layout> {
    layout(&[("a/one", 20_000), ("empty", 0), (".pad/100", 12_768), ("b/c/two", 50_000)])
}

#[test]
fn opening_makes_all_files_sparse_and_reports_that_they_were_not_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let (storage, found) = open(&open_files(&two_files(), &folder.path().join("new")));
    assert!(found.iter().all(Option::is_none));
    let folder = folder.path().join("new");
    assert_eq!(tree(&folder), ["t", "t/a", "t/a/one", "t/b", "t/b/c", "t/b/c/two", "t/empty"]);
    let stats = storage.flush().expect("flushed");
    let lens: Vec<_> = stats.iter().map(|stat| stat.map(|stat| stat.len)).collect();
    assert_eq!(lens, [Some(20_000), Some(0), None, Some(50_000)]);
    assert!(stats.iter().flatten().all(|stat| stat.allocated == 0));
}

#[test]
fn full_allocation_takes_the_blocks_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let files =
        OpenFiles { allocation: Allocation::Full, ..open_files(&two_files(), folder.path()) };
    let (storage, _) = open(&files);
    let stats = storage.check().expect("readable");
    let taken = stats[3].expect("there").allocated;
    assert!(taken == 0 || taken >= 50_000, "{taken}");
    if taken == 0 {
        eprintln!("left out: this file system cannot allocate");
    }
}

#[test]
fn files_are_found_again_as_they_were_left() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = open_files(&two_files(), folder.path());
    let (storage, _) = open(&files);
    storage.write_at(19_990, &[&[1; 10], &[2; 13_000]]).expect("written");
    let left = storage.flush().expect("flushed");
    drop(storage);
    let (storage, found) = open(&files);
    assert_eq!(found, left);
    assert_eq!(read(&*storage, 19_990, 10), [1; 10]);
    assert_eq!(read(&*storage, 20_000, 12_768), [0; 12_768]);
    assert_eq!(read(&*storage, 32_768, 232), [2; 232]);
    assert_eq!(fs::read_dir(folder.path()).expect("there").count(), 2);
}

#[test]
fn a_file_that_is_there_keeps_its_bytes_and_its_tail() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("t/a")).expect("created");
    fs::create_dir_all(folder.path().join("t/b/c")).expect("created");
    fs::write(folder.path().join("t/a/one"), vec![7; 30_000]).expect("written");
    fs::write(folder.path().join("t/b/c/two"), [8; 10]).expect("written");
    let (storage, found) = open(&open_files(&two_files(), folder.path()));
    assert_eq!(found[0].expect("there").len, 30_000);
    assert_eq!(found[3].expect("there").len, 10);
    assert_eq!(fs::read(folder.path().join("t/a/one")).expect("there"), vec![7; 30_000]);
    assert_eq!(read(&*storage, 32_768, 11), [8, 8, 8, 8, 8, 8, 8, 8, 8, 8, 0]);
    assert_eq!(fs::metadata(folder.path().join("t/b/c/two")).expect("there").len(), 50_000);
}

#[test]
fn an_unwanted_file_is_made_when_it_is_written() {
    let folder = tempfile::tempdir().expect("a folder");
    let wanted = [true, false, true, false].into();
    let (storage, _) = open(&OpenFiles { wanted, ..open_files(&two_files(), folder.path()) });
    assert_eq!(tree(folder.path()), ["t", "t/a", "t/a/one", "t/empty"]);
    let failed = storage.read_at(40_000, &mut [0]).expect_err("not there");
    assert_eq!(failed.kind, JobErrorKind::NotFound);
    storage.write_at(40_000, &[&[1]]).expect("written");
    assert_eq!(storage.flush().expect("flushed")[3].expect("there").len, 50_000);
    assert_eq!(read(&*storage, 40_000, 2), [1, 0]);
}

#[test]
fn what_was_written_is_read_without_waiting() {
    // Where there is nothing but memory.
    let Ok(folder) = tempfile::tempdir_in("/dev/shm") else { return };
    let (storage, _) = open(&open_files(&two_files(), folder.path()));
    let mut buf = vec![0xaa; 20_000];
    storage.write_at(19_990, &[&[1; 10], &[2; 13_000]]).expect("written");
    let is_linux = cfg!(target_os = "linux");
    assert_eq!(storage.read_cached(15_000, &mut buf), is_linux);
    if is_linux {
        assert_eq!(buf, read(&*storage, 15_000, 20_000));
        assert_eq!((buf[4_989], buf[4_990], buf[17_767], buf[17_768]), (0, 1, 0, 2));
    }
    // What it cannot have is left to those who say why.
    assert!(!storage.read_cached(u64::MAX, &mut buf));
    drop(storage);
    let (storage, _) = open(&open_files(&two_files(), folder.path()));
    assert!(!storage.read_cached(0, &mut [0]), "opening a file may take a while");
    read(&*storage, 0, 1);
    assert_eq!(storage.read_cached(0, &mut [0]), is_linux);
    fs::File::options()
        .write(true)
        .open(folder.path().join("t/a/one"))
        .expect("there")
        .set_len(9)
        .expect("shorter");
    assert!(!storage.read_cached(0, &mut [0; 10]));
    let failed = storage.read_at(0, &mut [0; 10]).expect_err("too short");
    assert_eq!(failed.kind, JobErrorKind::NotFound);
}

#[test]
fn a_file_that_vanished_is_not_made_anew() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = open_files(&two_files(), folder.path());
    drop(open(&files));
    let (storage, _) = open(&files);
    fs::remove_file(folder.path().join("t/a/one")).expect("removed");
    let failed = storage.write_at(0, &[&[1]]).expect_err("gone");
    assert_eq!(failed.kind, JobErrorKind::NotFound);
    assert!(failed.detail.contains("t/a/one"), "{}", failed.detail);
    assert_eq!(storage.check().expect("readable")[0], None);
}

#[test]
fn a_folder_in_a_files_place_is_in_the_way_and_nothing_is_left_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::create_dir_all(folder.path().join("t/b/c/two")).expect("created");
    let failed = refusal(&open_files(&two_files(), folder.path()));
    assert_eq!(failed.kind, JobErrorKind::Obstructed);
    assert_eq!(tree(folder.path()), ["t", "t/b", "t/b/c", "t/b/c/two"]);
    assert!(!folder.path().join(".teem").exists());
}

#[test]
fn a_link_out_of_the_folder_is_in_the_way() {
    let folder = tempfile::tempdir().expect("a folder");
    let outside = tempfile::tempdir().expect("a folder");
    fs::create_dir(folder.path().join("t")).expect("created");
    symlink(outside.path(), folder.path().join("t/b")).expect("linked");
    let failed = refusal(&open_files(&two_files(), folder.path()));
    assert_eq!(failed.kind, JobErrorKind::Obstructed);
    assert_eq!(tree(outside.path()), [""; 0]);
    assert_eq!(tree(folder.path()), ["t", "t/b"]);
}

#[test]
fn what_is_opened_for_reading_is_only_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = open_files(&two_files(), folder.path());
    let read_only = OpenFiles { writable: false, ..files.clone() };
    let (storage, found) = open(&read_only);
    assert!(found.iter().all(Option::is_none));
    assert_eq!(tree(folder.path()), [""; 0]);
    assert_eq!(refusal(&files).kind, JobErrorKind::Busy);
    let _second_reader = open(&read_only);
    let failed = storage.write_at(0, &[&[1]]).expect_err("read only");
    assert_eq!(failed.kind, JobErrorKind::PermissionDenied);
    let missing = OpenFiles { folder: location(&folder.path().join("no")), ..read_only };
    assert_eq!(refusal(&missing).kind, JobErrorKind::NotFound);
}

#[test]
fn a_file_without_write_permission_can_still_be_read() {
    if is_root() {
        eprintln!("left out: root may write anything");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let files = open_files(&two_files(), folder.path());
    drop(open(&files));
    let path = folder.path().join("t/a/one");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).expect("allowed");
    let (storage, _) = open(&files);
    assert_eq!(read(&*storage, 0, 10), [0; 10]);
    let failed = storage.write_at(0, &[&[1]]).expect_err("not allowed");
    assert_eq!(failed.kind, JobErrorKind::PermissionDenied);
}

#[test]
fn a_second_instance_is_kept_out_until_the_first_is_gone() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = open_files(&two_files(), folder.path());
    let first = open(&files);
    assert_eq!(refusal(&files).kind, JobErrorKind::Busy);
    let _other = open(&OpenFiles { key: "def".into(), ..files.clone() });
    drop(first);
    open(&files);
}

#[test]
fn content_outside_of_the_torrent_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let layout = two_files();
    let (storage, _) = open(&open_files(&layout, folder.path()));
    let end = layout.space_len();
    storage.write_at(end - 1, &[&[1]]).expect("the last byte");
    for (offset, len) in [(end - 1, 2), (end, 1), (u64::MAX, 1)] {
        storage.read_at(offset, &mut vec![0; len]).expect_err("outside");
        storage.write_at(offset, &[&vec![0; len]]).expect_err("outside");
    }
}

#[test]
fn deleting_leaves_what_is_not_ours() {
    let folder = tempfile::tempdir().expect("a folder");
    let (storage, _) = open(&open_files(&two_files(), folder.path()));
    fs::write(folder.path().join("t/b/mine"), b"m").expect("written");
    storage.delete().expect("deleted");
    assert_eq!(tree(folder.path()), ["t", "t/b", "t/b/mine"]);
    drop(storage);
    assert!(!folder.path().join(".teem").exists());
}

#[test]
fn moving_takes_content_times_and_lock_along() {
    let from = tempfile::tempdir().expect("a folder");
    let to = tempfile::tempdir().expect("a folder");
    let files = open_files(&two_files(), from.path());
    let (storage, _) = open(&files);
    storage.write_at(32_768, &[&[5; 100]]).expect("written");
    let before = storage.flush().expect("flushed");
    storage.move_to(&location(&to.path().join("deep/er"))).expect("moved");
    assert_eq!(storage.flush().expect("flushed"), before);
    assert_eq!(read(&*storage, 32_768, 100), [5; 100]);
    storage.write_at(0, &[&[6]]).expect("written");
    assert_eq!(fs::read_dir(from.path()).expect("there").count(), 0);
    let there = OpenFiles { folder: location(&to.path().join("deep/er")), ..files.clone() };
    assert_eq!(refusal(&there).kind, JobErrorKind::Busy);
    open(&files);
}

#[test]
fn moving_onto_something_moves_nothing() {
    let from = tempfile::tempdir().expect("a folder");
    let to = tempfile::tempdir().expect("a folder");
    let (storage, _) = open(&open_files(&two_files(), from.path()));
    let before = tree(from.path());
    fs::create_dir_all(to.path().join("t/b/c")).expect("created");
    fs::write(to.path().join("t/b/c/two"), b"mine").expect("written");
    let failed = storage.move_to(&location(to.path())).expect_err("in the way");
    assert_eq!(failed.kind, JobErrorKind::Obstructed);
    assert_eq!(tree(from.path()), before);
    assert_eq!(tree(to.path()), ["t", "t/b", "t/b/c", "t/b/c/two"]);
    assert_eq!(fs::read(to.path().join("t/b/c/two")).expect("there"), b"mine");
    assert!(!to.path().join(".teem").exists());
}

/// Two folders on different devices, or nothing.
fn two_devices() -> Option<[tempfile::TempDir; 2]> {
    let one = tempfile::tempdir().ok()?;
    let other = tempfile::tempdir_in("/dev/shm").ok()?;
    let device = |folder: &tempfile::TempDir| fs::metadata(folder.path()).map(|m| m.dev()).ok();
    (device(&one)? != device(&other)?).then_some([one, other])
}

#[test]
fn moving_to_another_device_copies_content_holes_and_times() {
    let Some([from, to]) = two_devices() else {
        eprintln!("left out: there is no second device at /dev/shm");
        return;
    };
    let layout = layout(&[("large", 64 << 20), ("empty", 0)]);
    let (storage, _) = open(&open_files(&layout, from.path()));
    storage.write_at(32 << 20, &[&vec![5; 70_000]]).expect("written");
    let before = storage.flush().expect("flushed");
    storage.move_to(&location(to.path())).expect("moved");
    let after = storage.flush().expect("flushed");
    let facts = |stats: &FileStats| -> Vec<_> {
        stats.iter().flatten().map(|stat| (stat.len, stat.modified)).collect()
    };
    assert_eq!(facts(&after), facts(&before));
    assert!(after[0].expect("there").allocated < 1 << 20, "holes stay holes");
    assert_eq!(read(&*storage, 32 << 20, 70_000), vec![5; 70_000]);
    assert_eq!(fs::read_dir(from.path()).expect("there").count(), 0);
}

#[test]
fn a_move_that_fails_half_way_brings_back_what_was_copied() {
    let Some([from, to]) = two_devices() else {
        eprintln!("left out: there is no second device at /dev/shm");
        return;
    };
    let (storage, _) = open(&open_files(&two_files(), from.path()));
    let before = tree(from.path());
    fs::write(to.path().join("obstacle"), b"").expect("written");
    fs::create_dir(to.path().join("t")).expect("created");
    fs::write(to.path().join("t/b"), b"mine").expect("written");
    storage.move_to(&location(to.path())).expect_err("in the way");
    assert_eq!(tree(from.path()), before);
    assert_eq!(tree(to.path()), ["obstacle", "t", "t/b"]);
    assert_eq!(read(&*storage, 0, 10), [0; 10]);
}

#[test]
fn more_files_than_may_be_open_are_read_and_written_all_the_same() {
    let folder = tempfile::tempdir().expect("a folder");
    let names: Vec<String> = (0..300).map(|n| format!("f{n}")).collect();
    let files: Vec<_> = names.iter().map(|name| (&**name, 10)).collect();
    let (storage, _) = open(&open_files(&layout(&files), folder.path()));
    let content: Vec<u8> = (0..3000_u32).map(|n| n as u8).collect();
    storage.write_at(0, &[&content]).expect("written");
    assert_eq!(read(&*storage, 0, 3000), content);
    assert_eq!(storage.flush().expect("flushed").iter().flatten().count(), 300);
}

#[test]
fn a_write_of_more_parts_than_one_call_takes_is_whole() {
    let folder = tempfile::tempdir().expect("a folder");
    let (storage, _) = open(&open_files(&layout(&[("f", 5000)]), folder.path()));
    let content: Vec<u8> = (0..5000_u32).map(|n| (n * 7) as u8).collect();
    let parts: Vec<&[u8]> = content.chunks(2).collect();
    storage.write_at(0, &parts).expect("written");
    assert_eq!(read(&*storage, 0, 5000), content);
}

/// Set for a run of this program whose folder is a disk of one mebibyte.
const SMALL_DISK: &str = "TEEM_TEST_SMALL_DISK";

#[test]
fn a_full_disk_is_said_to_be_full_and_a_failed_allocation_is_undone() {
    let Some(disk) = std::env::var_os(SMALL_DISK) else { return run_on_a_small_disk() };
    let disk = Path::new(&disk);
    let layout = layout(&[("a", 100_000), ("b", 8 << 20)]);
    let full = OpenFiles { allocation: Allocation::Full, ..open_files(&layout, disk) };
    assert_eq!(refusal(&full).kind, JobErrorKind::Full);
    assert_eq!(fs::read_dir(disk).expect("there").count(), 0);
    let (storage, _) = open(&open_files(&layout, disk));
    let failed = storage.write_at(0, &[&vec![1; 4 << 20]]).expect_err("too much");
    assert_eq!(failed.kind, JobErrorKind::Full);
    assert!(failed.detail.contains("t/b: "), "{}", failed.detail);
    storage.write_at(0, &[&[1; 10]]).expect("where there is room already");
    let saved = super::save(&location(disk), "blob", &vec![1; 4 << 20]).expect_err("too much");
    assert_eq!(saved.kind, JobErrorKind::Full);
    assert!(!disk.join(".blob.new").exists());
}

/// Runs the test above once more, with a small disk in a mount namespace of its own.
fn run_on_a_small_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let script = "mount -t tmpfs -o size=1m none \"$1\" || exit 77; exec \"$2\" --exact \"$3\"";
    let name = "storage::tests::a_full_disk_is_said_to_be_full_and_a_failed_allocation_is_undone";
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "--map-root-user", "sh", "-c", script, "sh"]);
    command.arg(folder.path()).arg(std::env::current_exe().expect("known")).arg(name);
    let output = command.env(SMALL_DISK, folder.path()).output();
    let ran = output
        .as_ref()
        .is_ok_and(|output| String::from_utf8_lossy(&output.stdout).contains("running 1 test"));
    match output {
        Ok(output) if ran => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
        }
        _ => {
            eprintln!(
                "left out: no disk can be mounted here; unshare(1) and user namespaces do it"
            );
        }
    }
}

#[derive(Clone, Debug)]
struct Write {
    offset: u64,
    parts: Vec<Vec<u8>>,
}

fn layouts() -> impl Strategy<Value = Vec<(bool, u64)>> {
    let file = (prop::bool::weighted(0.2), prop_oneof![Just(0), 0_u64..40, 0_u64..3000]);
    prop::collection::vec(file, 1..12).prop_filter("a torrent has content", |files| {
        files.iter().any(|(pad, len)| !pad && *len > 0)
    })
}

fn writes() -> impl Strategy<Value = Vec<Write>> {
    let parts = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..600), 0..5);
    let write = (0_u64..6000, parts).prop_map(|(offset, parts)| Write { offset, parts });
    prop::collection::vec(write, 0..12)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    /// The model: one vector of bytes, in which padding is never written.
    #[test]
    fn stores_agree_with_a_flat_vector(files in layouts(), writes in writes()) {
        let folder = tempfile::tempdir().expect("a folder");
        let name = |n: usize, pad| if pad { format!(".pad/{n}") } else { format!("d{}/f{n}", n % 3) };
        let names: Vec<_> =
            files.iter().enumerate().map(|(n, (pad, len))| (name(n, *pad), *len)).collect();
        let named: Vec<_> = names.iter().map(|(name, len)| (&**name, *len)).collect();
        let layout = layout(&named);
        let pads: Vec<bool> =
            files.iter().flat_map(|(pad, len)| vec![*pad; *len as usize]).collect();
        let mut model = vec![0_u8; pads.len()];
        let open = open_files(&layout, folder.path());
        let (on_disk, _) = FileStore::new().open(&open).expect("opened");
        let (in_memory, _) = MemoryStore::new().open(&open).expect("opened");
        for Write { offset, parts } in &writes {
            let data = parts.concat();
            let parts: Vec<&[u8]> = parts.iter().map(|part| &part[..]).collect();
            let fits = *offset as usize + data.len() <= model.len();
            prop_assert_eq!(on_disk.write_at(*offset, &parts).is_ok(), fits);
            prop_assert_eq!(in_memory.write_at(*offset, &parts).is_ok(), fits);
            if fits {
                for (at, byte) in (*offset as usize..).zip(data) {
                    if !pads[at] {
                        model[at] = byte;
                    }
                }
            }
        }
        prop_assert_eq!(&read(&*on_disk, 0, model.len()), &model);
        for start in (0..model.len()).step_by(97) {
            let end = model.len().min(start + 131);
            prop_assert_eq!(&read(&*on_disk, start as u64, end - start), &model[start..end]);
        }
        prop_assert_eq!(&read(&*in_memory, 0, model.len()), &model);
        let stats = on_disk.flush().expect("flushed");
        for (stat, (pad, len)) in stats.iter().zip(&files) {
            prop_assert_eq!(stat.map(|stat| stat.len), (!pad).then_some(*len));
        }
    }
}
