//! Port entries: the ports that an intent lists, by name, number or range.

use std::borrow::Cow;
use std::collections::BTreeSet;

use firewall_core::{PortError, PortRange, Protocol};

use super::host_port::{HostPort, HostPorts};

/// One element of a list of ports, such as `http`, `443`, `3478/udp` or `30000-30100/udp`.
pub(super) struct PortEntry {
    /// As the intent has it
    pub(super) text: String,
    ports: EntryPorts,
}

enum EntryPorts {
    /// Of one protocol, or of all
    Named(String, Option<Protocol>),
    Numbered(Protocol, PortRange),
}

impl PortEntry {
    /// Parses an entry.
    ///
    /// # Errors
    /// If it has none of these forms.
    pub(super) fn parse(entry: &str) -> Result<Self, String> {
        let with_entry = |error: PortError| format!("{entry:?}: {error}");
        let (port, protocol) = match entry.split_once('/') {
            None => (entry, None),
            Some((port, protocol)) => (port, Some(protocol.parse::<Protocol>().map_err(with_entry)?)),
        };
        if port.is_empty() {
            return Err(format!("the entry {entry:?} names no port; leave it out, and its comma"));
        }
        let ports = if port.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-') {
            EntryPorts::Numbered(protocol.unwrap_or(Protocol::Tcp), port.parse().map_err(with_entry)?)
        } else {
            EntryPorts::Named(port.to_owned(), protocol)
        };
        Ok(Self { text: entry.to_owned(), ports })
    }

    /// Returns the host ports that the entry names: declared ones and, by number, others that the pod can bind.
    ///
    /// # Errors
    /// If a name stands for several numbers.
    pub(super) fn find_in<'p>(&self, host_ports: &'p HostPorts) -> Result<Vec<Cow<'p, HostPort>>, String> {
        let declared = host_ports.declared.iter();
        match &self.ports {
            EntryPorts::Named(name, protocol) => {
                let is_named = |known: &&HostPort| {
                    known.name.as_ref() == Some(name) && protocol.is_none_or(|only| known.protocol == only)
                };
                let named: Vec<_> = declared.filter(is_named).map(Cow::Borrowed).collect();
                self.refuse_ambiguous(&named)?;
                Ok(named)
            }
            EntryPorts::Numbered(protocol, range) => {
                let is_named = |known: &&HostPort| known.protocol == *protocol && range.covers(known.ports);
                let undeclared = host_ports.find_undeclared(*protocol, *range).into_iter().map(Cow::Owned);
                Ok(declared.filter(is_named).map(Cow::Borrowed).chain(undeclared).collect())
            }
        }
    }

    /// Refuses a name that containers have given to different ports. Kubernetes allows that, with a warning; who
    /// writes `http` means the server, and not the sidecar whose metrics have the same name.
    fn refuse_ambiguous(&self, named: &[Cow<'_, HostPort>]) -> Result<(), String> {
        let numbers: BTreeSet<PortRange> = named.iter().map(|port| port.ports).collect();
        if numbers.len() <= 1 {
            return Ok(());
        }
        let of = |port: &Cow<'_, HostPort>| {
            format!("{}/{} of container {}", port.ports, port.protocol, port.container)
        };
        let all = named.iter().take(10).map(of).collect::<Vec<_>>().join(" and ");
        Err(format!("{:?} stands for {all}; write the number", self.text))
    }

    /// Returns why no host port of the pod is named, and what to do.
    pub(super) fn explain_absence(&self, host_ports: &HostPorts) -> String {
        let Self { text, ports } = self;
        match ports {
            EntryPorts::Numbered(protocol, range) if host_ports.are_local(*protocol, *range) => {
                format!("{text:?} is bound to an address that nobody can reach from outside; see its hostIP")
            }
            EntryPorts::Named(..) if host_ports.can_bind_undeclared => format!(
                "{text:?} names no port that the pod declares; it is on the host's network, so write the number{}",
                match host_ports.format() {
                    None => String::new(),
                    Some(declared) => format!(", or one of {declared}"),
                }
            ),
            _ => format!(
                "{text:?} is no host port of the pod; name those to open of {}",
                host_ports.format().unwrap_or_default()
            ),
        }
    }
}
