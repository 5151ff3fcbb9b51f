//! The difference between two maps of which one was made from the other. What they share is not compared.

use std::cmp::Ordering;

/// Returns the keys that only one of two maps has, or for which `is_same` does not hold, in order.
pub(crate) fn differing_keys<'a, K: Ord + 'a, V: 'a>(
    before: impl IntoIterator<Item = (&'a K, &'a V)>,
    now: impl IntoIterator<Item = (&'a K, &'a V)>,
    is_same: impl Fn(&V, &V) -> bool,
) -> Vec<&'a K> {
    let (mut before, mut now) = (before.into_iter().peekable(), now.into_iter().peekable());
    let mut differing = Vec::new();
    loop {
        let order = match (before.peek(), now.peek()) {
            (None, None) => return differing,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((one, _)), Some((other, _))) if std::ptr::eq(*one, *other) => Ordering::Equal,
            (Some((one, _)), Some((other, _))) => one.cmp(other),
        };
        let before = if order.is_le() { before.next() } else { None };
        let now = if order.is_ge() { now.next() } else { None };
        match (before, now) {
            (Some((_, one)), Some((_, other))) if std::ptr::eq(one, other) || is_same(one, other) => {}
            (before, now) => differing.extend(before.or(now).map(|(key, _)| key)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn keys_differ_where_a_lookup_differs(
            before in prop::collection::btree_map(0..8_u8, 0..2_u8, 0..8),
            now in prop::collection::btree_map(0..8_u8, 0..2_u8, 0..8),
        ) {
            let all: BTreeMap<&u8, &u8> = before.iter().chain(&now).collect();
            let expected: Vec<&u8> = all.into_keys().filter(|key| before.get(*key) != now.get(*key)).collect();
            prop_assert_eq!(differing_keys(&before, &now, PartialEq::eq), expected);
        }
    }
}
