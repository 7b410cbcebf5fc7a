//! Symbolic links (BEP 47): to other files and folders of the same torrent, or to nothing.

use alloc::boxed::Box;
use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use super::info::{RawFile, join};

/// Links that one link may lead through.
const HOPS_MAX: u32 = 16;
/// Path components that are looked up for all links of a torrent together. Links beyond it lead
/// nowhere; it takes a torrent made for the purpose.
const STEPS_MAX: u32 = 1 << 20;

/// The targets of the links, by file: the path of a file or folder, reached through no other link.
///
/// Left out are those that lead outside, to nothing, in a circle, or to a folder they are in.
/// What is left out stays an empty file.
pub(super) fn resolve(
    files: &[RawFile<'_>],
    paths: &[String],
    name: &str,
) -> Vec<(usize, Box<str>)> {
    if files.iter().all(|file| file.link.is_none()) {
        return Vec::new();
    }
    let mut resolver = Resolver {
        files,
        by_path: BTreeMap::new(),
        folders: BTreeSet::new(),
        name,
        steps_left: STEPS_MAX,
    };
    for (index, path) in paths.iter().enumerate().filter(|(at, _)| !files[*at].attributes.pad) {
        resolver.by_path.insert(path, index);
        let slashes = path.match_indices('/').skip(1);
        resolver.folders.extend(slashes.map(|(slash, _)| &path[..slash]));
    }
    (0..files.len())
        .filter_map(|index| {
            let target = resolver.target(files[index].link.as_ref()?)?;
            let circular =
                paths[index].strip_prefix(&target).is_some_and(|rest| rest.starts_with('/'));
            (!circular).then(|| (index, target.into_boxed_str()))
        })
        .collect()
}

struct Resolver<'a, 'f> {
    files: &'a [RawFile<'f>],
    by_path: BTreeMap<&'a str, usize>,
    folders: BTreeSet<&'a str>,
    name: &'a str,
    steps_left: u32,
}

impl Resolver<'_, '_> {
    fn target(&mut self, link: &[&[u8]]) -> Option<String> {
        let mut ahead = self.components(link)?;
        let mut path = self.name.to_string();
        let mut hops = 0;
        while let Some(component) = ahead.pop() {
            path.push('/');
            path.push_str(&component);
            let Some(index) = self.by_path.get(path.as_str()) else { continue };
            if let Some(next) = &self.files[*index].link {
                hops += 1;
                if hops > HOPS_MAX {
                    return None;
                }
                ahead.extend(self.components(next)?);
                path.truncate(self.name.len());
            } else if !ahead.is_empty() {
                return None;
            }
        }
        let exists =
            self.by_path.contains_key(path.as_str()) || self.folders.contains(path.as_str());
        exists.then_some(path)
    }

    /// The safe components, last one first, treated as those of paths are. `None` if there is
    /// nothing left to spend on them.
    fn components(&mut self, raw: &[&[u8]]) -> Option<Vec<String>> {
        self.steps_left = self.steps_left.checked_sub(1 + raw.len() as u32)?;
        let path = join(self.name, raw);
        Some(path[self.name.len() + 1..].rsplit('/').map(ToString::to_string).collect())
    }
}
