//! The annotation intent: a pod whose own annotations list the host ports to open, and their sources.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_core::{PortRange, Protocol};
use ipnet::IpNet;
use kube::core::ObjectMeta;

use super::annotation_keys::{EXPOSE, HOSTNAME, SOURCE_RANGES, annotations};
use super::host_port::{HostPort, MAX_HOST_PORTS};
use super::hostname::parse_hostname_annotation;
use super::request::{GroupVariant, PortRequest, Rejected, reject};
use super::rules::Sources;
use super::workload::workload_of_pod;
use crate::k8s::objects::{DOMAIN, ObjectRef, Pod};
use crate::k8s::reasons;
use crate::parse::{list, source_ranges};

/// Returns true if the pod itself lists ports to open.
pub(super) fn has_expose_annotation(pod: &Pod) -> bool {
    annotations(&pod.metadata).contains_key(EXPOSE)
}

/// Returns the annotations that name sources, for all ports or for one.
pub(super) fn find_source_annotations(metadata: &ObjectMeta) -> impl Iterator<Item = (&String, &String)> {
    annotations(metadata).iter().filter(|(key, _)| is_source_key(key))
}

fn is_source_key(key: &str) -> bool {
    key.strip_prefix(SOURCE_RANGES).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Rejects annotations under the project's domain that have no meaning on the object: `source-range` instead
/// of `source-ranges` would else open to anywhere a port that was meant for few. Reports one problem for all
/// of them, because an object can carry thousands.
pub(super) fn reject_unknown_annotations(
    metadata: &ObjectMeta,
    known: &[&str],
    reference: &ObjectRef,
) -> Result<(), Rejected> {
    let ours = annotations(metadata).keys().map(String::as_str).filter(|key| key.starts_with(DOMAIN));
    let unknown: Vec<&str> = ours.filter(|key| !known.contains(key) && !is_source_key(key)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let shown = unknown.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let more = if unknown.len() > 3 { ", …" } else { "" };
    let known = known.join(" or ");
    let kind = &reference.kind;
    let message = format!(
        "{shown}{more}: unknown annotation on a {kind}; use {known}. Nothing of this {kind} is opened"
    );
    Err(reject(reference, reasons::UNKNOWN_ANNOTATION, message))
}

/// Builds the request of a pod's annotations; none if it has none. The request is rejected as a whole if any
/// entry is not understood.
pub(super) fn build_request<'a>(
    pod: &Pod,
    reference: &ObjectRef,
    host_ports: &'a BTreeSet<HostPort>,
) -> Result<Option<PortRequest<'a>>, Rejected> {
    let invalid = |key: &str, message: String| {
        let message = format!("{key}: {message}; nothing of this pod is opened");
        reject(reference, reasons::INVALID_ANNOTATION, message)
    };
    let Some(expose) = annotations(&pod.metadata).get(EXPOSE) else {
        let mut without_ports = find_source_annotations(&pod.metadata).map(|(key, _)| key.as_str());
        let hostname = annotations(&pod.metadata).contains_key(HOSTNAME).then_some(HOSTNAME);
        return match without_ports.next().or(hostname) {
            Some(key) => Err(invalid(key, format!("no ports are named by {EXPOSE}"))),
            None => Ok(None),
        };
    };
    if host_ports.is_empty() {
        let message = "the pod has no host port that can be reached from outside; set hostPort on a \
                       container port, or hostNetwork";
        return Err(invalid(EXPOSE, message.to_owned()));
    }
    let ports = select_ports(expose, host_ports).map_err(|message| invalid(EXPOSE, message))?;
    let ports =
        assign_sources(&pod.metadata, EXPOSE, ports).map_err(|(key, message)| invalid(key, message))?;
    let hostname = parse_hostname_annotation(&pod.metadata).map_err(|error| {
        reject(reference, reasons::INVALID_ANNOTATION, format!("{error}; nothing of this pod is opened"))
    })?;
    Ok(Some(PortRequest {
        intent: reference.clone(),
        workload: workload_of_pod(pod, &reference.namespace),
        ports,
        variant: GroupVariant::PerPod,
        hostname,
    }))
}

/// Returns the host ports that the list names.
///
/// # Errors
/// If the list is empty or too long, or an entry names no host port.
pub(super) fn select_ports<'a>(
    list: &str,
    host_ports: &'a BTreeSet<HostPort>,
) -> Result<BTreeSet<&'a HostPort>, String> {
    let entries = list::split_by_commas(list)
        .map_err(|error| format!("{error}; name ports, as in \"http, 3478/udp, 30000-30100/udp\""))?;
    let mut selected = BTreeSet::new();
    for entry in entries {
        let ports = match_entry(entry, host_ports)?;
        if ports.is_empty() {
            return Err(format!(
                "{entry:?} is no host port of the pod; name those to open of {}",
                format_host_ports(host_ports)
            ));
        }
        selected.extend(ports);
        // A Service has no bound of its own.
        if selected.len() > MAX_HOST_PORTS {
            return Err(format!("{entry:?} brings the list to more than {MAX_HOST_PORTS} ports"));
        }
    }
    Ok(selected)
}

