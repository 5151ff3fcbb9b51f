//! Chooses what fits where capacity is short: established candidates before new ones. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::RuleSet;

/// Most rounds in which candidates are tried one by one. More could admit another only where ports join up in
/// a chain, candidate by candidate and against their order: whoever owns them all could make it as long as
/// there are candidates.
const MAX_ROUNDS: usize = 4;

/// The extent to which a candidate is open already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Incumbency {
    /// Everything that it asks for is let in.
    Established,
    /// Its ports are open, but not from all the sources that it asks for now.
    PartlyOpen,
    /// It would be opened anew.
    New,
}

impl Incumbency {
    /// Compares the rules that a candidate asks for with those that let in traffic now.
    #[must_use]
    pub fn classify(requested: &RuleSet, current: &RuleSet) -> Self {
        let is_open = |port: &crate::IngressRule| {
            current.iter().any(|rule| rule.protocol == port.protocol && rule.ports.covers(port.ports))
        };
        if current.covers(requested) {
            Self::Established
        } else if requested.iter().all(is_open) {
            Self::PartlyOpen
        } else {
            Self::New
        }
    }
}

/// Selects candidates up to capacity: all of them if they fit, else incumbents first, then newcomers, both in
/// their order.
///
/// Candidates of one incumbency go in together, and one by one only if that does not fit. So selecting again
/// from the same candidates, once the selected ones are open, selects at least the same; and a newcomer never
/// displaces an incumbent. `fits`, which can be slow, is asked at most a few times for each candidate.
pub fn select_within_capacity<K: Clone + Ord>(
    candidates: &BTreeSet<K>,
    incumbency: impl Fn(&K) -> Incumbency,
    fits: impl Fn(&BTreeSet<K>) -> bool,
) -> BTreeSet<K> {
    if fits(candidates) {
        return candidates.clone();
    }
    let mut by_incumbency: BTreeMap<Incumbency, BTreeSet<K>> = BTreeMap::new();
    for candidate in candidates {
        by_incumbency.entry(incumbency(candidate)).or_default().insert(candidate.clone());
    }
    let mut selected = BTreeSet::new();
    for equals in by_incumbency.values() {
        let with = &selected | equals;
        if !fits(&with) {
            break;
        }
        selected = with;
    }
    // Repeated: adjacent ranges together can need fewer rules than each alone.
    for _ in 0..MAX_ROUNDS {
        let before = selected.len();
        for candidate in by_incumbency.values().flatten() {
            if selected.insert(candidate.clone()) && !fits(&selected) {
                selected.remove(candidate);
            }
        }
        if selected.len() == before {
            break;
        }
    }
    selected
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conformance::rule;

    fn rules(texts: &[&str]) -> RuleSet {
        texts.iter().map(|text| rule(text)).collect()
    }

    #[test]
    fn open_candidates_precede_edited_and_new_ones() {
        let current = rules(&["tcp/80-90 10.0.0.0/8", "udp/53 ::/0"]);
        let classify = |texts: &[&str]| Incumbency::classify(&rules(texts), &current);
        assert_eq!(classify(&["tcp/85 10.1.0.0/16"]), Incumbency::Established);
        assert_eq!(classify(&["tcp/80 10.0.0.0/8", "tcp/80 ::/0"]), Incumbency::PartlyOpen);
        assert_eq!(classify(&["tcp/80 10.0.0.0/8", "tcp/443 10.0.0.0/8"]), Incumbency::New);
        assert!(Incumbency::Established < Incumbency::PartlyOpen && Incumbency::PartlyOpen < Incumbency::New);
    }

    #[test]
    fn order_decides_only_among_equals() {
        let candidates = BTreeSet::from(["a", "b", "c"]);
        let two = |set: &BTreeSet<&str>| set.len() <= 2;
        let established = |name: &'static str| {
            move |key: &&str| if *key == name { Incumbency::Established } else { Incumbency::New }
        };
        assert_eq!(select_within_capacity(&candidates, established("none"), two), BTreeSet::from(["a", "b"]));
        assert_eq!(select_within_capacity(&candidates, established("c"), two), BTreeSet::from(["a", "c"]));
        assert_eq!(select_within_capacity(&candidates, established("none"), |_| true), candidates);
    }

    #[test]
    fn candidate_that_fits_only_beside_later_ones_is_selected() {
        // `a` fits only together with `b`: both need fewer rules than `a` alone.
        let fits = |set: &BTreeSet<&str>| set.len() <= 2 && (!set.contains("a") || set.contains("b"));
        let selected = select_within_capacity(&BTreeSet::from(["a", "b", "c"]), |_| Incumbency::New, fits);
        assert_eq!(selected, BTreeSet::from(["b", "c"]));
        let fits = |set: &BTreeSet<&str>| !set.contains("c") && (!set.contains("a") || set.contains("b"));
        let selected = select_within_capacity(&BTreeSet::from(["a", "b", "c"]), |_| Incumbency::New, fits);
        assert_eq!(selected, BTreeSet::from(["a", "b"]));
    }

    #[test]
    fn fits_is_asked_a_few_times_for_each_candidate() {
        use crate::{IngressRule, PortRange, Protocol};
        // One rule fits. Port 1 is open, and each port joins only the one that comes after it.
        let source = "0.0.0.0/0".parse().expect("a source");
        let rule =
            |port: u16| IngressRule::new(Protocol::Tcp, PortRange::single(port + 1).expect("a port"), source);
        let asked = std::cell::Cell::new(0);
        let fits = |ports: &BTreeSet<std::cmp::Reverse<u16>>| {
            asked.set(asked.get() + 1);
            ports.iter().map(|port| rule(port.0)).collect::<RuleSet>().len() <= 1
        };
        let candidates: BTreeSet<_> = (0..400).chain([1000]).map(std::cmp::Reverse).collect();
        let incumbency = |port: &std::cmp::Reverse<u16>| match port.0 {
            0 => Incumbency::Established,
            _ => Incumbency::New,
        };
        let selected = select_within_capacity(&candidates, incumbency, fits);
        assert!(selected.len() > 1 && selected.contains(&std::cmp::Reverse(0)));
        assert!(asked.get() <= 5 * candidates.len(), "asked {} times", asked.get());
    }
}
