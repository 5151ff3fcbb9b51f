//! The annotation intent: a pod whose own annotations list the host ports to open, and their sources.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use firewall_core::PortRange;
use ipnet::IpNet;
use kube::core::ObjectMeta;

use super::annotation_keys::{EXPOSE, HOSTNAME, SOURCE_RANGES, annotations};
use super::host_port::{HostPort, HostPorts, MAX_HOST_PORTS};
use super::hostname::parse_hostname_annotation;
use super::port_entry::PortEntry;
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
pub(super) fn build_request(
    pod: &Pod,
    reference: &ObjectRef,
    host_ports: &HostPorts,
) -> Result<Option<PortRequest>, Rejected> {
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
    if host_ports.declared.is_empty() && !host_ports.can_bind_undeclared {
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
pub(super) fn select_ports(list: &str, host_ports: &HostPorts) -> Result<BTreeSet<HostPort>, String> {
    let entries = list::split_by_commas(list)
        .map_err(|error| format!("{error}; name ports, as in \"http, 3478/udp, 30000-30100/udp\""))?;
    let mut selected = BTreeSet::new();
    for text in entries {
        let entry = PortEntry::parse(text)?;
        let ports = entry.find_in(host_ports)?;
        if ports.is_empty() {
            return Err(entry.explain_absence(host_ports));
        }
        selected.extend(ports);
        // A Service has no bound of its own. What is not declared makes no more pieces than there are entries and
        // declared ports.
        let declared = selected.iter().filter(|port| matches!(port, Cow::Borrowed(_)));
        if declared.count() > MAX_HOST_PORTS {
            return Err(format!("{text:?} brings the list to more than {MAX_HOST_PORTS} ports"));
        }
    }
    Ok(host_ports.merge_undeclared(selected.into_iter().map(Cow::into_owned).collect()))
}

/// Assigns to each port the sources that the annotations name for it. `list_key` is the annotation that lists
/// the ports.
///
/// # Errors
/// With the key of the annotation that is not understood.
pub(super) fn assign_sources<'b>(
    metadata: &'b ObjectMeta,
    list_key: &str,
    ports: BTreeSet<HostPort>,
) -> Result<Vec<(HostPort, Sources)>, (&'b str, String)> {
    let mut general: Sources = None;
    let mut assigned: BTreeMap<HostPort, Sources> = ports.into_iter().map(|port| (port, None)).collect();
    for (position, (key, text)) in find_source_annotations(metadata).enumerate() {
        let invalid = |message: String| (key.as_str(), message);
        if position > list::MAX_ENTRIES {
            let message = format!("more than {} ports have source ranges of their own", list::MAX_ENTRIES);
            return Err(invalid(message));
        }
        let ranges: Arc<[IpNet]> = source_ranges::parse_strict(text).map_err(invalid)?.into();
        match key.strip_prefix(SOURCE_RANGES).and_then(|rest| rest.strip_prefix('.')) {
            None => general = Some(ranges),
            Some(suffix) => assign(suffix, &ranges, list_key, &mut assigned).map_err(invalid)?,
        }
    }
    Ok(assigned.into_iter().map(|(port, own)| (port, own.or_else(|| general.clone()))).collect())
}

/// Assigns sources to the ports that an annotation's key names: one by its name or number, or those of a range.
fn assign(
    suffix: &str,
    sources: &Arc<[IpNet]>,
    list_key: &str,
    assigned: &mut BTreeMap<HostPort, Sources>,
) -> Result<(), String> {
    let range = suffix.parse::<PortRange>().ok().filter(|range| range.to_string() == suffix);
    // A Service may call a port by a number.
    let find_meant = |port: &HostPort| match port.name.as_deref() {
        Some(name) if name == suffix => Some(port.ports),
        _ => range.and_then(|range| port.ports.intersection(range)),
    };
    let named: Vec<(HostPort, PortRange)> =
        assigned.keys().filter_map(|port| Some((port.clone(), find_meant(port)?))).collect();
    if named.is_empty() {
        // An Event alone could leave open to all a port that a misspelt name was meant to narrow.
        return Err(format!("{suffix:?} is not among the ports that {list_key} lists"));
    }
    for (port, meant) in named {
        if assigned.remove(&port).flatten().is_some() {
            return Err(format!(
                "{meant} has source ranges twice: by its name and by its number, or in two ranges"
            ));
        }
        let others = port.ports.difference(meant).map(|ports| (HostPort { ports, ..port.clone() }, None));
        assigned.extend(others.collect::<Vec<_>>());
        assigned.insert(HostPort { ports: meant, ..port }, Some(Arc::clone(sources)));
    }
    Ok(())
}
