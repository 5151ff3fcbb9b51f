//! The Voyager intent: an Ingress of type `HostPort` or `NodePort`, and the `HAProxy` pods and the Service that its
//! operator makes for it.
//!
//! Voyager's pods use the host's network, so that every declared port becomes a host port, the stats page and the
//! metrics exporter too. Only what the Ingress requests for may be opened.

pub(super) mod labels;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{Protocol, Workload};
use kube::api::ObjectMeta;

use super::annotation_keys::{HOSTNAME, SOURCE_RANGES, annotations};
use super::host_port::HostPort;
use super::request::{GroupVariant, PortRequest, Rejected, rejected};
use super::service_ports::NodePorts;
use super::voyager::labels::{has_voyager_labels, is_haproxy, label};
use super::{annotation, hostname};
use crate::k8s::index::Index;
use crate::k8s::objects::{Ingress, IntOrText, ObjectRef, Pod, Service};
use crate::k8s::problem::Problem;
use sources::{reject_sources_on_managed_object, sources};

const TYPE: &str = "ingress.appscode.com/type";
const STATS: &str = "ingress.appscode.com/stats";
const STATS_PORT: &str = "ingress.appscode.com/stats-port";

/// Where Voyager's stats page listens unless the Ingress says otherwise.
const DEFAULT_STATS_PORT: u16 = 56789;

/// What the stats page's port is called; frontends are called `tcp-<port>`.
const STATS_PORT_NAME: &str = "stats";

/// What Go's `strconv.ParseBool`, which Voyager uses, takes for false.
const FALSE: [&str; 6] = ["0", "f", "F", "false", "FALSE", "False"];

/// What every Ingress with rules can listen on.
const HTTP_PORTS: [u16; 2] = [80, 443];

const KUBERNETES: &str = "networking.k8s.io";
/// What the API group of Kubernetes' own Ingress was called until version 1.22.
const KUBERNETES_BEFORE: &str = "extensions";

/// Refuses what no intent opens of the pod: what is no frontend of `HAProxy`, such as the stats page and the exporter.
pub(super) fn reject_internal_ports(pod: &Pod, request: &PortRequest<'_>) -> Result<(), Rejected> {
    reject_ports(request, |port| is_haproxy(pod) && !is_frontend(port))
}

/// Refuses what no intent opens of the Service.
pub(super) fn reject_stats_port(service: &Service, request: &PortRequest<'_>) -> Result<(), Rejected> {
    reject_ports(request, |port| {
        has_voyager_labels(&service.metadata) && port.name.as_deref() == Some(STATS_PORT_NAME)
    })
}

fn reject_ports(request: &PortRequest<'_>, internal: impl Fn(&HostPort) -> bool) -> Result<(), Rejected> {
    let Some((port, _)) = request.ports.iter().find(|(port, _)| internal(port)) else { return Ok(()) };
    let message = format!(
        "{}/{} is no frontend of Voyager's HAProxy, but its stats page, its exporter or the like, which are never opened; \
         nothing of this is opened",
        port.port, port.protocol
    );
    Err(rejected(&request.intent, "VoyagerInternalPort", message))
}

/// What the Ingress behind the pod requests for; nothing if there is none, or it is of another type.
pub(super) fn request<'a>(
    index: &Index,
    pod: &Pod,
    pod_reference: &ObjectRef,
    host_ports: &'a BTreeSet<HostPort>,
    problems: &mut BTreeSet<Problem>,
) -> Result<Option<PortRequest<'a>>, Rejected> {
    let Some(owning) = owning_ingress(index, &pod.metadata, pod_reference, is_host_port)? else {
        return Ok(None);
    };
    let frontends = host_ports.iter().filter(|port| is_frontend(port)).map(|port| (port.port, port));
    owning.request(&pod.metadata, pod_reference, frontends, problems)
}

/// What the Ingress behind a Service with node ports requests for, as for a pod.
pub(super) fn request_node_ports<'a>(
    index: &Index,
    service: &Service,
    reference: &ObjectRef,
    node_ports: &'a NodePorts,
    problems: &mut BTreeSet<Problem>,
) -> Result<Option<PortRequest<'a>>, Rejected> {
    let Some(owning) = owning_ingress(index, &service.metadata, reference, is_node_port)? else {
        return Ok(None);
    };
    let tcp = node_ports
        .iter()
        .filter(|(port, _)| port.protocol == Protocol::Tcp && port.name.as_deref() != Some(STATS_PORT_NAME));
    owning.request(&service.metadata, reference, tcp.map(|(port, on_node)| (port.port, on_node)), problems)
}

/// The Ingress for which Voyager's operator made something, and its API group.
struct OwningIngress<'a> {
    group: &'a str,
    ingress: &'a Ingress,
}

