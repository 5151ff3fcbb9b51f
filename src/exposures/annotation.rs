//! The annotation intent: a pod that says itself which of its host ports may be reached, and from where.

use std::collections::BTreeMap;

use firewall_model::{PortRange, Protocol};
use ipnet::IpNet;

use super::host_port::HostPort;
use super::{Ask, Refusal, Variant, annotations, refusal, source_ranges, workload};
use crate::notice::Notice;
use crate::objects::{DOMAIN, ObjectRef, Pod};

/// Lists the ports: names, numbers or ranges.
const EXPOSE: &str = "hostport-firewall.dev/expose";

/// Lists the sources of all ports; with `.<port>` behind it, of one.
pub(super) const SOURCE_RANGES: &str = "hostport-firewall.dev/source-ranges";

/// More entries than this are refused: a range says the same in one.
const MOST: usize = 500;

/// Whether the pod carries any of our annotations.
pub(super) fn asks(pod: &Pod) -> bool {
    annotations(&pod.metadata).keys().any(|name| name.starts_with(DOMAIN))
}

/// What the pod asks for. Refused whole if any entry cannot be understood.
pub(super) fn ask<'a>(
    pod: &Pod,
    reference: &ObjectRef,
    host_ports: &'a [HostPort],
    defaults: &[IpNet],
    problems: &mut Vec<Notice>,
) -> Result<Option<Ask<'a>>, Refusal> {
    let annotations = annotations(&pod.metadata);
    let refuse =
        |name: &str, message: String| refusal(reference, "InvalidAnnotation", format!("{name}: {message}"));
    for name in annotations.keys().filter(|name| is_unknown(name)) {
        let message = format!("is not an annotation of ours; {EXPOSE} and {SOURCE_RANGES} are");
        problems.push(*refuse(name, message));
    }
    let Some(expose) = annotations.get(EXPOSE) else {
        if annotations.keys().any(|name| name.starts_with(SOURCE_RANGES)) {
            return Err(refuse(SOURCE_RANGES, format!("opens nothing without {EXPOSE}")));
        }
        return Ok(None);
    };
    if host_ports.is_empty() {
        let message = "the pod has no host port that can be reached from outside; set hostPort on a container port, \
                       or hostNetwork";
        return Err(refuse(EXPOSE, message.to_owned()));
    }
    let ports = selected(expose, host_ports).map_err(|message| refuse(EXPOSE, message))?;
    let sources =
        Sources::read(annotations, &ports, defaults).map_err(|(name, message)| refuse(&name, message))?;
    let workload = workload::workload(pod, &reference.namespace);
    let ports = ports.into_iter().map(|port| (port, sources.of(port).to_vec())).collect();
    Ok(Some(Ask { intent: reference.clone(), workload, ports, variant: Variant::Rules }))
}

fn is_unknown(name: &str) -> bool {
    let ours = [EXPOSE, SOURCE_RANGES].contains(&name);
    let per_port = name.strip_prefix(SOURCE_RANGES).is_some_and(|rest| rest.starts_with('.'));
    name.starts_with(DOMAIN) && !ours && !per_port
}

/// The host ports that the list names.
fn selected<'a>(list: &str, host_ports: &'a [HostPort]) -> Result<Vec<&'a HostPort>, String> {
    if list.trim().is_empty() {
        return Err("the list is empty; name ports, as in \"http, 3478/udp, 30000-30100/udp\"".to_owned());
    }
    let entries: Vec<&str> = list.split(',').map(str::trim).collect();
    if entries.len() > MOST {
        return Err(format!(
            "{} entries; at most {MOST} are taken, a range says the same in one",
            entries.len()
        ));
    }
    let mut selected: Vec<&HostPort> = Vec::new();
    for entry in entries {
        for port in matching(entry, host_ports)? {
            if !selected.contains(&port) {
                selected.push(port);
            }
        }
    }
    Ok(selected)
}

/// The host ports that one entry names; at least one.
fn matching<'a>(entry: &str, host_ports: &'a [HostPort]) -> Result<Vec<&'a HostPort>, String> {
    let (port, protocol) = match entry.split_once('/') {
        None => (entry, None),
        Some((port, protocol)) => {
            (port, Some(protocol.parse::<Protocol>().map_err(|error| format!("{entry:?}: {error}"))?))
        }
    };
    if port.is_empty() {
        return Err(format!("{entry:?} names no port; leave out the comma too many"));
    }
    let numeric = port.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let found: Vec<&HostPort> = if numeric {
        let range: PortRange = port.parse().map_err(|error| format!("{entry:?}: {error}"))?;
        let protocol = protocol.unwrap_or(Protocol::Tcp);
        host_ports.iter().filter(|known| known.protocol == protocol && range.contains(known.port)).collect()
    } else {
        let wanted = |known: &&HostPort| protocol.is_none_or(|protocol| known.protocol == protocol);
        host_ports.iter().filter(|known| known.name.as_deref() == Some(port)).filter(wanted).collect()
    };
    if found.is_empty() {
        return Err(format!("{entry:?} is no host port of the pod; it has {}", listed(host_ports)));
    }
    Ok(found)
}

/// The pod's host ports as an annotation would name them.
fn listed(host_ports: &[HostPort]) -> String {
    let text = |port: &HostPort| match &port.name {
        Some(name) => format!("{name} ({}/{})", port.port, port.protocol),
        None => format!("{}/{}", port.port, port.protocol),
    };
    // A pod can bind hundreds; an Event holds about a thousand bytes.
    let mut listed: Vec<String> = host_ports.iter().take(10).map(text).collect();
    if host_ports.len() > listed.len() {
        listed.push("…".to_owned());
    }
    listed.join(", ")
}

/// The sources of each port.
struct Sources<'a> {
    general: Vec<IpNet>,
    /// By what stands behind the annotation's name: a port's name or number
    per_port: BTreeMap<&'a str, Vec<IpNet>>,
}

impl<'a> Sources<'a> {
    fn read(
        annotations: &'a BTreeMap<String, String>,
        ports: &[&HostPort],
        defaults: &[IpNet],
    ) -> Result<Self, (String, String)> {
        let mut sources = Self { general: defaults.to_vec(), per_port: BTreeMap::new() };
        for (name, text) in annotations {
            let Some(port) = name.strip_prefix(SOURCE_RANGES) else { continue };
            let ranges = || source_ranges::strict(text).map_err(|error| (name.clone(), error));
            if port.is_empty() {
                sources.general = ranges()?;
            } else if let Some(port) = port.strip_prefix('.') {
                if !ports.iter().any(|known| is_called(known, port)) {
                    return Err((
                        name.clone(),
                        format!("{port:?} is not among the ports that {EXPOSE} lists"),
                    ));
                }
                sources.per_port.insert(port, ranges()?);
            }
        }
        Ok(sources)
    }

    fn of(&self, port: &HostPort) -> &[IpNet] {
        self.per_port
            .iter()
            .find(|(name, _)| is_called(port, name))
            .map_or(&self.general, |(_, ranges)| ranges)
    }
}

fn is_called(port: &HostPort, text: &str) -> bool {
    port.name.as_deref() == Some(text) || text.parse() == Ok(port.port)
}
