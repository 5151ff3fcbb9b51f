//! Who has the room where there is not enough for all. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::RuleSet;

/// How much of what a candidate asks for is there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Incumbency {
    /// All of it.
    Established,
    /// Its ports are open, and not from all the sources that it asks for now.
    PartlyOpen,
    /// It would be opened anew.
    New,
}

impl Incumbency {
    /// By what is let in now.
    #[must_use]
    pub fn classify(asked: &RuleSet, now: &RuleSet) -> Self {
        let is_open = |port: &crate::IngressRule| {
            now.iter().any(|rule| rule.protocol == port.protocol && rule.ports.covers(port.ports))
        };
        if now.covers(asked) {
            Self::Established
        } else if asked.iter().all(is_open) {
            Self::PartlyOpen
        } else {
            Self::New
        }
    }
}

/// All candidates if they fit, else as many as do: first those that are there already, then by their order.
///
/// What is there already goes in together, and one by one only if that does not fit. So once the outcome is what is
/// there, the same candidates have the same outcome, and nobody has taken the place of one that was there.
pub fn select_within_capacity<K: Clone + Ord>(
    candidates: &BTreeSet<K>,
    standing: impl Fn(&K) -> Incumbency,
    fits: impl Fn(&BTreeSet<K>) -> bool,
) -> BTreeSet<K> {
    if fits(candidates) {
        return candidates.clone();
    }
    let mut by_standing: BTreeMap<Incumbency, BTreeSet<K>> = BTreeMap::new();
    for candidate in candidates {
        by_standing.entry(standing(candidate)).or_default().insert(candidate.clone());
    }
    let mut select_within_capacity = BTreeSet::new();
    for equals in by_standing.values() {
        let with = &select_within_capacity | equals;
        if !fits(&with) {
            break;
        }
        select_within_capacity = with;
    }
    // More than once: ranges that come together can take fewer rules than each by itself.
    loop {
        let before = select_within_capacity.len();
        for candidate in by_standing.values().flatten() {
            if select_within_capacity.insert(candidate.clone()) && !fits(&select_within_capacity) {
                select_within_capacity.remove(candidate);
            }
        }
        if select_within_capacity.len() == before {
            return select_within_capacity;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::conformance::rule;

    fn rules(texts: &[&str]) -> RuleSet {
        texts.iter().map(|text| rule(text)).collect()
    }

    #[test]
    fn what_is_let_in_stands_before_an_edit_of_it_and_both_before_what_is_new() {
        let now = rules(&["tcp/80-90 10.0.0.0/8", "udp/53 ::/0"]);
        let of = |texts: &[&str]| Incumbency::classify(&rules(texts), &now);
        assert_eq!(of(&["tcp/85 10.1.0.0/16"]), Incumbency::Established);
        assert_eq!(of(&["tcp/80 10.0.0.0/8", "tcp/80 ::/0"]), Incumbency::PartlyOpen);
        assert_eq!(of(&["tcp/80 10.0.0.0/8", "tcp/443 10.0.0.0/8"]), Incumbency::New);
        assert!(Incumbency::Established < Incumbency::PartlyOpen && Incumbency::PartlyOpen < Incumbency::New);
    }

    #[test]
    fn the_first_by_name_has_the_room_only_among_equals() {
        let candidates = BTreeSet::from(["a", "b", "c"]);
        let two = |set: &BTreeSet<&str>| set.len() <= 2;
        let of = |there: &'static str| {
            move |key: &&str| if *key == there { Incumbency::Established } else { Incumbency::New }
        };
        assert_eq!(select_within_capacity(&candidates, of("none"), two), BTreeSet::from(["a", "b"]));
        assert_eq!(select_within_capacity(&candidates, of("c"), two), BTreeSet::from(["a", "c"]));
        assert_eq!(select_within_capacity(&candidates, of("none"), |_| true), candidates);
    }

    #[test]
    fn what_fits_beside_those_that_came_later_is_not_left_out() {
        // `a` fits only where `b` is: together they take less.
        let fits = |set: &BTreeSet<&str>| set.len() <= 2 && (!set.contains("a") || set.contains("b"));
        let select_within_capacity =
            select_within_capacity(&BTreeSet::from(["a", "b", "c"]), |_| Incumbency::New, fits);
        assert_eq!(select_within_capacity, BTreeSet::from(["b", "c"]));
        let fits = |set: &BTreeSet<&str>| !set.contains("c") && (!set.contains("a") || set.contains("b"));
        let select_within_capacity =
            super::select_within_capacity(&BTreeSet::from(["a", "b", "c"]), |_| Incumbency::New, fits);
        assert_eq!(select_within_capacity, BTreeSet::from(["a", "b"]));
    }
}
