//! Host ports: the ports that a pod binds on its node, requested or not.

use std::collections::BTreeSet;
use std::net::IpAddr;

use firewall_core::{PortRange, Protocol};

use super::voyager::labels::is_haproxy;
use crate::k8s::objects::{Container, ContainerPort, Pod};
use crate::parse::family::Family;
use crate::parse::ports::{PortRanges, merge, subtract};

/// The most host ports of a pod: each intent of its namespace may be held against each of them.
pub(super) const MAX_HOST_PORTS: usize = 2000;

/// A port that a pod binds on its node, or ports that it can bind undeclared.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostPort {
    pub(super) protocol: Protocol,
    /// One port, if it is declared
    pub(super) ports: PortRange,
    /// The name of the container port
    pub(super) name: Option<String>,
    /// The container that binds it
    pub(super) container: String,
    /// The only family it can be reached by, if it is bound to one address
    pub(super) family: Option<Family>,
}

/// The host ports of a pod.
#[derive(Default)]
pub(super) struct HostPorts {
    /// Those that can be reached from outside
    pub(super) declared: BTreeSet<HostPort>,
    /// Those bound to loopback or link-local addresses, which cannot be reached from outside
    local: PortRanges,
    /// Both
    all_declared: PortRanges,
    /// True if the pod can bind others too. On the host's network a container port is information only: a media
    /// server cannot declare the ten thousand ports that it relays on.
    pub(super) can_bind_undeclared: bool,
}

impl HostPorts {
    /// Returns those of the ports that the pod can bind without having declared any of them.
    pub(super) fn find_undeclared(&self, protocol: Protocol, ports: PortRange) -> Vec<HostPort> {
        if !self.can_bind_undeclared {
            return Vec::new();
        }
        let ports = PortRanges::from([(protocol, ports)]);
        subtract(&ports, &self.all_declared).into_iter().map(undeclared).collect()
    }

    /// Returns the same ports, the undeclared ones in the fewest ranges: those that a list names may overlap.
    pub(super) fn merge_undeclared(&self, ports: BTreeSet<HostPort>) -> BTreeSet<HostPort> {
        let (mut merged, others): (BTreeSet<_>, BTreeSet<_>) =
            ports.into_iter().partition(|port| self.declared.contains(port));
        let others = merge(others.into_iter().map(|port| (port.protocol, port.ports)));
        merged.extend(others.into_iter().map(undeclared));
        merged
    }

    /// Returns everything that the pod can bind undeclared.
    pub(super) fn all_undeclared(&self) -> impl Iterator<Item = (Protocol, PortRange)> {
        let protocols = Protocol::ALL.into_iter();
        let undeclared = protocols.flat_map(|protocol| self.find_undeclared(protocol, PortRange::ALL));
        undeclared.map(|port| (port.protocol, port.ports))
    }

    /// Formats the declared ports as an annotation would name them; none if there are none.
    pub(super) fn format(&self) -> Option<String> {
        let text = |port: &HostPort| match &port.name {
            Some(name) => format!("{name} ({}/{})", port.ports, port.protocol),
            None => format!("{}/{}", port.ports, port.protocol),
        };
        // A pod can bind hundreds; an Event holds about a thousand bytes.
        let mut shown: Vec<String> = self.declared.iter().take(10).map(text).collect();
        if self.declared.len() > shown.len() {
            shown.push("…".to_owned());
        }
        (!shown.is_empty()).then(|| shown.join(", "))
    }

    /// Returns true if the pod has declared one of these, for an address that cannot be reached from outside.
    pub(super) fn are_local(&self, protocol: Protocol, ports: PortRange) -> bool {
        self.local.iter().any(|(other, local)| *other == protocol && local.intersection(ports).is_some())
    }
}

const fn undeclared((protocol, ports): (Protocol, PortRange)) -> HostPort {
    HostPort { protocol, ports, name: None, container: String::new(), family: None }
}

/// The ports of a Service.
impl From<BTreeSet<HostPort>> for HostPorts {
    fn from(declared: BTreeSet<HostPort>) -> Self {
        Self { declared, ..Self::default() }
    }
}

/// Parses the host ports of a pod's containers and sidecars.
///
/// # Errors
/// If a number is no port, or a protocol is unknown, with the container's name; or if there are too many.
pub(super) fn parse_host_ports(pod: &Pod) -> Result<HostPorts, String> {
    let sidecars = pod
        .spec
        .init_containers
        .iter()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    // Voyager declares each port that HAProxy listens on, and those of its own that nobody may reach.
    let can_bind_undeclared = pod.spec.host_network && !is_haproxy(pod);
    let mut ports = HostPorts { can_bind_undeclared, ..HostPorts::default() };
    let mut local = Vec::new();
    for container in pod.spec.containers.iter().chain(sidecars) {
        for port in &container.ports {
            let bound = parse_host_port(container, port, pod.spec.host_network);
            match bound.map_err(|error| format!("container {}: {error}", container.name))? {
                None => {}
                Some(Bound::Outside(port)) => _ = ports.declared.insert(port),
                Some(Bound::Local(protocol, port)) => local.push((protocol, port)),
            }
            if ports.declared.len() + local.len() > MAX_HOST_PORTS {
                return Err(format!("it has more than {MAX_HOST_PORTS} host ports; none of them is opened"));
            }
        }
    }
    let declared = ports.declared.iter().map(|port| (port.protocol, port.ports));
    ports.all_declared = merge(declared.chain(local.iter().copied()));
    ports.local = merge(local);
    Ok(ports)
}

