//! All images of a disk: by folder and key, and by the torrent that has one open.

use teem_core::ids::TorrentId;
use teem_core::machine::Location;

use super::image::Image;

/// See the [module](self). Most disks hold one image, some a thousand: sorted rows of four and of
/// twelve bytes.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    images: Vec<Option<Box<Image>>>,
    /// Indices of images, by folder and key.
    places: Vec<u32>,
    /// Which torrent has which image open, by torrent.
    open: Vec<(TorrentId, u32)>,
}

impl Shelf {
    fn image(&self, at: u32) -> &Image {
        self.images[at as usize].as_deref().expect("rows name images that are there")
    }

    fn search(&self, folder: &Location, key: &str) -> Result<usize, usize> {
        let wanted = (&*folder.0, key);
        self.places.binary_search_by(|at| {
            let image = self.image(*at);
            (&*image.folder.0, &*image.key).cmp(&wanted)
        })
    }

    /// The image there.
    pub(super) fn find(&self, folder: &Location, key: &str) -> Option<&Image> {
        self.search(folder, key).ok().map(|row| self.image(self.places[row]))
    }

    /// The image there.
    pub(super) fn find_mut(&mut self, folder: &Location, key: &str) -> Option<&mut Image> {
        let at = self.places[self.search(folder, key).ok()?];
        self.images[at as usize].as_deref_mut()
    }

    /// The image there, or a new one.
    pub(super) fn find_or_add(&mut self, folder: &Location, key: &str) -> &mut Image {
        let at = match self.search(folder, key) {
            Ok(row) => self.places[row],
            Err(row) => {
                let free = self.images.iter().position(Option::is_none);
                let at = free.unwrap_or_else(|| {
                    reserve_few(&mut self.images);
                    self.images.push(None);
                    self.images.len() - 1
                });
                let image = Image::new(folder.clone(), key.into());
                self.images[at] = Some(Box::new(image));
                reserve_few(&mut self.places);
                self.places.insert(row, at as u32);
                at as u32
            }
        };
        self.images[at as usize].as_deref_mut().expect("it was found or added")
    }

    /// Takes an image away, open or not.
    pub(super) fn remove(&mut self, folder: &Location, key: &str) {
        let Ok(row) = self.search(folder, key) else { return };
        let at = self.places.remove(row);
        self.images[at as usize] = None;
        self.open.retain(|(_, it)| *it != at);
    }

    /// Reads what is needed to find what a torrent has open.
    pub(super) fn fetch(&self) -> u64 {
        let image = self.open.first().and_then(|(_, at)| self.images[*at as usize].as_ref());
        image.map_or(0, |image| image.key.len() as u64)
    }

    /// What a torrent has open.
    pub(super) fn opened(&mut self, torrent: TorrentId) -> Option<&mut Image> {
        // A single torrent is the usual case.
        let at = match &*self.open {
            [(it, at)] => (*it == torrent).then_some(*at)?,
            many => {
                let row = many.binary_search_by_key(&torrent, |row| row.0).ok()?;
                many[row].1
            }
        };
        self.images[at as usize].as_deref_mut()
    }

    /// Notes that a torrent has the image there open.
    pub(super) fn open(&mut self, torrent: TorrentId, folder: &Location, key: &str) {
        let Ok(place) = self.search(folder, key) else { return };
        let at = self.places[place];
        match self.open.binary_search_by_key(&torrent, |row| row.0) {
            Ok(row) => self.open[row].1 = at,
            Err(row) => {
                reserve_few(&mut self.open);
                self.open.insert(row, (torrent, at));
            }
        }
    }

    /// Notes that a torrent has nothing open any more; an image that is empty goes.
    pub(super) fn close(&mut self, torrent: TorrentId) {
        let Ok(row) = self.open.binary_search_by_key(&torrent, |row| row.0) else { return };
        let at = self.open.remove(row).1;
        let image = self.images[at as usize].as_deref_mut();
        let image = image.expect("rows name images that are there");
        image.open_by = None;
        if image.is_empty() {
            let (folder, key) = (image.folder.clone(), image.key.clone());
            self.remove(&folder, &key);
        }
    }

    /// Takes what a torrent has open to another folder; whatever was there goes.
    pub(super) fn relocate(&mut self, torrent: TorrentId, to: &Location) {
        let Some(image) = self.opened(torrent) else { return };
        let (from, key) = (image.folder.clone(), image.key.clone());
        self.remove(to, &key);
        let Ok(row) = self.search(&from, &key) else { return };
        let at = self.places.remove(row);
        if let Some(image) = self.images[at as usize].as_deref_mut() {
            image.folder = to.clone();
        }
        let row = self.search(to, &key).unwrap_or_else(|row| row);
        self.places.insert(row, at);
    }

    /// Nobody has anything open any more.
    pub(super) fn close_all(&mut self) {
        for (torrent, _) in std::mem::take(&mut self.open) {
            let mut left = self.images.iter_mut().flatten();
            if let Some(image) = left.find(|image| image.open_by == Some(torrent)) {
                image.open_by = None;
            }
        }
    }

    /// Every image, by folder and key.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Image> {
        self.places.iter().map(|at| self.image(*at))
    }

    /// Every image, in an order that is the same in every run.
    pub(super) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Image> {
        self.images.iter_mut().flatten().map(|image| &mut **image)
    }

    /// Bytes of memory held for images.
    pub(super) fn footprint(&self) -> usize {
        self.images.capacity() * size_of::<Option<Box<Image>>>()
            + self.places.capacity() * size_of::<u32>()
            + self.open.capacity() * size_of::<(TorrentId, u32)>()
            + self.iter().map(Image::footprint).sum::<usize>()
    }
}

/// Makes room for one more, and for no others while there are few.
fn reserve_few<T>(row: &mut Vec<T>) {
    if row.len() < 4 {
        row.reserve_exact(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use teem_core::ids::Key;

    fn at(folder: &'static str) -> Location {
        Location(Bytes::from_static(folder.as_bytes()))
    }

    #[test]
    fn images_are_found_by_their_place_and_by_their_torrent() {
        let mut shelf = Shelf::default();
        let places = [("b", "2"), ("a", "3"), ("b", "1"), ("a", "1")];
        for (number, (folder, key)) in (0_u32..).zip(places) {
            shelf.find_or_add(&at(folder), key);
            shelf.open(TorrentId::from_parts(9 - number, 1), &at(folder), key);
        }
        let all: Vec<_> = shelf.iter().map(|image| (&*image.folder.0, &*image.key)).collect();
        assert_eq!(all, [(&b"a"[..], "1"), (b"a", "3"), (b"b", "1"), (b"b", "2")]);
        for (number, (_, key)) in (0_u32..).zip(places) {
            let found = shelf.opened(TorrentId::from_parts(9 - number, 1));
            assert_eq!(found.map(|image| &*image.key), Some(key));
            assert!(shelf.opened(TorrentId::from_parts(9 - number, 2)).is_none());
        }
        shelf.relocate(TorrentId::from_parts(8, 1), &at("c"));
        assert!(shelf.find(&at("a"), "3").is_none() && shelf.find(&at("c"), "3").is_some());
        shelf.remove(&at("b"), "1");
        assert!(shelf.opened(TorrentId::from_parts(7, 1)).is_none());
        shelf.find_or_add(&at("d"), "4");
        assert_eq!(shelf.images.len(), 4, "the place of the one that went is used again");
    }
}
