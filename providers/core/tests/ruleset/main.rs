//! Rule arithmetic: the canonical form covers exactly the same traffic, is unique, and is minimal.

mod plain;

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use firewall_core::{IngressRule, PortRange, Protocol, RuleSet};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

fn rule(protocol: Protocol, first: u16, last: u16, source: IpNet) -> IngressRule {
    IngressRule::new(protocol, PortRange::new(first, last).unwrap(), source)
}

fn rules(texts: &[&str]) -> RuleSet {
    texts.iter().map(|text| firewall_core::testing::conformance::rule(text)).collect()
}

/// Returns rules from a part of the space that is small enough to enumerate: 5 ports at either end of the
/// range, 8 addresses of each family, two protocols.
fn small_rule() -> impl Strategy<Value = IngressRule> {
    let protocol = prop_oneof![Just(Protocol::Tcp), Just(Protocol::Udp)];
    let ports = prop_oneof![Just(1_u16), Just(65531)].prop_flat_map(|base| {
        (0..5_u16, 0..5_u16).prop_map(move |(a, b)| (base + a.min(b), base + a.max(b)))
    });
    let source = (any::<bool>(), 0..8_u8, 0..4_u8).prop_map(|(v6, host, width)| source(v6, host, width));
    (protocol, ports, source)
        .prop_map(|(protocol, (first, last), source)| rule(protocol, first, last, source))
}

/// Returns rules whose ports and sources nest, touch and overlap at every scale.
fn any_rule() -> impl Strategy<Value = IngressRule> {
    let port = prop_oneof![1_u16..40, any::<u16>().prop_map(|port| port.max(1)), Just(65535_u16)];
    let ports = (port.clone(), port).prop_map(|(a, b)| (a.min(b), a.max(b)));
    let length = prop_oneof![0..=4_u8, 28..=32_u8];
    let v4 = (length.clone(), 0..8_u32, 0..8_u32).prop_map(|(length, high, low)| {
        IpNet::V4(Ipv4Net::new(Ipv4Addr::from(high << 29 | low), length).unwrap())
    });
    let v6 = (length, 0..8_u128, 0..8_u128).prop_map(|(length, high, low)| {
        IpNet::V6(Ipv6Net::new(Ipv6Addr::from(high << 125 | low << 96), length).unwrap())
    });
    (ports, prop_oneof![3 => v4, 1 => v6])
        .prop_map(|((first, last), source)| rule(Protocol::Tcp, first, last, source.trunc()))
}

fn source(v6: bool, host: u8, width: u8) -> IpNet {
    if v6 {
        IpNet::V6(
            Ipv6Net::new(Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(host)), 128 - width).unwrap(),
        )
    } else {
        IpNet::V4(Ipv4Net::new(Ipv4Addr::new(10, 0, 0, host), 32 - width).unwrap())
    }
}

type Point = (Protocol, u16, IpAddr);

fn points(rules: &[IngressRule]) -> BTreeSet<Point> {
    let addresses = |net: IpNet| net.hosts().chain([net.network(), net.broadcast()]).collect::<BTreeSet<_>>();
    rules
        .iter()
        .flat_map(|rule| {
            let ports = rule.ports.first()..=rule.ports.last();
            ports.flat_map(move |port| {
                addresses(rule.source).into_iter().map(move |address| (rule.protocol, port, address))
            })
        })
        .collect()
}

/// Returns true if at most `most` of the candidates cover exactly `points`, found by trying them all.
fn has_cover(points: &BTreeSet<Point>, candidates: &[BTreeSet<Point>], most: usize) -> bool {
    let Some(point) = points.first() else { return true };
    most > 0
        && candidates
            .iter()
            .filter(|candidate| candidate.contains(point))
            .any(|candidate| has_cover(&(points - candidate), candidates, most - 1))
}

