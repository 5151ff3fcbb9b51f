//! The annotation intent: a pod that says itself which of its host ports may be reached, and from where.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use firewall_core::{PortRange, Protocol};
use ipnet::IpNet;
use kube::api::ObjectMeta;

use super::annotation_keys::{EXPOSE, HOSTNAME, SOURCE_RANGES, annotations};
use super::host_port::HostPort;
use super::request::{GroupVariant, PortRequest, Rejected, rejected};
use super::rules::Sources;
use super::{hostname, workload};
use crate::k8s::objects::{DOMAIN, ObjectRef, Pod};
use crate::parse::{list, source_ranges};

/// Whether the pod itself says which ports to expose.
pub(super) fn exposes(pod: &Pod) -> bool {
    annotations(&pod.metadata).contains_key(EXPOSE)
}

/// The annotations that name sources, for all ports or for one.
pub(super) fn naming_sources(metadata: &ObjectMeta) -> impl Iterator<Item = (&String, &String)> {
    annotations(metadata).iter().filter(|(name, _)| names_sources(name))
}

fn names_sources(name: &str) -> bool {
    name.strip_prefix(SOURCE_RANGES).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
}

/// Refuses annotations under our domain that mean nothing there: `source-range` for `source-ranges` would else open
/// to anywhere what was meant for few. One notice for all of them: an object can carry thousands.
pub(super) fn all_known(
    metadata: &ObjectMeta,
    known: &[&str],
    reference: &ObjectRef,
) -> Result<(), Rejected> {
    let ours = annotations(metadata).keys().map(String::as_str).filter(|name| name.starts_with(DOMAIN));
    let unknown: Vec<&str> = ours.filter(|name| !known.contains(name) && !names_sources(name)).collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let shown = unknown.iter().take(3).copied().collect::<Vec<_>>().join(", ");
    let more = if unknown.len() > 3 { ", …" } else { "" };
    let known = known.join(" or ");
    let message = format!("{shown}{more}: means nothing here, so nothing of this is opened; {known} would");
    Err(rejected(reference, "UnknownAnnotation", message))
}

/// What the pod requests for. Refused whole if any entry cannot be understood.
pub(super) fn request<'a>(
    pod: &Pod,
    reference: &ObjectRef,
    host_ports: &'a BTreeSet<HostPort>,
) -> Result<Option<PortRequest<'a>>, Rejected> {
    let refuse = |name: &str, message: String| {
        let message = format!("{name}: {message}; nothing of this pod is opened");
        rejected(reference, "InvalidAnnotation", message)
    };
    let Some(expose) = annotations(&pod.metadata).get(EXPOSE) else {
        let mut stray = naming_sources(&pod.metadata).map(|(name, _)| name.as_str());
        let hostname = annotations(&pod.metadata).contains_key(HOSTNAME).then_some(HOSTNAME);
        return match stray.next().or(hostname) {
            Some(name) => Err(refuse(name, format!("no ports are named by {EXPOSE}"))),
            None => Ok(None),
        };
    };
    if host_ports.is_empty() {
        let message = "the pod has no host port that can be reached from outside; set hostPort on a container port, \
                       or hostNetwork";
        return Err(refuse(EXPOSE, message.to_owned()));
    }
    let ports = selected(expose, host_ports).map_err(|message| refuse(EXPOSE, message))?;
    let ports =
        with_sources(&pod.metadata, EXPOSE, ports).map_err(|(name, message)| refuse(name, message))?;
    let hostname = hostname::annotated(&pod.metadata).map_err(|error| {
        rejected(reference, "InvalidAnnotation", format!("{error}; nothing of this pod is opened"))
    })?;
    let workload = workload::workload(pod, &reference.namespace);
    Ok(Some(PortRequest {
        intent: reference.clone(),
        workload,
        ports,
        variant: GroupVariant::PerPod,
        hostname,
    }))
}