impl OwningIngress<'_> {
    /// What the Ingress requests for of these frontends: listening ports, with those to open for them.
    fn request<'a>(
        &self,
        made: &ObjectMeta,
        managed_reference: &ObjectRef,
        frontends: impl Iterator<Item = (u16, &'a HostPort)>,
        problems: &mut BTreeSet<Problem>,
    ) -> Result<Option<PortRequest<'a>>, Rejected> {
        let Self { group, ingress } = *self;
        let reference = reference(ingress, group);
        annotation::all_known(&ingress.metadata, &[SOURCE_RANGES, HOSTNAME], &reference)?;
        let (asked, not_ports) = asked_ports(ingress);
        problems.extend(not_ports.into_iter().map(|message| *rejected(&reference, "InvalidPort", message)));
        let stats = stats_port(ingress).map_err(|error| rejected(&reference, "InvalidStatsPort", error))?;
        let wanted = frontends.filter(|(listens, _)| asked.contains(listens) && stats != Some(*listens));
        let ports: Vec<&HostPort> = wanted.map(|(_, port)| port).collect();
        if ports.is_empty() {
            return Ok(None);
        }
        let sources = sources(ingress).map_err(|error| {
            let message = format!("{error}; nothing of this Ingress is opened");
            rejected(&reference, "InvalidSourceRanges", message)
        })?;
        reject_sources_on_managed_object(made, managed_reference, ingress)?;
        let hostname = hostname::annotated(&ingress.metadata)
            .map_err(|error| rejected(&reference, "InvalidAnnotation", error))?;
        let (namespace, name) = (reference.namespace.clone(), reference.name.clone());
        let workload = Workload { kind: format!("Ingress.{group}"), namespace, name };
        let ports = ports.into_iter().map(|port| (port, sources.clone())).collect();
        Ok(Some(PortRequest {
            intent: reference,
            workload,
            ports,
            variant: GroupVariant::PerNode(String::new()),
            hostname,
        }))
    }
}

/// The Ingress of the wanted type that the labels of a pod or Service name. Older ones do not name its group; then the
/// one that has the name is meant.
fn owning_ingress<'a>(
    index: &'a Index,
    made: &ObjectMeta,
    managed_reference: &ObjectRef,
    is_wanted: impl Fn(&Ingress) -> bool,
) -> Result<Option<OwningIngress<'a>>, Rejected> {
    let Some(name) = label(made, "origin-name") else { return Ok(None) };
    let mut named: BTreeMap<&str, &Ingress> = index.ingresses(&managed_reference.namespace, name).collect();
    // The API server serves what was made as `extensions` under its newer name as well: the same object twice.
    if let Some(former) = named.remove(KUBERNETES_BEFORE) {
        named.entry(KUBERNETES).or_insert(former);
    }
    named.retain(|_, ingress| is_wanted(ingress));
    if let Some(of_group) = label(made, "origin-api-group") {
        let of_group = if of_group == KUBERNETES_BEFORE { KUBERNETES } else { of_group };
        return Ok(named.get_key_value(of_group).map(|(group, ingress)| OwningIngress { group, ingress }));
    }
    if named.len() > 1 {
        let groups: Vec<&str> = named.into_keys().collect();
        let message = format!(
            "its labels name Ingress {name} but not its API group, and there is one in {}; nothing of this {} is \
             opened until it has the label origin-api-group",
            groups.join(" and in "),
            managed_reference.kind,
        );
        return Err(rejected(managed_reference, "AmbiguousIngress", message));
    }
    Ok(named.pop_first().map(|(group, ingress)| OwningIngress { group, ingress }))
}

/// `Daemon` is what `HostPort` was called until 2017.
fn is_host_port(ingress: &Ingress) -> bool {
    matches!(annotations(&ingress.metadata).get(TYPE).map(String::as_str), Some("HostPort" | "Daemon"))
}

fn is_node_port(ingress: &Ingress) -> bool {
    annotations(&ingress.metadata).get(TYPE).is_some_and(|kind| kind == "NodePort")
}

/// The Ingress, as messages and Events name it.
pub(super) fn reference(ingress: &Ingress, group: &str) -> ObjectRef {
    let metadata = &ingress.metadata;
    let api_version = ingress.api_version.clone().unwrap_or_else(|| format!("{group}/v1"));
    ObjectRef {
        api_version: api_version.into(),
        kind: "Ingress".into(),
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
        uid: metadata.uid.clone().unwrap_or_default(),
    }
}

/// Whether a port can be one of `HAProxy`'s listeners for the Ingress. The name tells the stats page from them
/// also while a rollout is under way and the Ingress already says another number for it.
fn is_frontend(port: &HostPort) -> bool {
    port.container == "haproxy"
        && port.protocol == Protocol::Tcp
        && port.name.as_deref() != Some(STATS_PORT_NAME)
}

/// The ports that the Ingress requests for, and what of it is no port.
fn asked_ports(ingress: &Ingress) -> (BTreeSet<u16>, BTreeSet<String>) {
    let (mut ports, mut not_ports) = (BTreeSet::from(HTTP_PORTS), BTreeSet::new());
    let frontends = ingress.spec.rules.iter().flat_map(|rule| [&rule.http, &rule.tcp]).flatten();
    for asked in frontends.filter_map(|frontend| frontend.port.as_ref()) {
        let number = match asked {
            IntOrText::Int(number) => u16::try_from(*number).ok(),
            IntOrText::Text(text) => text.parse().ok(),
            IntOrText::Other(_) => None,
        };
        match number.filter(|number| *number != 0) {
            Some(number) => _ = ports.insert(number),
            None => {
                not_ports.insert("a rule's port is not a number from 1 to 65535; it is ignored".to_owned());
            }
        }
    }
    (ports, not_ports)
}

/// Where the stats page listens, if there is one. It is never opened, even if a rule requests for the same number.
fn stats_port(ingress: &Ingress) -> Result<Option<u16>, String> {
    let annotations = annotations(&ingress.metadata);
    if annotations.get(STATS).is_none_or(|stats| FALSE.contains(&stats.as_str())) {
        return Ok(None);
    }
    let Some(text) = annotations.get(STATS_PORT) else { return Ok(Some(DEFAULT_STATS_PORT)) };
    text.parse().map(Some).map_err(|_| {
        format!("{STATS_PORT}: not a port, so the stats page cannot be told apart; nothing of this Ingress is opened")
    })
}
