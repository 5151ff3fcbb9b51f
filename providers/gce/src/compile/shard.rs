//! Spreads addresses over as few rules as hold them, moving none that can stay.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

/// Rules by shard number, of which none is empty and none holds more than `limit`.
///
/// There are exactly as many as it takes. What is in one stays there, so that an address that joins or leaves
/// changes one rule; only when a rule can be spared do its addresses move to the free places of others.
pub(super) fn assign(
    addresses: &BTreeSet<IpNet>,
    now: Option<&BTreeMap<usize, BTreeSet<IpNet>>>,
    limit: usize,
) -> BTreeMap<usize, BTreeSet<IpNet>> {
    let count = addresses.len().div_ceil(limit);
    let mut unassigned = addresses.clone();
    let mut kept: Vec<(usize, BTreeSet<IpNet>)> = Vec::new();
    for (&shard, held) in now.into_iter().flatten() {
        let stay: BTreeSet<IpNet> =
            held.iter().filter(|address| unassigned.contains(*address)).take(limit).copied().collect();
        unassigned.retain(|address| !stay.contains(address));
        kept.push((shard, stay));
    }
    kept.retain(|(_, stay)| !stay.is_empty());
    // The fullest are kept; among equals, those with the lowest numbers.
    kept.sort_by_key(|(shard, stay)| (std::cmp::Reverse(stay.len()), *shard));
    unassigned.extend(kept.drain(count.min(kept.len())..).flat_map(|(_, stay)| stay));
    let mut shards: BTreeMap<usize, BTreeSet<IpNet>> = kept.into_iter().collect();
    let mut fresh = 0..;
    while shards.len() < count {
        shards.entry(fresh.next().unwrap_or_default()).or_default();
    }
    let mut unassigned = unassigned.into_iter();
    for shard in shards.values_mut() {
        let room = limit - shard.len();
        shard.extend(unassigned.by_ref().take(room));
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

    fn changed(before: &Shards, after: &Shards) -> usize {
        let numbers: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        numbers.into_iter().filter(|number| before.get(number) != after.get(number)).count()
    }

    #[test]
    fn one_address_that_leaves_or_joins_changes_one_rule() {
        let before = assign(&addresses(0..2000), None, 250);
        assert_eq!(before.len(), 8);
        for gone in [0, 777, 1999] {
            let after = assign(&addresses((0..2000).filter(|n| *n != gone)), Some(&before), 250);
            assert_eq!(changed(&before, &after), 1);
            let back = assign(&addresses(0..2000), Some(&after), 250);
            assert_eq!(changed(&after, &back), 1);
        }
    }

    #[test]
    fn a_rule_that_is_not_needed_any_more_goes() {
        let before = assign(&addresses(0..11), None, 5);
        assert_eq!(before.len(), 3);
        let after = assign(&addresses(1..11), Some(&before), 5);
        assert_eq!(after.len(), 2);
        assert_eq!(changed(&before, &after), 2, "the spared one and the one that takes its address");
    }

    proptest! {
        #[test]
        fn every_address_is_in_one_rule_and_there_are_no_more_rules_than_it_takes(
            old in prop::collection::btree_map(0..6_usize, prop::collection::btree_set(0..30_u32, 0..8), 0..5),
            wanted in prop::collection::btree_set(0..30_u32, 0..30),
            limit in 1..7_usize,
        ) {
            let old: Shards = old.into_iter().map(|(shard, held)| (shard, addresses(held))).collect();
            let wanted = addresses(wanted);
            let shards = assign(&wanted, Some(&old), limit);
            let spread: Vec<IpNet> = shards.values().flatten().copied().collect();
            prop_assert_eq!(spread.len(), wanted.len());
            prop_assert_eq!(spread.into_iter().collect::<BTreeSet<_>>(), wanted.clone());
            prop_assert!(shards.values().all(|shard| !shard.is_empty() && shard.len() <= limit));
            prop_assert_eq!(shards.len(), wanted.len().div_ceil(limit));
            prop_assert_eq!(assign(&wanted, Some(&shards), limit), shards, "it is settled");
        }
    }
}