/// Returns the host ports that one entry names, as `http`, `443`, `3478/udp` or `30000-30100/udp`.
///
/// # Errors
/// If it has none of these forms, or a name stands for several numbers.
pub(super) fn match_entry<'a>(
    entry: &str,
    host_ports: &'a BTreeSet<HostPort>,
) -> Result<Vec<&'a HostPort>, String> {
    let with_entry = |error: firewall_core::PortError| format!("{entry:?}: {error}");
    let (port, protocol) = match entry.split_once('/') {
        None => (entry, None),
        Some((port, protocol)) => (port, Some(protocol.parse::<Protocol>().map_err(with_entry)?)),
    };
    if port.is_empty() {
        return Err(format!("the entry {entry:?} names no port; leave it out, and its comma"));
    }
    let is_numeric = port.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if is_numeric {
        let range: PortRange = port.parse().map_err(with_entry)?;
        let protocol = protocol.unwrap_or(Protocol::Tcp);
        let is_named = |known: &&HostPort| known.protocol == protocol && range.contains(known.port);
        return Ok(host_ports.iter().filter(is_named).collect());
    }
    let is_named = |known: &&HostPort| {
        known.name.as_deref() == Some(port) && protocol.is_none_or(|protocol| known.protocol == protocol)
    };
    let named: Vec<&HostPort> = host_ports.iter().filter(is_named).collect();
    refuse_ambiguous(entry, &named)?;
    Ok(named)
}

/// Refuses a name that containers have given to different ports. Kubernetes allows that, with a warning; who writes
/// `http` means the server, and not the sidecar whose metrics have the same name.
///
/// # Errors
/// If the ports have several numbers; the text has them.
fn refuse_ambiguous(entry: &str, named: &[&HostPort]) -> Result<(), String> {
    let numbers: BTreeSet<u16> = named.iter().map(|port| port.port).collect();
    if numbers.len() <= 1 {
        return Ok(());
    }
    let of = |port: &&HostPort| format!("{}/{} of container {}", port.port, port.protocol, port.container);
    let all = named.iter().take(10).map(of).collect::<Vec<_>>().join(" and ");
    Err(format!("{entry:?} stands for {all}; write the number"))
}

/// Formats the pod's host ports as an annotation would name them.
pub(super) fn format_host_ports(host_ports: &BTreeSet<HostPort>) -> String {
    let text = |port: &HostPort| match &port.name {
        Some(name) => format!("{name} ({}/{})", port.port, port.protocol),
        None => format!("{}/{}", port.port, port.protocol),
    };
    // A pod can bind hundreds; an Event holds about a thousand bytes.
    let mut shown: Vec<String> = host_ports.iter().take(10).map(text).collect();
    if host_ports.len() > shown.len() {
        shown.push("…".to_owned());
    }
    shown.join(", ")
}

/// Assigns to each port the sources that the annotations name for it. `list_key` is the annotation that lists
/// the ports.
///
/// # Errors
/// With the key of the annotation that is not understood.
pub(super) fn assign_sources<'a, 'b>(
    metadata: &'b ObjectMeta,
    list_key: &str,
    ports: BTreeSet<&'a HostPort>,
) -> Result<Vec<(&'a HostPort, Sources)>, (&'b str, String)> {
    let mut general: Sources = None;
    let mut per_port: BTreeMap<&HostPort, Arc<[IpNet]>> = BTreeMap::new();
    for (position, (key, text)) in find_source_annotations(metadata).enumerate() {
        let invalid = |message: String| (key.as_str(), message);
        if position > list::MAX_ENTRIES {
            let message = format!("more than {} ports have source ranges of their own", list::MAX_ENTRIES);
            return Err(invalid(message));
        }
        let ranges: Arc<[IpNet]> = source_ranges::parse_strict(text).map_err(invalid)?.into();
        let Some(suffix) = key.strip_prefix(SOURCE_RANGES).and_then(|rest| rest.strip_prefix('.')) else {
            general = Some(ranges);
            continue;
        };
        let number = suffix.parse::<u16>().ok().filter(|number| number.to_string() == suffix);
        let is_meant = |port: &HostPort| port.name.as_deref() == Some(suffix) || Some(port.port) == number;
        let mut named = ports.iter().filter(|port| is_meant(port)).peekable();
        if named.peek().is_none() {
            // An Event alone could leave open to all a port that a misspelt name was meant to narrow.
            return Err(invalid(format!("{suffix:?} is not among the ports that {list_key} lists")));
        }
        for port in named {
            if per_port.insert(port, Arc::clone(&ranges)).is_some() {
                let message = format!("port {} has source ranges by its name and by its number", port.port);
                return Err(invalid(message));
            }
        }
    }
    let sources = |port: &HostPort| per_port.get(port).cloned().or_else(|| general.clone());
    Ok(ports.into_iter().map(|port| (port, sources(port))).collect())
}
