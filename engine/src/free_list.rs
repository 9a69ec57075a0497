//! Free lists: what is made often and not needed for long lies here in between.

/// At most `MAX` objects of a kind that are not in use; a trim frees those that nobody has needed of late.
pub(crate) struct FreeList<T, const MAX: usize> {
    free: Vec<T>,
    /// The low-water mark: how few have lain here since the last trim. So many were not needed.
    spare: usize,
}

impl<T, const MAX: usize> FreeList<T, MAX> {
    /// An empty list; it holds no memory before the first object comes back.
    pub(crate) const fn new() -> Self {
        Self { free: Vec::new(), spare: 0 }
    }

    /// The object that came back last, if there is any.
    pub(crate) fn take(&mut self) -> Option<T> {
        let object = self.free.pop();
        self.spare = self.spare.min(self.free.len());
        object
    }

    /// Keeps an object for later, or frees it if there are enough.
    pub(crate) fn give_back(&mut self, object: T) {
        if self.free.len() < MAX {
            self.free.push(object);
        }
    }

    /// Frees what has not been needed since the last time.
    pub(crate) fn trim(&mut self) {
        let needed = self.free.len() - self.spare;
        self.free.truncate(needed);
        self.free.shrink_to_fit();
        self.spare = needed;
    }

    /// What lies here.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &T> {
        self.free.iter()
    }
}

impl<T, const MAX: usize> Default for FreeList<T, MAX> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(list: &FreeList<u32, 3>) -> Vec<u32> {
        list.iter().copied().collect()
    }

    #[test]
    fn it_keeps_no_more_than_its_bound_and_hands_out_what_came_last() {
        let mut list = FreeList::<u32, 3>::new();
        assert_eq!(list.take(), None);
        for object in 0..5 {
            list.give_back(object);
        }
        assert_eq!(held(&list), [0, 1, 2]);
        assert_eq!(list.take(), Some(2));
    }

    #[test]
    fn a_trim_frees_what_the_time_before_it_did_without() {
        let mut list = FreeList::<u32, 3>::new();
        (0..3).for_each(|object| list.give_back(object));
        list.trim();
        assert_eq!(held(&list), [0, 1, 2], "all have come back since");
        // Two at a time are needed.
        for _ in 0..5 {
            let two = [list.take(), list.take()];
            two.into_iter().flatten().for_each(|object| list.give_back(object));
        }
        list.trim();
        assert_eq!(list.iter().count(), 2);
        list.trim();
        assert_eq!(list.iter().count(), 0, "none has been needed");
    }
}
