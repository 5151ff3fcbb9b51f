//! Host ports: what a pod binds on its node, whatever asks for it.

use std::net::IpAddr;

use firewall_model::{PortRange, Protocol};
use ipnet::IpNet;

use crate::objects::{Container, ContainerPort, Pod};

/// A port that a pod binds on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
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

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) const fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) const fn holds(self, source: &IpNet) -> bool {
        matches!((self, source), (Self::V4, IpNet::V4(_)) | (Self::V6, IpNet::V6(_)))
    }
}

/// The host ports of a pod's containers and sidecars. Ports bound to loopback or link-local addresses are left
/// out: nothing from outside can reach them.
///
/// # Errors
/// If a port or a protocol is none, with the container's name.
pub(super) fn host_ports(pod: &Pod) -> Result<Vec<HostPort>, String> {
    let sidecars = pod
        .spec
        .init_containers
        .iter()
        .filter(|container| container.restart_policy.as_deref() == Some("Always"));
    let mut ports = Vec::new();
    for container in pod.spec.containers.iter().chain(sidecars) {
        for port in &container.ports {
            let host_port = host_port(container, port, pod.spec.host_network);
            ports.extend(host_port.map_err(|error| format!("container {}: {error}", container.name))?);
        }
    }
    Ok(ports)
}

fn host_port(
    container: &Container,
    port: &ContainerPort,
    host_network: bool,
) -> Result<Option<HostPort>, String> {
    // The API server copies the container port into hostPort for hostNetwork pods; a manifest may not have it.
    let implied = host_network.then_some(port.container_port);
    let Some(number) = port.host_port.filter(|number| *number != 0).or(implied) else { return Ok(None) };
    let range: PortRange = number.to_string().parse().map_err(|error| format!("hostPort: {error}"))?;
    let protocol = port.protocol.as_deref().filter(|protocol| !protocol.is_empty()).unwrap_or("TCP");
    let protocol = protocol.parse().map_err(|error| format!("port {number}: {error}"))?;
    let address = match port.host_ip.as_deref().filter(|address| !address.is_empty()) {
        None => None,
        Some(text) => {
            Some(text.parse::<IpAddr>().map_err(|_| format!("hostIP {text:?} is not an IP address"))?)
        }
    };
    if address.is_some_and(is_local) {
        return Ok(None);
    }
    let family = address.filter(|address| !address.is_unspecified()).map(Family::of);
    let (name, container) = (port.name.clone(), container.name.clone());
    Ok(Some(HostPort { protocol, port: range.first(), name, container, family }))
}

fn is_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => v4.is_loopback() || v4.is_link_local(),
        IpAddr::V6(v6) => match v6.to_ipv4_mapped() {
            Some(v4) => is_local(IpAddr::V4(v4)),
            None => v6.is_loopback() || v6.is_unicast_link_local(),
        },
    }
}
