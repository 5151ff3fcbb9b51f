//! Rule arithmetic: sets of ingress rules in the one canonical form that covers exactly the same traffic.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use crate::{IngressRule, PortRange, Protocol};

/// A set of (protocol, port, address), held as the fewest rules that cover exactly it.
///
/// Two sets that let the same traffic in are equal, however they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct RuleSet(BTreeSet<IngressRule>);

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
    pub const fn rules(&self) -> &BTreeSet<IngressRule> {
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
        if self == other || other.is_empty() {
            return self.clone();
        }
        self.0.iter().chain(&other.0).copied().collect()
    }

    /// Returns all that both sets let in.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Self {
        let pairs = self.0.iter().flat_map(|one| other.0.iter().map(move |other| (one, other)));
        pairs.filter_map(|(one, other)| one.intersection(other)).collect()
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
        let is_covered_singly = other.0.iter().all(|other| self.0.iter().any(|rule| rule.covers(other)));
        // A rule can also be covered by several rules together: then the union has the same canonical form.
        is_covered_singly || self.union(other) == *self
    }
}

impl FromIterator<IngressRule> for RuleSet {
    fn from_iter<I: IntoIterator<Item = IngressRule>>(rules: I) -> Self {
        let mut by_protocol: BTreeMap<Protocol, Vec<IngressRule>> = BTreeMap::new();
        for rule in rules {
            by_protocol.entry(rule.protocol).or_default().push(rule);
        }
        Self(by_protocol.into_iter().flat_map(|(protocol, rules)| canonicalize(protocol, &rules)).collect())
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

/// Consecutive ports that all admit the same sources, which are aggregated to the fewest CIDRs.
struct Band {
    ports: PortRange,
    sources: Vec<IpNet>,
}

/// One CIDR over consecutive bands (`first..=last`, indices), all of which admit it.
#[derive(Clone, Copy)]
struct Strip {
    source: IpNet,
    first: usize,
    last: usize,
}

impl Strip {
    const fn spans(&self, band: usize) -> bool {
        self.first <= band && band <= self.last
    }

    /// Returns true if `other` is a larger CIDR around this one.
    fn is_within(&self, other: &Self) -> bool {
        self.source != other.source && other.source.contains(&self.source)
    }
}

/// Returns the fewest rules of one protocol that cover exactly what `rules` cover.
///
/// Cuts the ports into bands of equal sources, stretches every CIDR over as many bands as admit it, drops
/// from the narrowest CIDR up those that narrower ones make redundant, and trims those that extend into a
/// port that a wider CIDR has open anyway. Every step depends on the covered set alone, never on how it was
/// written; that the result is minimal is tested against exhaustive search.
fn canonicalize(protocol: Protocol, rules: &[IngressRule]) -> Vec<IngressRule> {
    let bands = cut_into_bands(rules);
    let strips = drop_redundant(&bands, stretch_sources(&bands));
    strips
        .iter()
        .map(|strip| {
            let Strip { source, first, last } = trim(*strip, &strips);
            let ports = PortRange::new(bands[first].ports.first(), bands[last].ports.last());
            IngressRule::new(protocol, ports.expect("bands are in ascending order"), source)
        })
        .collect()
}

fn cut_into_bands(rules: &[IngressRule]) -> Vec<Band> {
    // Ports as u32, because there is a cut after port 65535.
    let cuts: BTreeSet<u32> = rules
        .iter()
        .flat_map(|rule| [u32::from(rule.ports.first()), u32::from(rule.ports.last()) + 1])
        .collect();
    let mut bands: Vec<Band> = Vec::new();
    for (&from, &to) in cuts.iter().zip(cuts.iter().skip(1)) {
        let range = u16::try_from(from).and_then(|first| Ok((first, u16::try_from(to - 1)?)));
        let Some(ports) = range.ok().and_then(|(first, last)| PortRange::new(first, last).ok()) else {
            continue;
        };
        let open: Vec<IpNet> =
            rules.iter().filter(|rule| rule.ports.covers(ports)).map(|rule| rule.source).collect();
        let mut sources = IpNet::aggregate(&open);
        sources.sort_unstable();
        match bands.last_mut() {
            _ if sources.is_empty() => {}
            Some(band) if are_adjacent(band.ports, ports) && band.sources == sources => {
                band.ports = PortRange::new(band.ports.first(), ports.last()).expect("cuts ascend");
            }
            _ => bands.push(Band { ports, sources }),
        }
    }
    bands
}

fn are_adjacent(low: PortRange, high: PortRange) -> bool {
    low.last().checked_add(1) == Some(high.first())
}

fn stretch_sources(bands: &[Band]) -> Vec<Strip> {
    let sources: BTreeSet<IpNet> = bands.iter().flat_map(|band| band.sources.iter().copied()).collect();
    let mut strips = Vec::new();
    for source in sources {
        let mut open: Option<(Strip, bool)> = None;
        for (index, band) in bands.iter().enumerate() {
            let admits = band.sources.iter().any(|wider| wider.contains(&source));
            let is_own_source = band.sources.contains(&source);
            let joins = open.is_some() && are_adjacent(bands[index - 1].ports, band.ports);
            if let Some((strip, needed)) = open.take_if(|_| !(admits && joins)) {
                strips.extend(needed.then_some(strip));
            }
            if admits {
                let (strip, needed) =
                    open.get_or_insert((Strip { source, first: index, last: index }, false));
                strip.last = index;
                *needed |= is_own_source;
            }
        }
        strips.extend(open.and_then(|(strip, needed)| needed.then_some(strip)));
    }
    strips
}

fn drop_redundant(bands: &[Band], mut strips: Vec<Strip>) -> Vec<Strip> {
    strips.sort_by_key(|strip| (std::cmp::Reverse(strip.source.prefix_len()), strip.source, strip.first));
    let mut kept: Vec<Strip> = Vec::new();
    for strip in strips {
        let is_redundant = (strip.first..=strip.last)
            .filter(|&band| bands[band].sources.contains(&strip.source))
            .all(|band| {
                let narrower: Vec<IpNet> = kept
                    .iter()
                    .filter(|other| other.spans(band) && other.is_within(&strip))
                    .map(|other| other.source)
                    .collect();
                IpNet::aggregate(&narrower) == [strip.source]
            });
        if !is_redundant {
            kept.push(strip);
        }
    }
    kept
}

fn trim(mut strip: Strip, all: &[Strip]) -> Strip {
    let is_open_anyway = |band| all.iter().any(|wider| strip.is_within(wider) && wider.spans(band));
    let (mut first, mut last) = (strip.first, strip.last);
    while first < last && is_open_anyway(first) {
        first += 1;
    }
    while first < last && is_open_anyway(last) {
        last -= 1;
    }
    (strip.first, strip.last) = (first, last);
    strip
}
