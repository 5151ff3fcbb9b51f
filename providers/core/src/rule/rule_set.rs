//! Rule arithmetic: sets of ingress rules in the one canonical form that covers exactly the same traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::canonical::{canonicalize, covers};
use super::coverage::count_step;
use crate::{IngressRule, PortRange, Protocol};

/// A set of (protocol, port, address), held as the fewest rules that cover exactly it.
///
/// Two sets that let the same traffic in are equal, however they were written. Clones share the rules.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleSet(Arc<BTreeSet<IngressRule>>);

impl RuleSet {
    /// Returns the rules that let in everybody to these ports.
    #[must_use]
    pub fn from_anywhere(ports: impl IntoIterator<Item = (Protocol, PortRange)>) -> Self {
        let anywhere = [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())];
        let rules = ports
            .into_iter()
            .flat_map(|(protocol, ports)| anywhere.map(|source| IngressRule::new(protocol, ports, source)));
        rules.collect()
    }

    /// Returns the rules, in order.
    pub fn iter(&self) -> impl Iterator<Item = &IngressRule> {
        self.0.iter()
    }

    /// Returns the rules as a plain set.
    #[must_use]
    pub fn rules(&self) -> &BTreeSet<IngressRule> {
        &self.0
    }

    /// Returns the number of rules.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns true if nothing is let in.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns true if a packet from `address` to `port` is let in.
    #[must_use]
    pub fn admits(&self, protocol: Protocol, port: u16, address: IpAddr) -> bool {
        self.0.iter().any(|rule| {
            rule.protocol == protocol && rule.ports.contains(port) && rule.source.contains(&address)
        })
    }

    /// Returns all that either set lets in.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        if other.0.is_subset(&self.0) {
            return self.clone();
        }
        self.0.iter().chain(other.iter()).copied().collect()
    }

    /// Returns all that any of these sets lets in.
    #[must_use]
    pub fn union_of<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        let mut sets = sets.into_iter();
        let first = sets.next().cloned().unwrap_or_default();
        let others: Vec<&Self> = sets.filter(|other| !other.0.is_subset(&first.0)).collect();
        if others.is_empty() {
            return first;
        }
        first.iter().chain(others.into_iter().flat_map(Self::iter)).copied().collect()
    }

    /// Returns all that both sets let in.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        if self == other { self.clone() } else { intersect(self, other) }
    }

    /// Returns the parts of `rules` that lie within this set: a rule as it is where all of it does.
    #[must_use]
    pub fn select_within(&self, rules: &BTreeSet<IngressRule>) -> BTreeSet<IngressRule> {
        let parts = rules.iter().flat_map(|rule| {
            let whole = Self::from_iter([*rule]);
            let part = whole.intersection(self);
            if part == whole { vec![*rule] } else { part.iter().copied().collect() }
        });
        parts.collect()
    }

    /// Returns true if `other` lets nothing in that this set does not.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        let rest = by_protocol(other.0.difference(&self.0).copied());
        rest.iter().all(|(protocol, asked)| {
            let ports = || asked.iter().map(|rule| rule.ports);
            let (first, last) = (ports().map(PortRange::first).min(), ports().map(PortRange::last).max());
            let is_near = |rule: &&IngressRule| {
                rule.protocol == *protocol
                    && last.is_some_and(|last| rule.ports.first() <= last)
                    && first.is_some_and(|first| first <= rule.ports.last())
            };
            covers(&self.iter().filter(is_near).copied().collect::<Vec<_>>(), asked)
        })
    }
}

fn by_protocol(rules: impl IntoIterator<Item = IngressRule>) -> BTreeMap<Protocol, Vec<IngressRule>> {
    let mut by_protocol: BTreeMap<Protocol, Vec<IngressRule>> = BTreeMap::new();
    for rule in rules {
        by_protocol.entry(rule.protocol).or_default().push(rule);
    }
    by_protocol
}

