//! Sets of ports: as ranges, and as text in messages.

use std::collections::BTreeSet;

use firewall_core::{PortRange, Protocol};

/// Merges ports into the fewest ranges.
pub(crate) fn merge_into_ranges(ports: &BTreeSet<(Protocol, u16)>) -> BTreeSet<(Protocol, PortRange)> {
    let mut ranges: Vec<(Protocol, u16, u16)> = Vec::new();
    for &(protocol, port) in ports {
        match ranges.last_mut() {
            Some((same, _, last)) if *same == protocol && last.checked_add(1) == Some(port) => *last = port,
            _ => ranges.push((protocol, port, port)),
        }
    }
    let range = |(protocol, first, last)| Some((protocol, PortRange::new(first, last).ok()?));
    ranges.into_iter().filter_map(range).collect()
}

/// Formats ports for a message. A long list is truncated, because an Event holds about a thousand bytes.
#[must_use]
pub fn format_ports(ports: &BTreeSet<(Protocol, PortRange)>) -> String {
    let shown: Vec<String> =
        ports.iter().take(10).map(|(protocol, ports)| format!("{protocol}/{ports}")).collect();
    shown.join(", ") + if ports.len() > shown.len() { ", …" } else { "" }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ranges(ports: &[(Protocol, u16)]) -> String {
        format_ports(&merge_into_ranges(&ports.iter().copied().collect()))
    }

    #[test]
    fn adjacent_ports_of_one_protocol_become_a_range() {
        use Protocol::{Tcp, Udp};
        assert_eq!(ranges(&[(Tcp, 80), (Tcp, 82), (Tcp, 81), (Udp, 83)]), "tcp/80-82, udp/83");
        assert_eq!(ranges(&[(Tcp, 65535), (Udp, 1)]), "tcp/65535, udp/1");
        assert_eq!(ranges(&[]), "");
    }
}
