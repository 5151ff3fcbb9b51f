//! Guardrails: what no intent can open, whoever asks.

use std::collections::BTreeSet;

use firewall_model::{PortRange, Protocol};

/// SSH, etcd, the Kubernetes API, and the kubelet's and control plane's own ports: whoever opens one of these to
/// the world has most likely not meant to.
const DENIED: [(u16, u16); 4] = [(22, 22), (2379, 2380), (6443, 6443), (10248, 10259)];

/// Whether all these ports may be exposed.
///
/// # Errors
/// If one is denied; the text names it and how an administrator allows it.
pub(super) fn ports(ports: &BTreeSet<(Protocol, u16)>, allowed: &[PortRange]) -> Result<(), String> {
    let denied = |port: u16| DENIED.iter().any(|(first, last)| (*first..=*last).contains(&port));
    let named = |port: u16| allowed.iter().any(|range| range.contains(port));
    match ports.iter().find(|(_, port)| denied(*port) && !named(*port)) {
        None => Ok(()),
        Some((protocol, port)) => Err(format!(
            "{protocol}/{port} is denied by default, so nothing of this is opened; an administrator can allow it \
             with --allow-ports {port}"
        )),
    }
}
