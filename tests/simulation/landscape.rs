//! What every history is about: a few workloads on a few nodes, each workload with ports of its own, so that
//! a port says whose it is.

use std::net::IpAddr;

use ipnet::IpNet;

/// The number of nodes.
pub(crate) const NODES: usize = 4;

/// The number of machines: each node can have one of two behind it, and no two nodes the same.
pub(crate) const MACHINES: usize = 2 * NODES;

/// The way in which a workload asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Intent {
    /// Annotations on its pods
    Annotation,
    /// A `HostPortExposure` of its name
    Exposure,
    /// A Voyager Ingress of its name, whose operator runs the pods
    Ingress,
}

/// A workload: what its pods bind, and how they ask.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    pub(crate) namespace: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) ports: &'static [u16],
    pub(crate) intent: Intent,
}

/// All workloads.
pub(crate) const WORKLOADS: [Workload; 6] = [
    Workload { name: "web", namespace: "shop", protocol: "TCP", ports: &[80], intent: Intent::Annotation },
    Workload { name: "edge", namespace: "shop", protocol: "TCP", ports: &[443], intent: Intent::Exposure },
    Workload {
        name: "lb",
        namespace: "shop",
        protocol: "TCP",
        ports: &[8080, 8443],
        intent: Intent::Ingress,
    },
    Workload {
        name: "media",
        namespace: "games",
        protocol: "UDP",
        ports: &[9000, 9001, 9002],
        intent: Intent::Annotation,
    },
    Workload { name: "turn", namespace: "games", protocol: "UDP", ports: &[3478], intent: Intent::Exposure },
    Workload { name: "dns", namespace: "games", protocol: "TCP", ports: &[5353], intent: Intent::Annotation },
];

/// The choices of source ranges; the first stands for the default, which is anywhere.
pub(crate) const SOURCES: [&[&str]; 8] = [
    &[],
    &["10.0.0.0/8"],
    &["10.0.0.0/8", "192.0.2.0/24"],
    &["198.51.100.0/24", "2001:db8::/32"],
    &["192.0.2.0/24", "198.51.100.0/24"],
    &["10.0.0.0/8", "192.0.2.0/24", "198.51.100.0/24"],
    &["100.64.0.0/10", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"],
    &["10.0.0.0/8", "100.64.0.0/10", "192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"],
];

/// Packets that stand for all: a protocol and port from an address, to any instance. Among them are ports
/// beside those that are asked for, and addresses beside the sources.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) protocol: &'static str,
    pub(crate) port: u16,
    pub(crate) from: IpAddr,
}

/// A set of probes, one bit each.
pub(crate) type Probes = u128;

/// Stands for traffic to anywhere from an instance, which is let out by a rule of ours.
pub(crate) const EGRESS: Probes = 1 << 127;

/// Returns all probes.
pub(crate) fn probes() -> &'static [Probe] {
    static ALL: std::sync::OnceLock<Vec<Probe>> = std::sync::OnceLock::new();
    ALL.get_or_init(|| {
        let beside = [("TCP", 22), ("TCP", 81), ("UDP", 80), ("UDP", 9003)];
        let asked = WORKLOADS.iter().flat_map(|one| one.ports.iter().map(|port| (one.protocol, *port)));
        let ports: Vec<(&'static str, u16)> = asked.chain(beside).collect();
        let froms = ["10.9.8.7", "192.0.2.3", "198.51.100.5", "203.0.113.9", "2001:db8::7", "2001:db9::1"];
        let froms = froms.map(|text| text.parse::<IpAddr>().expect("an address"));
        let pairs = ports.iter().flat_map(|port| froms.iter().map(move |from| (*port, *from)));
        pairs.map(|((protocol, port), from)| Probe { protocol, port, from }).collect()
    })
}

/// Returns the probes that a rule lets in.
pub(crate) fn admitted(protocol: &str, first: u16, last: u16, source: &IpNet) -> Probes {
    let is_admitted = |probe: &Probe| {
        probe.protocol.eq_ignore_ascii_case(protocol)
            && (first..=last).contains(&probe.port)
            && source.contains(&probe.from)
    };
    bits(probes().iter().map(is_admitted))
}

/// Returns the probes to the ports of a workload.
pub(crate) fn probes_of(workload: &Workload) -> Probes {
    let is_own = |probe: &Probe| probe.protocol == workload.protocol && workload.ports.contains(&probe.port);
    bits(probes().iter().map(is_own))
}

fn bits(of: impl Iterator<Item = bool>) -> Probes {
    of.enumerate().fold(0, |set, (position, is_in)| set | Probes::from(is_in) << position)
}

/// Returns the probes of a set as text, for a message.
pub(crate) fn describe(set: Probes) -> String {
    let named = probes().iter().enumerate().filter(|(position, _)| set >> position & 1 == 1);
    let texts: Vec<String> =
        named.map(|(_, probe)| format!("{}/{} from {}", probe.protocol, probe.port, probe.from)).collect();
    let egress = (set & EGRESS != 0).then(|| "anything to anywhere".to_owned());
    texts.into_iter().chain(egress).collect::<Vec<_>>().join(", ")
}

/// Returns the probes that can arrive at a machine at all.
pub(crate) fn arriving(machine: usize) -> Probes {
    EGRESS | bits(probes().iter().map(|probe| probe.from.is_ipv4() || has_ipv6(machine)))
}

/// Returns the name of a node.
pub(crate) fn node_name(node: usize) -> String {
    format!("n{node}")
}

/// Returns true if the machine has an IPv6 address: every second one has.
pub(crate) const fn has_ipv6(machine: usize) -> bool {
    machine.is_multiple_of(2)
}
