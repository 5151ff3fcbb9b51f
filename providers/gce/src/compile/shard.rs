//! Distributes addresses over as few rules as can hold them, and moves as few as possible.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

/// Returns the addresses by shard number: as few shards as possible, none empty and none with more than
/// `limit`.
///
/// An address stays in its current shard, so that one that joins or leaves changes one rule. Only when a
/// shard is no longer needed are its addresses moved to free capacity of the others.
pub(super) fn assign(
    addresses: &BTreeSet<IpNet>,
    current: Option<&BTreeMap<usize, BTreeSet<IpNet>>>,
    limit: usize,
) -> BTreeMap<usize, BTreeSet<IpNet>> {
    let count = addresses.len().div_ceil(limit);
    let mut unassigned = addresses.clone();
    let mut kept: Vec<(usize, BTreeSet<IpNet>)> = Vec::new();
    for (&number, addresses) in current.into_iter().flatten() {
        let shard: BTreeSet<IpNet> =
            addresses.iter().filter(|address| unassigned.contains(*address)).take(limit).copied().collect();
        for address in &shard {
            unassigned.remove(address);
        }
        kept.push((number, shard));
    }
    kept.retain(|(_, shard)| !shard.is_empty());
    // The fullest shards are kept; among equally full ones, those with the lowest numbers.
    kept.sort_by_key(|(number, shard)| (std::cmp::Reverse(shard.len()), *number));
    unassigned.extend(kept.drain(count.min(kept.len())..).flat_map(|(_, shard)| shard));
    let mut shards: BTreeMap<usize, BTreeSet<IpNet>> = kept.into_iter().collect();
    let mut numbers = 0..;
    while shards.len() < count {
        shards.entry(numbers.next().unwrap_or_default()).or_default();
    }
    let mut unassigned = unassigned.into_iter();
    for shard in shards.values_mut() {
        let free = limit - shard.len();
        shard.extend(unassigned.by_ref().take(free));
    }
    shards.retain(|_, shard| !shard.is_empty());
    shards
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use proptest::prelude::*;

    use super::*;

    type Shards = BTreeMap<usize, BTreeSet<IpNet>>;

    fn address(number: u32) -> IpNet {
        IpNet::from(std::net::IpAddr::from(Ipv4Addr::from(0x0a00_0000 + number)))
    }

    fn addresses(numbers: impl IntoIterator<Item = u32>) -> BTreeSet<IpNet> {
        numbers.into_iter().map(address).collect()
    }

    /// Returns the number of shards that differ.
    fn count_changed(before: &Shards, after: &Shards) -> usize {
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

    proptest! {
        #[test]
        fn every_address_is_in_one_of_as_few_rules_as_possible(
            old in prop::collection::btree_map(0..6_usize, prop::collection::btree_set(0..30_u32, 0..8), 0..5),
            wanted in prop::collection::btree_set(0..30_u32, 0..30),
            limit in 1..7_usize,
        ) {
            let old: Shards = old.into_iter().map(|(number, held)| (number, addresses(held))).collect();
            let wanted = addresses(wanted);
            let shards = assign(&wanted, Some(&old), limit);
            let spread: Vec<IpNet> = shards.values().flatten().copied().collect();
            prop_assert_eq!(spread.len(), wanted.len());
            prop_assert_eq!(spread.into_iter().collect::<BTreeSet<_>>(), wanted.clone());
            prop_assert!(shards.values().all(|shard| !shard.is_empty() && shard.len() <= limit));
            prop_assert_eq!(shards.len(), wanted.len().div_ceil(limit));
            prop_assert_eq!(assign(&wanted, Some(&shards), limit), shards, "a second assignment changes nothing");
        }
    }
}