/// The host ports that the list names.
pub(super) fn selected<'a>(
    list: &str,
    host_ports: &'a BTreeSet<HostPort>,
) -> Result<BTreeSet<&'a HostPort>, String> {
    let entries = list::by_commas(list)
        .map_err(|error| format!("{error}; name ports, as in \"http, 3478/udp, 30000-30100/udp\""))?;
    let mut selected = BTreeSet::new();
    for entry in entries {
        selected.extend(matching(entry, host_ports)?);
        if selected.len() > list::MOST {
            return Err(format!("{entry:?} brings the list to more than {} ports", list::MOST));
        }
    }
    Ok(selected)
}

/// The host ports that one entry names; at least one.
fn matching<'a>(entry: &str, host_ports: &'a BTreeSet<HostPort>) -> Result<Vec<&'a HostPort>, String> {
    let found = named(entry, host_ports)?;
    if found.is_empty() {
        return Err(format!(
            "{entry:?} is no host port of the pod; name those to open of {}",
            listed(host_ports)
        ));
    }
    Ok(found)
}

/// The host ports that one entry names, as `http`, `443`, `3478/udp` or `30000-30100/udp`.
///
/// # Errors
/// If it is written like none of these.
pub(super) fn named<'a>(
    entry: &str,
    host_ports: &'a BTreeSet<HostPort>,
) -> Result<Vec<&'a HostPort>, String> {
    let told = |error: firewall_core::PortError| format!("{entry:?}: {error}");
    let (port, protocol) = match entry.split_once('/') {
        None => (entry, None),
        Some((port, protocol)) => (port, Some(protocol.parse::<Protocol>().map_err(told)?)),
    };
    if port.is_empty() {
        return Err(format!("the entry {entry:?} names no port; leave it out, and its comma"));
    }
    let numeric = port.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    if numeric {
        let range: PortRange = port.parse().map_err(told)?;
        let protocol = protocol.unwrap_or(Protocol::Tcp);
        let wanted = |known: &&HostPort| known.protocol == protocol && range.contains(known.port);
        return Ok(host_ports.iter().filter(wanted).collect());
    }
    let wanted = |known: &&HostPort| protocol.is_none_or(|protocol| known.protocol == protocol);
    Ok(host_ports.iter().filter(|known| known.name.as_deref() == Some(port)).filter(wanted).collect())
}

/// The pod's host ports as an annotation would name them.
pub(super) fn listed(host_ports: &BTreeSet<HostPort>) -> String {
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

/// The ports with the sources that the annotations name for each. An error comes with the annotation's name.
///
/// `listing` is the annotation that lists the ports.
pub(super) fn with_sources<'a, 'b>(
    metadata: &'b ObjectMeta,
    listing: &str,
    ports: BTreeSet<&'a HostPort>,
) -> Result<Vec<(&'a HostPort, Sources)>, (&'b str, String)> {
    let mut general: Sources = None;
    let mut per_port: BTreeMap<&HostPort, Rc<[IpNet]>> = BTreeMap::new();
    for (position, (name, text)) in naming_sources(metadata).enumerate() {
        let refuse = |message: String| (name.as_str(), message);
        if position > list::MOST {
            return Err(refuse(format!("more than {} ports have source ranges of their own", list::MOST)));
        }
        let ranges: Rc<[IpNet]> = source_ranges::strict(text).map_err(refuse)?.into();
        let Some(called) = name.strip_prefix(SOURCE_RANGES).and_then(|rest| rest.strip_prefix('.')) else {
            general = Some(ranges);
            continue;
        };
        let mut concerned = ports.iter().filter(|port| is_called(port, called)).peekable();
        if concerned.peek().is_none() {
            // A notice alone could leave open to all what a misspelt name was meant to narrow.
            return Err(refuse(format!("{called:?} is not among the ports that {listing} lists")));
        }
        for port in concerned {
            if per_port.insert(port, Rc::clone(&ranges)).is_some() {
                let message = format!("port {} has source ranges by its name and by its number", port.port);
                return Err(refuse(message));
            }
        }
    }
    let sources = |port: &HostPort| per_port.get(port).cloned().or_else(|| general.clone());
    Ok(ports.into_iter().map(|port| (port, sources(port))).collect())
}

fn is_called(port: &HostPort, text: &str) -> bool {
    port.name.as_deref() == Some(text) || port.port.to_string() == text
}