/// Parses a port number and a protocol as Kubernetes has them; the protocol is TCP if absent.
///
/// # Errors
/// If the number is no port, or the protocol is unknown.
pub(super) fn parse_port(number: i64, protocol: Option<&str>) -> Result<(Protocol, PortRange), String> {
    let not_a_port = || format!("{number} is not a port; use 1 to 65535");
    let port = u16::try_from(number).ok().and_then(|port| PortRange::single(port).ok());
    let port = port.ok_or_else(not_a_port)?;
    let protocol = protocol.filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
    Ok((protocol.parse().map_err(|error| format!("port {number}: {error}"))?, port))
}

/// A port, by where it can be reached from.
enum Bound {
    Outside(HostPort),
    Local(Protocol, PortRange),
}

fn parse_host_port(
    container: &Container,
    port: &ContainerPort,
    host_network: bool,
) -> Result<Option<Bound>, String> {
    // The API server copies the container port into hostPort for hostNetwork pods; a manifest may not have
    // it.
    let implied = host_network.then_some(port.container_port);
    let Some(number) = port.host_port.filter(|number| *number != 0).or(implied) else { return Ok(None) };
    let (protocol, ports) = parse_port(number, port.protocol.as_deref())?;
    let address = match port.host_ip.as_deref().filter(|address| !address.is_empty()) {
        None => None,
        // An IPv4 address in IPv6 notation is bound, and reached, as the IPv4 address that it is.
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) => Some(address.to_canonical()),
            Err(_) => return Err(format!("hostIP {text:?} is not an IP address")),
        },
    };
    if address.is_some_and(is_loopback_or_link_local) {
        return Ok(Some(Bound::Local(protocol, ports)));
    }
    let family = address.filter(|address| !address.is_unspecified()).map(Family::of);
    let (name, container) = (port.name.clone(), container.name.clone());
    Ok(Some(Bound::Outside(HostPort { protocol, ports, name, container, family })))
}

const fn is_loopback_or_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_loopback() || v6.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::k8s::objects::builders::{from_json, host_port};

    fn parsed(spec: &Value) -> Result<Vec<String>, String> {
        let pod: Pod = from_json(json!({ "metadata": { "name": "a" }, "spec": spec }));
        let text = |port: HostPort| {
            let family = port.family.map_or(String::new(), |family| format!(" {family}"));
            format!("{}/{}{family}", port.protocol, port.ports)
        };
        parse_host_ports(&pod).map(|ports| ports.declared.into_iter().map(text).collect())
    }

    fn parsed_port(port: &Value) -> Result<Vec<String>, String> {
        parsed(&json!({ "containers": [{ "name": "main", "ports": [port] }] }))
    }

    #[test]
    fn host_port_comes_from_the_field_or_from_the_host_network() {
        assert_eq!(parsed_port(&json!({ "containerPort": 80 })), Ok(vec![]));
        assert_eq!(parsed_port(&json!({ "containerPort": 80, "hostPort": 0 })), Ok(vec![]));
        assert_eq!(
            parsed_port(&json!({ "containerPort": 22, "hostPort": 9890 })),
            Ok(vec!["tcp/9890".into()])
        );
        let ports = json!([{ "containerPort": 53, "protocol": "UDP" }, host_port(80)]);
        let spec = json!({ "hostNetwork": true, "containers": [{ "name": "main", "ports": ports }] });
        assert_eq!(parsed(&spec), Ok(vec!["tcp/80".into(), "udp/53".into()]));
    }

    #[test]
    fn sidecars_count_and_other_init_containers_do_not() {
        let container = |name: &str, port: u16, restart: Option<&str>| {
            let ports = json!([{ "containerPort": port, "hostPort": port }]);
            json!({ "name": name, "ports": ports, "restartPolicy": restart })
        };
        let init = [container("sidecar", 81, Some("Always")), container("once", 82, None)];
        let spec = json!({ "containers": [container("main", 80, None)], "initContainers": init });
        assert_eq!(parsed(&spec), Ok(vec!["tcp/80".into(), "tcp/81".into()]));
    }

    #[test]
    fn host_ip_limits_the_address_family() {
        let cases = [
            ("", Some("tcp/80")),
            ("0.0.0.0", Some("tcp/80")),
            ("::", Some("tcp/80")),
            ("192.0.2.1", Some("tcp/80 v4")),
            ("::ffff:192.0.2.1", Some("tcp/80 v4")),
            ("2001:db8::1", Some("tcp/80 v6")),
            ("127.0.0.1", None),
            ("127.8.8.8", None),
            ("169.254.20.10", None),
            ("::1", None),
            ("fe80::1", None),
            ("::ffff:127.0.0.1", None),
        ];
        for (address, expected) in cases {
            let port = json!({ "containerPort": 80, "hostPort": 80, "hostIP": address });
            let expected: Vec<String> = expected.into_iter().map(str::to_owned).collect();
            assert_eq!(parsed_port(&port), Ok(expected), "{address:?}");
        }
    }

    #[test]
    fn error_names_the_container_and_the_invalid_value() {
        let cases = [
            (json!({ "containerPort": 80, "hostPort": 99999 }), "99999"),
            (json!({ "containerPort": 80, "hostPort": -1 }), "-1"),
            (json!({ "containerPort": 80, "hostPort": 80, "protocol": "ICMP" }), "ICMP"),
            (json!({ "containerPort": 80, "hostPort": 80, "hostIP": "here" }), "here"),
        ];
        for (port, part) in cases {
            let error = parsed_port(&port).unwrap_err();
            assert!(error.contains(part) && error.contains("container main"), "{error}");
        }
    }
}
