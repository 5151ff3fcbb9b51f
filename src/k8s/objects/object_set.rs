//! A set of objects that takes little memory: there are several for each port that is open.

use std::ops::Deref;
use std::sync::Arc;

use super::ObjectRef;

/// Some objects, each once, in order; most often one. A copy shares them with the original.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ObjectSet(Arc<[ObjectRef]>);

impl ObjectSet {
    /// Adds an object.
    pub fn insert(&mut self, object: &ObjectRef) {
        if let Err(position) = self.0.binary_search(object) {
            let (before, after) = self.0.split_at(position);
            self.0 = before.iter().chain([object]).chain(after).cloned().collect();
        }
    }
}

impl Deref for ObjectSet {
    type Target = [ObjectRef];

    fn deref(&self) -> &[ObjectRef] {
        &self.0
    }
}

impl FromIterator<ObjectRef> for ObjectSet {
    fn from_iter<T: IntoIterator<Item = ObjectRef>>(objects: T) -> Self {
        let mut objects: Vec<ObjectRef> = objects.into_iter().collect();
        objects.sort_unstable();
        objects.dedup();
        Self(objects.into())
    }
}

impl<const N: usize> From<[ObjectRef; N]> for ObjectSet {
    fn from(objects: [ObjectRef; N]) -> Self {
        objects.into_iter().collect()
    }
}

impl<'a> IntoIterator for &'a ObjectSet {
    type Item = &'a ObjectRef;
    type IntoIter = std::slice::Iter<'a, ObjectRef>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::k8s::objects::builders::object_ref;

    #[test]
    fn set_has_each_object_once_and_in_order() {
        let names = ["b", "a", "c", "a", "b"].map(|name| object_ref("Pod", "shop", name));
        let mut inserted = ObjectSet::default();
        for object in &names {
            inserted.insert(object);
        }
        let expected: BTreeSet<ObjectRef> = names.iter().cloned().collect();
        assert!(inserted.iter().eq(&expected));
        assert_eq!(ObjectSet::from(names), inserted);
    }
}
