//! Host ports: the ports that a pod binds on its node, requested or not.

use std::collections::BTreeSet;
use std::net::IpAddr;

use firewall_core::Protocol;

use crate::k8s::objects::{Container, ContainerPort, Pod};
use crate::parse::family::Family;

/// The most host ports of a pod: each intent of its namespace may be held against each of them.
pub(super) const MAX_HOST_PORTS: usize = 2000;

/// A port that a pod binds on its node.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct HostPort {
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    /// The name of the container port
    pub(super) name: Option<String>,
    /// The container that binds it
    pub(super) container: String,
    /// The only family it can be reached by, if it is bound to one address
    pub(super) family: Option<Family>,
}

/// Parses the host ports of a pod's containers and sidecars. Ports bound to loopback or link-local addresses
/// are left out, because they cannot be reached from outside.
///
/// # Errors
/// If a number is no port, or a protocol is unknown, with the container's name; or if there are too many.
pub(super) fn parse_host_ports(pod: &Pod) -> Result<BTreeSet<HostPort>, String> {
    let sidecars = pod
        .spec
        .init_containers
        .iter()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports = BTreeSet::new();
    for container in pod.spec.containers.iter().chain(sidecars) {
        for port in &container.ports {
            let host_port = parse_host_port(container, port, pod.spec.host_network);
            ports.extend(host_port.map_err(|error| format!("container {}: {error}", container.name))?);
            if ports.len() > MAX_HOST_PORTS {
                return Err(format!("it has more than {MAX_HOST_PORTS} host ports; none of them is opened"));
            }
        }
    }
    Ok(ports)
}

/// Parses a port number and a protocol as Kubernetes has them; the protocol is TCP if absent.
///
/// # Errors
/// If the number is no port, or the protocol is unknown.
pub(super) fn parse_port(number: i64, protocol: Option<&str>) -> Result<(Protocol, u16), String> {
    let not_a_port = || format!("{number} is not a port; use 1 to 65535");
    let port = u16::try_from(number).ok().filter(|port| *port != 0).ok_or_else(not_a_port)?;
    let protocol = protocol.filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
    Ok((protocol.parse().map_err(|error| format!("port {number}: {error}"))?, port))
}

fn parse_host_port(
    container: &Container,
    port: &ContainerPort,
    host_network: bool,
) -> Result<Option<HostPort>, String> {
    // The API server copies the container port into hostPort for hostNetwork pods; a manifest may not have
    // it.
    let implied = host_network.then_some(port.container_port);
    let Some(number) = port.host_port.filter(|number| *number != 0).or(implied) else { return Ok(None) };
    let (protocol, bound) = parse_port(number, port.protocol.as_deref())?;
    let address = match port.host_ip.as_deref().filter(|address| !address.is_empty()) {
        None => None,
        // An IPv4 address in IPv6 notation is bound, and reached, as the IPv4 address that it is.
        Some(text) => match text.parse::<IpAddr>() {
            Ok(address) => Some(address.to_canonical()),
            Err(_) => return Err(format!("hostIP {text:?} is not an IP address")),
        },
    };
    if address.is_some_and(is_loopback_or_link_local) {
        return Ok(None);
    }
    let family = address.filter(|address| !address.is_unspecified()).map(Family::of);
    let (name, container) = (port.name.clone(), container.name.clone());
    Ok(Some(HostPort { protocol, port: bound, name, container, family }))
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
            format!("{}/{}{family}", port.protocol, port.port)
        };
        parse_host_ports(&pod).map(|ports| ports.into_iter().map(text).collect())
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
