//! The canonical form: the fewest rules that cover exactly the same traffic.
//!
//! Ports are cut into bands where a rule begins or ends. Sources are a forest, each CIDR below those that
//! contain it. Every CIDR is stretched over as many bands as admit it; from the narrowest up, those are
//! dropped that narrower ones make redundant; and what extends into bands that a wider CIDR has open anyway
//! is trimmed. Every step depends on the covered set alone, never on how it was written; that the result is
//! minimal is tested against exhaustive search.
//!
//! The forest is walked with the bands that are open to the CIDRs around, so that the time grows with the
//! rules, the logarithm of the bands, and at most the length of a prefix.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use super::coverage::{Coverage, Span, intersect, merge};
use crate::{IngressRule, PortRange, Protocol};

/// One CIDR of the forest.
struct Source {
    cidr: IpNet,
    /// The bands that rules open to it, or to its halves, and not only to CIDRs around it
    open: Vec<Span>,
    /// The bands of its rules, each over as many as admit it
    strips: Vec<Span>,
}

/// Returns the fewest rules of one protocol that cover exactly what `rules` cover.
pub(super) fn canonicalize(protocol: Protocol, rules: &[IngressRule]) -> Vec<IngressRule> {
    let bands = Bands::cut(rules);
    let mut sources = collect_sources(rules, &[], &bands);
    let mut around = Coverage::none(bands.0.len());
    for_each_tree(&mut sources, |tree| {
        select_strips(tree, &mut around);
    });
    let mut canonical = Vec::new();
    for_each_tree(&mut sources, |tree| {
        trim_strips(tree, &mut around, &mut |cidr, span| {
            canonical.push(IngressRule::new(protocol, bands.ports(span), cidr));
        });
    });
    canonical
}

/// Returns true if rules of one protocol, in whichever form, let in all that `asked` do.
pub(super) fn covers(rules: &[IngressRule], asked: &[IngressRule]) -> bool {
    let bands = Bands::cut(rules.iter().chain(asked));
    let mut sources = collect_sources(rules, asked, &bands);
    let mut by_cidr: BTreeMap<IpNet, Vec<Span>> = BTreeMap::new();
    for rule in asked {
        by_cidr.entry(rule.source.trunc()).or_default().push(bands.span(rule));
    }
    let (mut around, mut is_covered) = (Coverage::none(bands.0.len()), true);
    for_each_tree(&mut sources, |tree| is_covered = is_covered && is_open(tree, &by_cidr, &mut around));
    is_covered
}

/// Returns true if the asked bands of every CIDR of a tree are open to it. `around` holds what is open to the
/// CIDRs around it.
fn is_open(tree: &mut [Source], asked: &BTreeMap<IpNet, Vec<Span>>, around: &mut Coverage) -> bool {
    let Some((root, within)) = tree.split_first_mut() else { return true };
    around.add(&root.open);
    let mut is_covered = asked.get(&root.cidr).into_iter().flatten().all(|span| around.covers(*span));
    for_each_tree(within, |tree| is_covered = is_covered && is_open(tree, asked, around));
    around.remove(&root.open);
    is_covered
}

/// The first ports of the bands, in order. As u32, because the last begins after port 65535; it is never
/// open, nor is the first, which has port 0.
struct Bands(Vec<u32>);

impl Bands {
    fn cut<'a>(rules: impl IntoIterator<Item = &'a IngressRule>) -> Self {
        let ends = rules.into_iter().flat_map(|rule| [first_port(rule), end_port(rule)]);
        Self(ends.chain([0]).collect::<BTreeSet<u32>>().into_iter().collect())
    }

    fn span(&self, rule: &IngressRule) -> Span {
        let position = |port| self.0.partition_point(|first| *first < port);
        Span { first: position(first_port(rule)), last: position(end_port(rule)) - 1 }
    }

    fn ports(&self, span: Span) -> PortRange {
        let port = |port: u32| u16::try_from(port).expect("an open band ends at 65535 or before");
        PortRange::new(port(self.0[span.first]), port(self.0[span.last + 1] - 1)).expect("bands ascend")
    }
}

fn first_port(rule: &IngressRule) -> u32 {
    rule.ports.first().into()
}

