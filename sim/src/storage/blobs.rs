//! Saved blobs: replaced wholly or not at all.

use bytes::Bytes;
use teem_core::machine::Location;

/// Blobs by location and name. A session saves a handful, so a sorted row serves.
#[derive(Debug, Default)]
pub(super) struct Blobs {
    rows: Vec<Blob>,
}

#[derive(Debug)]
struct Blob {
    location: Location,
    name: Box<str>,
    data: Bytes,
}

impl Blobs {
    fn find(&self, location: &Location, name: &str) -> Result<usize, usize> {
        let wanted = (&*location.0, name);
        self.rows.binary_search_by(|blob| (&*blob.location.0, &*blob.name).cmp(&wanted))
    }

    /// The blob of that name.
    pub(super) fn get(&self, location: &Location, name: &str) -> Option<&Bytes> {
        self.find(location, name).ok().map(|at| &self.rows[at].data)
    }

    /// Saves or replaces one; durable from now on.
    pub(super) fn put(&mut self, location: Location, name: Box<str>, data: Bytes) {
        match self.find(&location, &name) {
            Ok(at) => self.rows[at].data = data,
            Err(at) => {
                self.rows.reserve_exact(1);
                self.rows.insert(at, Blob { location, name, data });
            }
        }
    }

    /// Forgets one.
    pub(super) fn remove(&mut self, location: &Location, name: &str) -> Option<Bytes> {
        let at = self.find(location, name).ok()?;
        Some(self.rows.remove(at).data)
    }

    /// Every blob, by location and name.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Location, &str, &Bytes)> {
        self.rows.iter().map(|blob| (&blob.location, &*blob.name, &blob.data))
    }

    /// Bytes of memory held for blobs, their data included.
    pub(super) fn footprint(&self) -> usize {
        let held = self.rows.iter().map(|blob| blob.name.len() + blob.data.len());
        self.rows.capacity() * size_of::<Blob>() + held.sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blob_replaces_the_one_of_its_name_and_no_other() {
        let mut blobs = Blobs::default();
        let at = |folder: &'static str| Location(Bytes::from_static(folder.as_bytes()));
        for (folder, name, data) in [("b", "x", "1"), ("a", "y", "2"), ("a", "x", "3")] {
            blobs.put(at(folder), name.into(), Bytes::from_static(data.as_bytes()));
        }
        blobs.put(at("a"), "x".into(), Bytes::from_static(b"4"));
        let all: Vec<_> = blobs.iter().map(|(at, name, data)| (&*at.0, name, &**data)).collect();
        assert_eq!(all, [(&b"a"[..], "x", &b"4"[..]), (b"a", "y", b"2"), (b"b", "x", b"1")]);
        assert_eq!(blobs.remove(&at("a"), "y").as_deref(), Some(&b"2"[..]));
        assert_eq!(blobs.get(&at("a"), "y"), None);
    }
}
