//! A map that takes little memory where it has few entries: nearly every machine is a member of few groups, and
//! the smallest tree has room for eleven.

/// The number of entries up to which there is room for no others.
const FEW: usize = 8;

/// Few entries, in order of their keys.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Few<K, V>(Vec<(K, V)>);

impl<K, V> Default for Few<K, V> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<K: Ord, V> Few<K, V> {
    /// Returns the value of a key.
    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        let position = self.position(key).ok()?;
        self.0.get(position).map(|(_, value)| value)
    }

    /// Returns the value of a key, to be changed.
    pub(crate) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        let position = self.position(key).ok()?;
        self.0.get_mut(position).map(|(_, value)| value)
    }

    /// Adds an entry, or replaces the value of one.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        match self.position(&key) {
            Ok(position) => self.0[position].1 = value,
            Err(position) => {
                // Room for more than one takes as much as a tree does.
                if self.0.len() < FEW {
                    self.0.reserve_exact(1);
                }
                self.0.insert(position, (key, value));
            }
        }
    }

    /// Removes and returns the value of a key.
    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let position = self.position(key).ok()?;
        Some(self.0.remove(position).1)
    }

    /// Returns the number of entries.
    pub(crate) const fn len(&self) -> usize {
        self.0.len()
    }

    /// Removes all entries.
    pub(crate) fn clear(&mut self) {
        self.0 = Vec::new();
    }

    /// Returns the keys.
    pub(crate) fn keys(&self) -> impl Iterator<Item = &K> {
        self.0.iter().map(|(key, _)| key)
    }

    /// Returns true if there is no entry.
    #[must_use]
    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the entries.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.0.iter().map(|(key, value)| (key, value))
    }

    fn position(&self, key: &K) -> Result<usize, usize> {
        self.0.binary_search_by(|(other, _)| other.cmp(key))
    }
}

impl<K: Ord, V> Extend<(K, V)> for Few<K, V> {
    fn extend<T: IntoIterator<Item = (K, V)>>(&mut self, entries: T) {
        entries.into_iter().for_each(|(key, value)| self.insert(key, value));
    }
}

impl<K: Ord, V> FromIterator<(K, V)> for Few<K, V> {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(entries: T) -> Self {
        let mut few = Self::default();
        few.extend(entries);
        few
    }
}

impl<K, V> IntoIterator for Few<K, V> {
    type Item = (K, V);
    type IntoIter = std::vec::IntoIter<(K, V)>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn few_entries_are_kept_as_a_map_keeps_them(
            changes in prop::collection::vec((0..6_u8, 0..4_u8), 0..40),
        ) {
            let (mut few, mut map) = (Few::<u8, u8>::default(), BTreeMap::new());
            for (key, change) in changes {
                if change == 0 {
                    prop_assert_eq!(few.remove(&key), map.remove(&key));
                } else {
                    few.insert(key, change);
                    map.insert(key, change);
                }
                prop_assert_eq!(few.get(&key), map.get(&key));
                prop_assert_eq!(few.get_mut(&key), map.get_mut(&key));
                prop_assert!(few.iter().eq(&map) && few.keys().eq(map.keys()));
                prop_assert!(few.is_empty() == map.is_empty() && few.len() == map.len());
            }
            prop_assert!(few.into_iter().eq(map));
        }
    }
}
