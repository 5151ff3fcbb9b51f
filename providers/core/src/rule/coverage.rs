//! Port bands, and which of them are open to the sources around one: a segment tree.

/// Consecutive bands, `first..=last`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Span {
    pub(super) first: usize,
    pub(super) last: usize,
}

/// Returns the same bands as the fewest spans, in order.
pub(super) fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_unstable();
    spans.dedup_by(|next, merged| {
        let touches = next.first <= merged.last + 1;
        if touches {
            merged.last = merged.last.max(next.last);
        }
        touches
    });
    spans
}

/// Returns the bands of both, where each is merged.
pub(super) fn intersect(one: &[Span], two: &[Span]) -> Vec<Span> {
    let (mut one, mut two) = (one.iter().peekable(), two.iter().peekable());
    let mut common = Vec::new();
    while let (Some(a), Some(b)) = (one.peek(), two.peek()) {
        count_step();
        let (first, last) = (a.first.max(b.first), a.last.min(b.last));
        common.extend((first <= last).then_some(Span { first, last }));
        if a.last < b.last {
            one.next()
        } else {
            two.next()
        };
    }
    common
}

/// Counts for each band how many spans hold it. Every operation takes time that grows with the logarithm of
/// the bands.
pub(super) struct Coverage {
    /// Number of leaves, a power of two. The children of node n are 2n and 2n + 1; leaf n is band n - width.
    width: usize,
    /// Number of spans that hold all bands below a node, without those counted at a node above
    counts: Vec<u32>,
    /// Reports for each node whether the spans counted at it and below hold all its bands
    full: Vec<bool>,
}

impl Coverage {
    /// Returns the coverage of this many bands by nothing. The first and the last must never be covered.
    pub(super) fn none(bands: usize) -> Self {
        let width = bands.next_power_of_two();
        Self { width, counts: vec![0; 2 * width], full: vec![false; 2 * width] }
    }

    pub(super) fn add(&mut self, spans: &[Span]) {
        for span in spans {
            self.change(*span, |count| count + 1);
        }
    }

    /// Removes spans that have been added.
    pub(super) fn remove(&mut self, spans: &[Span]) {
        for span in spans {
            self.change(*span, |count| count - 1);
        }
    }

    fn change(&mut self, span: Span, change: fn(u32) -> u32) {
        let (first, last) = (span.first + self.width, span.last + self.width);
        let (mut low, mut high) = (first, last + 1);
        while low < high {
            count_step();
            if low % 2 == 1 {
                self.counts[low] = change(self.counts[low]);
                self.refresh(low);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                self.counts[high] = change(self.counts[high]);
                self.refresh(high);
            }
            (low, high) = (low / 2, high / 2);
        }
        for mut node in [first, last] {
            while node > 1 {
                node /= 2;
                self.refresh(node);
            }
        }
    }

    fn refresh(&mut self, node: usize) {
        let below = node < self.width && self.full[2 * node] && self.full[2 * node + 1];
        self.full[node] = self.counts[node] > 0 || below;
    }

    /// Returns true if every band of the span is covered.
    pub(super) fn covers(&self, span: Span) -> bool {
        self.next_gap(span.first) > span.last
    }

    /// Returns the covered bands around a span that is covered itself.
    pub(super) fn stretch(&self, span: Span) -> Span {
        Span { first: self.previous_gap(span.first) + 1, last: self.next_gap(span.last) - 1 }
    }

    /// Returns the first band from this one on that is not covered.
    pub(super) fn next_gap(&self, band: usize) -> usize {
        let is_in_reach = |_, last| last >= band;
        self.find_gap(1, (0, self.width - 1), [0, 1], &is_in_reach).expect("the last band is not covered")
    }

    /// Returns the last band up to this one that is not covered.
    pub(super) fn previous_gap(&self, band: usize) -> usize {
        let is_in_reach = |first, _| first <= band;
        self.find_gap(1, (0, self.width - 1), [1, 0], &is_in_reach).expect("the first band is not covered")
    }

    /// Returns the first band below a node that is in reach and not covered, in the order of the children.
    fn find_gap(
        &self,
        node: usize,
        (first, last): (usize, usize),
        order: [usize; 2],
        is_in_reach: &impl Fn(usize, usize) -> bool,
    ) -> Option<usize> {
        count_step();
        if self.full[node] || !is_in_reach(first, last) {
            return None;
        }
        if first == last {
            return Some(first);
        }
        let middle = usize::midpoint(first, last);
        let halves = [(first, middle), (middle + 1, last)];
        order.iter().find_map(|&child| self.find_gap(2 * node + child, halves[child], order, is_in_reach))
    }
}

#[cfg(test)]
thread_local! {
    /// Number of steps that the arithmetic has taken, for tests of how it grows
    pub(super) static STEPS: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// Counts one step of the arithmetic, in tests.
pub(super) fn count_step() {
    #[cfg(test)]
    STEPS.set(STEPS.get() + 1);
}