fn end_port(rule: &IngressRule) -> u32 {
    u32::from(rule.ports.last()) + 1
}

/// Returns the sources of the rules and of `others`, and every CIDR of which both halves are there, so that
/// each follows those that contain it. Only `rules` open anything.
fn collect_sources(rules: &[IngressRule], others: &[IngressRule], bands: &Bands) -> Vec<Source> {
    // By length, so that the longest are taken first, and of two halves the right one.
    let mut pending: BTreeMap<(u8, IpNet), Vec<Span>> = BTreeMap::new();
    for rule in rules {
        let cidr = rule.source.trunc();
        pending.entry((cidr.prefix_len(), cidr)).or_default().push(bands.span(rule));
    }
    for rule in others {
        let cidr = rule.source.trunc();
        pending.entry((cidr.prefix_len(), cidr)).or_default();
    }
    let mut sources = Vec::new();
    while let Some(((length, cidr), open)) = pending.pop_last() {
        let open = merge(open);
        let whole = cidr.supernet().map(|whole| whole.trunc()).filter(|_| is_right_half(cidr));
        let left = whole.and_then(|whole| IpNet::new(whole.addr(), length).ok());
        if let Some((whole, left)) = whole.zip(left.and_then(|left| pending.get_mut(&(length, left)))) {
            *left = merge(std::mem::take(left));
            let both = intersect(left, &open);
            pending.entry((length - 1, whole)).or_default().extend(both);
        }
        sources.push(Source { cidr, open, strips: Vec::new() });
    }
    sources.sort_unstable_by_key(|source| source.cidr);
    sources
}

/// Returns true if the CIDR is the half with the higher addresses of the next wider one.
fn is_right_half(cidr: IpNet) -> bool {
    cidr.supernet().is_some_and(|whole| whole.trunc().addr() != cidr.addr())
}

/// Visits each CIDR that is in no other, with those in it behind it.
fn for_each_tree(mut sources: &mut [Source], mut visit: impl FnMut(&mut [Source])) {
    while let Some(root) = sources.first().map(|source| source.cidr) {
        let (tree, rest) =
            sources.split_at_mut(sources.partition_point(|source| root.contains(&source.cidr)));
        visit(tree);
        sources = rest;
    }
}

/// Selects the strips of a tree. `around` holds what is open to the CIDRs around it. Returns the bands in
/// which the strips of the root and of those in it cover all of the root.
fn select_strips(tree: &mut [Source], around: &mut Coverage) -> Vec<Span> {
    let Some((root, within)) = tree.split_first_mut() else { return Vec::new() };
    // Elsewhere a wider CIDR is the source.
    let own: Vec<Span> = root.open.iter().copied().filter(|span| !around.covers(*span)).collect();
    around.add(&root.open);
    let mut strips: Vec<Span> = own.into_iter().map(|span| around.stretch(span)).collect();
    strips.dedup();
    let mut halves = [Vec::new(), Vec::new()];
    for_each_tree(within, |tree| {
        let cidr = tree[0].cidr;
        let covered = select_strips(tree, around);
        if cidr.prefix_len() == root.cidr.prefix_len() + 1 {
            halves[usize::from(is_right_half(cidr))] = covered;
        }
    });
    around.remove(&root.open);
    let narrower = intersect(&halves[0], &halves[1]);
    around.add(&narrower);
    strips.retain(|strip| !around.covers(*strip));
    around.remove(&narrower);
    root.strips.clone_from(&strips);
    merge([strips, narrower].concat())
}

/// Trims the strips of a tree and hands them on. `around` holds the strips of the CIDRs around it.
fn trim_strips(tree: &mut [Source], around: &mut Coverage, hand_on: &mut impl FnMut(IpNet, Span)) {
    let Some((root, within)) = tree.split_first_mut() else { return };
    for strip in &root.strips {
        let trimmed = Span { first: around.next_gap(strip.first), last: around.previous_gap(strip.last) };
        hand_on(root.cidr, trimmed);
    }
    around.add(&root.strips);
    for_each_tree(within, |tree| trim_strips(tree, around, hand_on));
    around.remove(&root.strips);
}
