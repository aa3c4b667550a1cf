//! Things by id, in one block of memory: a thousand idle services should cost little.
#![forbid(unsafe_code)]

/// Something that has an id of its own.
pub trait Keyed {
    type Id: Ord + Copy;
    fn id(&self) -> Self::Id;
}

/// A sorted list. Adding is for reloads, finding is for requests.
#[derive(Debug)]
pub struct Roster<T>(Vec<T>);

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Keyed> Roster<T> {
    #[must_use]
    pub fn get(&self, id: T::Id) -> Option<&T> {
        self.find(id).ok().map(|at| &self.0[at])
    }

    pub fn get_mut(&mut self, id: T::Id) -> Option<&mut T> {
        self.find(id).ok().map(|at| &mut self.0[at])
    }

    /// Adds or replaces.
    pub fn put(&mut self, item: T) {
        match self.find(item.id()) {
            Ok(at) => self.0[at] = item,
            Err(at) => self.0.insert(at, item),
        }
    }

    pub fn retain(&mut self, keep: impl FnMut(&T) -> bool) {
        self.0.retain(keep);
        self.0.shrink_to_fit();
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter()
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut()
    }

    /// Makes room for `count` in all, and no more.
    pub fn reserve(&mut self, count: usize) {
        self.0.reserve_exact(count.saturating_sub(self.0.len()));
    }

    fn find(&self, id: T::Id) -> Result<usize, usize> {
        self.0.binary_search_by_key(&id, Keyed::id)
    }
}
