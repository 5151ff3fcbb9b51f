//! The arithmetic in its plainest form: ports cut into bands, every source held against every other. Its time
//! grows with the cube of the rules; the tests hold the fast one to it.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{IngressRule, PortRange, Protocol};
use ipnet::IpNet;

/// Returns the fewest rules that cover exactly what `rules` cover.
pub(crate) fn canonical(rules: impl IntoIterator<Item = IngressRule>) -> Vec<IngressRule> {
    let mut by_protocol: BTreeMap<Protocol, Vec<IngressRule>> = BTreeMap::new();
    for rule in rules {
        by_protocol.entry(rule.protocol).or_default().push(rule);
    }
    let canonical: BTreeSet<IngressRule> =
        by_protocol.into_iter().flat_map(|(protocol, rules)| canonicalize(protocol, &rules)).collect();
    canonical.into_iter().collect()
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