proptest! {
    #[test]
    fn canonical_form_covers_exactly_the_same_traffic(rules in prop::collection::vec(small_rule(), 0..12)) {
        let set: RuleSet = rules.iter().copied().collect();
        let canonical: Vec<_> = set.iter().copied().collect();
        prop_assert_eq!(points(&canonical), points(&rules));
    }

    #[test]
    fn canonical_form_is_unique_however_the_set_is_written(
        rules in prop::collection::vec(small_rule(), 0..8),
    ) {
        let set: RuleSet = rules.iter().copied().collect();
        let atoms = points(&rules).into_iter().map(|(protocol, port, address)| {
            rule(protocol, port, port, IpNet::from(address))
        });
        prop_assert_eq!(atoms.collect::<RuleSet>(), set.clone());
        prop_assert_eq!(set.iter().copied().collect::<RuleSet>(), set);
    }

    #[test]
    fn covers_and_union_agree_with_the_traffic(
        left in prop::collection::vec(small_rule(), 0..6),
        right in prop::collection::vec(small_rule(), 0..6),
    ) {
        let (a, b): (RuleSet, RuleSet) = (left.iter().copied().collect(), right.iter().copied().collect());
        prop_assert_eq!(a.covers(&b), points(&left).is_superset(&points(&right)));
        let both: Vec<IngressRule> = a.intersection(&b).iter().copied().collect();
        prop_assert_eq!(points(&both), &points(&left) & &points(&right));
        let both: Vec<_> = a.union(&b).iter().copied().collect();
        prop_assert_eq!(points(&both), &points(&left) | &points(&right));
    }

    #[test]
    fn canonical_form_is_that_of_the_plain_arithmetic(
        small in prop::collection::vec(small_rule(), 0..40),
        large in prop::collection::vec(any_rule(), 0..40),
    ) {
        for rules in [&small, &large, &[small.clone(), large.clone()].concat()] {
            let set: RuleSet = rules.iter().copied().collect();
            prop_assert_eq!(set.iter().copied().collect::<Vec<_>>(), plain::canonical(rules.iter().copied()));
        }
    }

    #[test]
    fn set_operations_are_those_of_the_plain_arithmetic(
        left in prop::collection::vec(any_rule(), 0..20),
        right in prop::collection::vec(any_rule(), 0..20),
    ) {
        let (a, b): (RuleSet, RuleSet) = (left.iter().copied().collect(), right.iter().copied().collect());
        let both = plain::canonical(left.iter().chain(&right).copied());
        prop_assert_eq!(a.union(&b).iter().copied().collect::<Vec<_>>(), both.clone());
        prop_assert_eq!(a.covers(&b), both == a.iter().copied().collect::<Vec<_>>());
        prop_assert!(a.union(&b).covers(&a) && a.covers(&a.intersection(&b)));
        let pairs = left.iter().flat_map(|one| right.iter().filter_map(|other| one.intersection(other)));
        let common: Vec<_> = a.intersection(&b).iter().copied().collect();
        prop_assert_eq!(common, plain::canonical(pairs));
    }

    #[test]
    fn no_smaller_set_of_rules_covers_the_same(
        cells in prop::collection::btree_set((1..4_u16, 0..4_u8), 1..12),
    ) {
        let atoms = cells.iter().map(|&(port, host)| rule(Protocol::Tcp, port, port, source(false, host, 0)));
        let set: RuleSet = atoms.collect();
        let covered = points(&set.iter().copied().collect::<Vec<_>>());
        let mut candidates = Vec::new();
        for first in 1..4 {
            for last in first..4 {
                for (host, width) in [(0, 0), (1, 0), (2, 0), (3, 0), (0, 1), (2, 1), (0, 2)] {
                    let candidate = points(&[rule(Protocol::Tcp, first, last, source(false, host, width))]);
                    candidates.extend(candidate.is_subset(&covered).then_some(candidate));
                }
            }
        }
        prop_assert!(!has_cover(&covered, &candidates, set.len() - 1), "{set} is not minimal");
    }
}

#[test]
fn canonical_form_is_what_people_would_write() {
    let cases: [(&[&str], &[&str]); 6] = [
        (&["tcp/80 0.0.0.0/0", "tcp/81 0.0.0.0/0"], &["tcp/80-81 0.0.0.0/0"]),
        (&["tcp/80 10.0.0.0/9", "tcp/80 10.128.0.0/9"], &["tcp/80 10.0.0.0/8"]),
        (&["tcp/80 0.0.0.0/0", "tcp/80 10.0.0.0/8"], &["tcp/80 0.0.0.0/0"]),
        (&["tcp/443 0.0.0.0/0", "tcp/444 10.0.0.0/8"], &["tcp/443 0.0.0.0/0", "tcp/444 10.0.0.0/8"]),
        (
            &["tcp/80 ::/0", "udp/80 ::/0", "tcp/80 0.0.0.0/0"],
            &["tcp/80 0.0.0.0/0", "tcp/80 ::/0", "udp/80 ::/0"],
        ),
        (&["udp/1-65534 ::/0", "udp/65535 ::/0"], &["udp/1-65535 ::/0"]),
    ];
    for (written, expected) in cases {
        let expected: Vec<_> =
            expected.iter().map(|text| firewall_core::testing::conformance::rule(text)).collect();
        assert_eq!(rules(written).iter().copied().collect::<Vec<_>>(), expected, "{written:?}");
    }
}

#[test]
fn host_bits_of_a_source_are_ignored() {
    let exact = rules(&["tcp/80 10.0.0.0/8"]);
    assert_eq!(rules(&["tcp/80 10.1.2.3/8"]), exact);
}