/// Returns all that both sets let in.
fn intersect(one: &RuleSet, two: &RuleSet) -> RuleSet {
    let mut rules: Vec<(bool, &IngressRule)> =
        one.iter().map(|rule| (false, rule)).chain(two.iter().map(|rule| (true, rule))).collect();
    rules.sort_unstable_by_key(|&(side, rule)| (rule.protocol, rule.source, side, rule.ports));
    let mut common = Vec::new();
    // The rules of the sources around one; of the same set and source, they have no port in common.
    let mut around: Vec<&[(bool, &IngressRule)]> = Vec::new();
    let is_same_source = |one: &(bool, &IngressRule), two: &(bool, &IngressRule)| {
        (one.0, one.1.protocol, one.1.source) == (two.0, two.1.protocol, two.1.source)
    };
    for group in rules.chunk_by(is_same_source) {
        let (side, first) = group[0];
        let is_around =
            |outer: &IngressRule| outer.protocol == first.protocol && outer.source.contains(&first.source);
        while around.pop_if(|outer| !is_around(outer[0].1)).is_some() {}
        for outer in around.iter().filter(|outer| outer[0].0 != side) {
            for (_, rule) in group {
                count_step();
                let start = outer.partition_point(|(_, outer)| outer.ports.last() < rule.ports.first());
                common.extend(outer[start..].iter().map_while(|(_, outer)| outer.intersection(rule)));
            }
        }
        around.push(group);
    }
    common.into_iter().collect()
}

impl FromIterator<IngressRule> for RuleSet {
    fn from_iter<I: IntoIterator<Item = IngressRule>>(rules: I) -> Self {
        let rules = by_protocol(rules).into_iter();
        let canonical = rules.flat_map(|(protocol, rules)| canonicalize(protocol, &rules));
        Self(Arc::new(canonical.collect()))
    }
}

impl fmt::Display for RuleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, rule) in self.0.iter().enumerate() {
            write!(f, "{}{rule}", if position == 0 { "" } else { ", " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use ipnet::{IpNet, Ipv4Net};

    use super::*;
    use crate::rule::coverage::STEPS;

    /// Returns the steps that the arithmetic takes for two halves of these rules.
    fn count_steps(rules: &[IngressRule]) -> usize {
        STEPS.set(0);
        let (one, two) = rules.split_at(rules.len() / 2);
        let (one, two): (RuleSet, RuleSet) = (one.iter().copied().collect(), two.iter().copied().collect());
        let both = one.union(&two);
        assert!(both.covers(&one) && !one.covers(&both));
        STEPS.get()
    }

    fn rule(first: u16, last: u16, address: u32, length: u8) -> IngressRule {
        let source = Ipv4Net::new(Ipv4Addr::from((10 << 24) + address), length).expect("a length");
        IngressRule::new(Protocol::Tcp, PortRange::new(first, last).expect("a range"), IpNet::V4(source))
    }

    #[test]
    fn steps_of_arithmetic_grow_little_more_than_the_rules() {
        type Rules = fn(u16) -> Vec<IngressRule>;
        let shapes: [(&str, Rules); 4] = [
            ("ports × sources", |scale| {
                let product = |source| (0..10 * scale).map(move |port| (source, port));
                (0..40)
                    .flat_map(product)
                    .map(|(source, port)| rule(2 * port + 1, 2 * port + 1, 2 * source, 32))
                    .collect()
            }),
            ("sources × ports", |scale| {
                let product = |source| (0..10).map(move |port| (source, port));
                let sources = (0..20 * u32::from(scale)).flat_map(product);
                sources.map(|(source, port)| rule(2 * port + 1, 2 * port + 1, source << 9, 24)).collect()
            }),
            ("nested ports", |scale| {
                (0..100 * scale).map(|at| rule(1 + at, u16::MAX - at, 2 * u32::from(at), 32)).collect()
            }),
            ("everywhere on some ports, few elsewhere", |scale| {
                let wide = (0..50 * scale).map(|at| rule(4 * at + 1, 4 * at + 2, 0, 8));
                wide.chain((0..50 * scale).map(|at| rule(2, u16::MAX, 2 * u32::from(at), 32))).collect()
            }),
        ];
        for (name, rules) in shapes {
            let [once, twice, fourfold] = [1, 2, 4].map(|scale| count_steps(&rules(scale)));
            assert!(twice * 2 <= once * 5, "{name}: {once} steps, then {twice}");
            assert!(fourfold * 2 <= twice * 5, "{name}: {twice} steps, then {fourfold}");
        }
    }
}
