//! Guardrails: what no intent can open, whoever asks.

use std::collections::BTreeSet;

use firewall_model::{PortRange, Protocol};

/// SSH, etcd, the Kubernetes API, and the kubelet's and control plane's own ports, all TCP: whoever opens one of
/// these to the world has most likely not meant to.
const DENIED: [(u16, u16); 4] = [(22, 22), (2379, 2380), (6443, 6443), (10248, 10259)];

/// Whether all these ports may be exposed.
///
/// # Errors
/// If any is denied; the text names all that are, and how an administrator allows them.
pub(super) fn ports(ports: &BTreeSet<(Protocol, u16)>, allowed: &[PortRange]) -> Result<(), String> {
    let denied = |port: u16| DENIED.iter().any(|(first, last)| (*first..=*last).contains(&port));
    let named = |port: u16| allowed.iter().any(|range| range.contains(port));
    let refused: Vec<String> = ports
        .iter()
        .filter(|(protocol, port)| *protocol == Protocol::Tcp && denied(*port) && !named(*port))
        .map(|(_, port)| port.to_string())
        .collect();
    if refused.is_empty() {
        return Ok(());
    }
    Err(format!(
        "tcp/{} is denied by the guardrail on ports, so nothing of this is opened; an administrator can allow it \
         with --allow-ports {}",
        refused.join(", tcp/"),
        refused.join(",")
    ))
}

#[cfg(test)]
mod tests {
    use Protocol::{Tcp, Udp};

    use super::*;

    #[test]
    fn ports_of_the_node_itself_are_denied_unless_an_administrator_names_them() {
        let cases = [
            (vec![(Tcp, 22)], "", false),
            (vec![(Tcp, 22)], "22", true),
            (vec![(Tcp, 22)], "20-30", true),
            (vec![(Tcp, 22)], "6443", false),
            (vec![(Tcp, 80), (Tcp, 22)], "", false),
            (vec![(Tcp, 2378), (Tcp, 2381), (Tcp, 10247), (Tcp, 10260)], "", true),
            (vec![(Tcp, 2379)], "", false),
            (vec![(Tcp, 6443)], "", false),
            (vec![(Tcp, 10248)], "", false),
            (vec![(Tcp, 10259)], "", false),
            (vec![(Udp, 22)], "", true),
        ];
        for (asked, allowed, fine) in cases {
            let allowed: Vec<PortRange> = allowed.parse().into_iter().collect();
            assert_eq!(
                ports(&asked.iter().copied().collect(), &allowed).is_ok(),
                fine,
                "{asked:?} {allowed:?}"
            );
        }
    }

    #[test]
    fn the_message_names_every_denied_port_and_the_flag() {
        let message = ports(&BTreeSet::from([(Tcp, 22), (Tcp, 80), (Tcp, 6443)]), &[]).unwrap_err();
        assert!(
            message.contains("tcp/22, tcp/6443") && message.contains("--allow-ports 22,6443"),
            "{message}"
        );
    }
}
