//! Distributes ranges, sources or destinations, over the rules that hold them, and moves as few as possible.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

/// Ranges by the number of the rule that holds them.
pub(super) type Parts = BTreeMap<usize, BTreeSet<IpNet>>;

/// Returns the wanted ranges by number: none empty, none with more than `limit`, no two that one could hold.
///
/// A range stays where it is now. A new one goes where one is that it covers or that covers it, else to the
/// first part with room: one that joins or leaves changes one part. Where two parts have become small enough
/// for one, the one with the higher number is given up.
pub(super) fn assign(wanted: &BTreeSet<IpNet>, current: Option<&Parts>, limit: usize) -> Parts {
    let mut left = wanted.clone();
    let mut parts = Parts::new();
    let mut places: BTreeMap<IpNet, usize> = BTreeMap::new();
    for (&number, ranges) in current.into_iter().flatten() {
        places.extend(ranges.iter().map(|range| (*range, number)));
        let kept: BTreeSet<IpNet> =
            ranges.iter().filter(|range| left.contains(*range)).take(limit).copied().collect();
        for range in &kept {
            left.remove(range);
        }
        if !kept.is_empty() {
            parts.insert(number, kept);
        }
    }
    let mut first_with_room = 0;
    for range in left {
        let has_room = |number: usize| parts.get(&number).is_some_and(|part| part.len() < limit);
        let near = place_near(&places, range).filter(|number| has_room(*number));
        let number = near.unwrap_or_else(|| {
            let with_room = parts.range(first_with_room..).find(|(_, part)| part.len() < limit);
            let free = || (0..=parts.len()).find(|number| !parts.contains_key(number)).unwrap_or_default();
            let number = with_room.map_or_else(free, |(number, _)| *number);
            first_with_room = first_with_room.max(with_room.map_or(0, |(number, _)| *number));
            number
        });
        parts.entry(number).or_default().insert(range);
    }
    merge_small(&mut parts, limit);
    parts
}

/// Returns the place of a range that covers `range` or that it covers, as after a neighbour was added to it
/// or taken from it.
fn place_near(places: &BTreeMap<IpNet, usize>, range: IpNet) -> Option<usize> {
    let wider = std::iter::successors(Some(range), IpNet::supernet).find_map(|wider| places.get(&wider));
    let narrower = || places.range(range..).next().filter(|(next, _)| range.contains(*next));
    wider.or_else(|| narrower().map(|(_, number)| number)).copied()
}

/// Merges the two smallest parts as long as one can hold both.
fn merge_small(parts: &mut Parts, limit: usize) {
    loop {
        let mut by_size: Vec<(usize, usize)> =
            parts.iter().map(|(number, part)| (part.len(), *number)).collect();
        by_size.sort_unstable();
        let [(small, one), (next, other), ..] = by_size[..] else { return };
        if small + next > limit {
            return;
        }
        let given_up = parts.remove(&one.max(other)).unwrap_or_default();
        parts.entry(one.min(other)).or_default().extend(given_up);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    fn address(number: u32) -> IpNet {
        IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number)))
    }

    fn addresses(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<IpNet> {
        numbers.into_iter().map(address).collect()
    }

    /// Returns the number of parts that differ.
    fn count_changed(before: &Parts, after: &Parts) -> usize {
        let numbers: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        numbers.into_iter().filter(|number| before.get(number) != after.get(number)).count()
    }

    #[test]
    fn address_that_leaves_or_joins_changes_one_rule() {
        let before = assign(&addresses(0..2000), None, 250);
        assert_eq!(before.len(), 8);
        for removed in [0, 777, 1999] {
            let after = assign(&addresses((0..2000).filter(|n| *n != removed)), Some(&before), 250);
            assert_eq!(count_changed(&before, &after), 1);
            let again = assign(&addresses(0..2000), Some(&after), 250);
            assert_eq!(count_changed(&after, &again), 1);
        }
    }

    #[test]
    fn rule_that_is_no_longer_needed_is_dropped() {
        let before = assign(&addresses(0..11), None, 5);
        assert_eq!(before.len(), 3);
        let after = assign(&addresses(1..11), Some(&before), 5);
        assert_eq!(after.len(), 2);
        assert_eq!(count_changed(&before, &after), 2, "the dropped one and the one that gets its address");
    }

    #[test]
    fn range_that_joins_its_neighbour_stays_in_its_part() {
        let ranges = |texts: &[&str]| -> BTreeSet<IpNet> {
            texts.iter().map(|text| text.parse().expect("a range")).collect()
        };
        let before =
            Parts::from([(0, ranges(&["10.0.0.0/16"])), (1, ranges(&["10.8.0.0/17", "10.9.0.0/16"]))]);
        let joined = ranges(&["10.0.0.0/16", "10.8.0.0/16", "10.9.0.0/16"]);
        let after = assign(&joined, Some(&before), 2);
        assert_eq!(after[&1], ranges(&["10.8.0.0/16", "10.9.0.0/16"]));
        let again = assign(&ranges(&["10.0.0.0/16", "10.8.128.0/17", "10.9.0.0/16"]), Some(&after), 2);
        assert_eq!(again[&1], ranges(&["10.8.128.0/17", "10.9.0.0/16"]));
    }

    proptest! {
        #[test]
        fn every_range_is_in_one_of_few_parts(
            old in prop::collection::btree_map(0..6_usize, prop::collection::btree_set(0..30_u32, 0..8), 0..5),
            wanted in prop::collection::btree_set(0..30_u32, 0..30),
            limit in 1..7_usize,
        ) {
            let old: Parts = old.into_iter().map(|(number, held)| (number, addresses(held))).collect();
            let wanted = addresses(wanted);
            let parts = assign(&wanted, Some(&old), limit);
            let spread: Vec<IpNet> = parts.values().flatten().copied().collect();
            prop_assert_eq!(spread.len(), wanted.len());
            prop_assert_eq!(spread.into_iter().collect::<BTreeSet<_>>(), wanted.clone());
            prop_assert!(parts.values().all(|part| !part.is_empty() && part.len() <= limit));
            let mut sizes: Vec<usize> = parts.values().map(BTreeSet::len).collect();
            sizes.sort_unstable();
            prop_assert!(sizes.windows(2).all(|two| two[0] + two[1] > limit), "two fit into one: {sizes:?}");
            prop_assert_eq!(assign(&wanted, Some(&parts), limit), parts, "a second assignment changes nothing");
        }

        #[test]
        fn one_change_touches_one_part_and_two_if_one_is_given_up(
            changes in prop::collection::vec(0..40_u32, 1..60),
            start in prop::collection::btree_set(0..40_u32, 0..40),
            limit in 1..7_usize,
        ) {
            let mut wanted = addresses(start);
            let mut parts = assign(&wanted, None, limit);
            prop_assert_eq!(parts.len(), wanted.len().div_ceil(limit), "as few as possible from scratch");
            for change in changes {
                if !wanted.remove(&address(change)) {
                    wanted.insert(address(change));
                }
                let after = assign(&wanted, Some(&parts), limit);
                let most = if after.len() < parts.len() { 2 } else { 1 };
                prop_assert!(count_changed(&parts, &after) <= most, "{parts:?} became {after:?}");
                parts = after;
            }
        }
    }
}
