//! Sets of ports: as the fewest ranges, what of one is not in another, and as text in messages.

use std::collections::BTreeSet;

use firewall_core::{PortRange, Protocol};

/// Ports of several protocols, in the fewest ranges.
pub type PortRanges = BTreeSet<(Protocol, PortRange)>;

/// Merges ports into the fewest ranges.
pub(crate) fn merge(ports: impl IntoIterator<Item = (Protocol, PortRange)>) -> PortRanges {
    let mut ranges: Vec<(Protocol, u16, u16)> = Vec::new();
    for (protocol, range) in ports.into_iter().collect::<PortRanges>() {
        match ranges.last_mut() {
            Some((same, _, last)) if *same == protocol && range.first() <= last.saturating_add(1) => {
                *last = range.last().max(*last);
            }
            _ => ranges.push((protocol, range.first(), range.last())),
        }
    }
    let range = |(protocol, first, last)| Some((protocol, PortRange::new(first, last).ok()?));
    ranges.into_iter().filter_map(range).collect()
}

/// Returns those of the ports that are not among the others.
pub(crate) fn subtract(ports: &PortRanges, others: &PortRanges) -> PortRanges {
    let mut left = PortRanges::new();
    // Both are in order, and no range of either meets another of the same: one walk over both is enough.
    let mut others = others.iter().peekable();
    for &(protocol, range) in ports {
        while others.next_if(|(other, below)| (*other, below.last()) < (protocol, range.first())).is_some() {}
        let mut rest = Some(range);
        // The last of them can reach into the next range too.
        for (_, other) in
            others.clone().take_while(|(other, above)| *other == protocol && above.first() <= range.last())
        {
            for part in rest.take().into_iter().flat_map(|rest| rest.difference(*other)) {
                if part.last() < other.first() {
                    left.insert((protocol, part));
                } else {
                    rest = Some(part);
                }
            }
        }
        left.extend(rest.map(|rest| (protocol, rest)));
    }
    left
}

/// Returns those of the ports that are among the others too.
pub(crate) fn intersect(ports: &PortRanges, others: &PortRanges) -> PortRanges {
    subtract(ports, &subtract(ports, others))
}

/// Formats ports for a message. A long list is truncated, because an Event holds about a thousand bytes.
#[must_use]
pub fn format_ports(ports: &PortRanges) -> String {
    let shown: Vec<String> =
        ports.iter().take(10).map(|(protocol, ports)| format!("{protocol}/{ports}")).collect();
    shown.join(", ") + if ports.len() > shown.len() { ", …" } else { "" }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ranges(ports: &[(Protocol, &str)]) -> PortRanges {
        merge(ports.iter().map(|(protocol, range)| (*protocol, range.parse().expect("a range"))))
    }

    #[test]
    fn adjacent_ports_of_one_protocol_become_a_range() {
        use Protocol::{Tcp, Udp};
        let text = |ports: &[(Protocol, &str)]| format_ports(&ranges(ports));
        assert_eq!(text(&[(Tcp, "80"), (Tcp, "82"), (Tcp, "81"), (Udp, "83")]), "tcp/80-82, udp/83");
        assert_eq!(text(&[(Tcp, "65535"), (Udp, "1")]), "tcp/65535, udp/1");
        assert_eq!(text(&[(Udp, "1-10"), (Udp, "5-20"), (Udp, "21")]), "udp/1-21");
        assert_eq!(text(&[]), "");
    }

    prop_compose! {
        /// Low ports, so that ranges meet.
        fn some_ports()(ports in prop::collection::vec((any::<bool>(), 1..40_u16, 0..8_u16), 0..8)) -> PortRanges {
            let protocol = |is_udp| if is_udp { Protocol::Udp } else { Protocol::Tcp };
            merge(ports.into_iter().filter_map(|(is_udp, first, more)| {
                Some((protocol(is_udp), PortRange::new(first, first + more).ok()?))
            }))
        }
    }

    fn one_by_one(ports: &PortRanges) -> BTreeSet<(Protocol, u16)> {
        ports
            .iter()
            .flat_map(|(protocol, range)| (range.first()..=range.last()).map(|port| (*protocol, port)))
            .collect()
    }

    proptest! {
        #[test]
        fn ranges_are_subtracted_as_their_ports_are(one in some_ports(), other in some_ports()) {
            let (left, common) = (subtract(&one, &other), intersect(&one, &other));
            prop_assert_eq!(one_by_one(&left), &one_by_one(&one) - &one_by_one(&other));
            prop_assert_eq!(one_by_one(&common), &one_by_one(&one) & &one_by_one(&other));
            prop_assert_eq!(merge(left.iter().copied()), left);
        }
    }
}
