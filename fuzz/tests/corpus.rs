//! The committed corpus keeps its promises, and is what the code says it is.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use teem_fuzz::{TARGETS, Target, seeds};

/// Bytes of all files together.
const CORPUS_LEN_MAX: usize = 1024 * 1024;

/// Inputs that each target has at least.
const INPUTS_MIN: usize = 3;

fn corpus() -> BTreeMap<PathBuf, Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
    let mut files = BTreeMap::new();
    for folder in fs::read_dir(&root).expect("the corpus") {
        for file in fs::read_dir(folder.expect("a folder").path()).expect("a folder") {
            let path = file.expect("a file").path();
            let bytes = fs::read(&path).expect("a file");
            let name = path.strip_prefix(&root).expect("below the root");
            files.insert(name.to_path_buf(), bytes);
        }
    }
    files
}

#[test]
fn every_file_of_the_corpus_is_replayed() {
    let corpus = corpus();
    let mut ran = 0;
    for target in TARGETS {
        let mut of_it = 0;
        for (path, bytes) in &corpus {
            if path.starts_with(target.name) {
                println!("{}", path.display());
                (target.run)(bytes);
                of_it += 1;
            }
        }
        assert!(of_it >= INPUTS_MIN, "{} has {of_it} inputs", target.name);
        ran += of_it;
    }
    assert_eq!(ran, corpus.len(), "every file belongs to a target");
    println!("{ran} files replayed");
}

#[test]
fn the_corpus_is_what_the_example_writes_and_small() {
    let seeds = seeds::seeds();
    let written: BTreeMap<_, _> = seeds
        .iter()
        .map(|seed| (Path::new(seed.target).join(&seed.name), seed.bytes.clone()))
        .collect();
    assert_eq!(written.len(), seeds.len(), "names are unique");
    let mut corpus = corpus();
    assert!(corpus.values().map(Vec::len).sum::<usize>() <= CORPUS_LEN_MAX);
    let found = |path: &Path| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(seeds::FOUND))
    };
    corpus.retain(|path, _| !found(path));
    assert!(corpus.keys().eq(written.keys()), "run the example `seeds`, and commit what it writes");
    for (name, bytes) in &written {
        assert!(corpus[name] == *bytes, "{} differs", name.display());
    }
}

#[test]
fn every_target_has_a_shell_for_libfuzzer() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("libfuzzer");
    let manifest = fs::read_to_string(root.join("Cargo.toml")).expect("its manifest");
    for Target { name, .. } in TARGETS {
        let shell = fs::read_to_string(root.join(format!("fuzz_targets/{name}.rs")));
        assert!(shell.is_ok_and(|shell| shell.contains(&format!("teem_fuzz::{name}("))), "{name}");
        assert!(manifest.contains(&format!("\nname = \"{name}\"\n")), "{name}");
    }
}
