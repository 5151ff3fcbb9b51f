//! The Voyager intent: an Ingress of type `HostPort` or `NodePort`, and the `HAProxy` pods and the Service
//! that Voyager's operator manages for it.
//!
//! Voyager's pods use the host's network, so that every declared port becomes a host port, the stats page and
//! the metrics exporter too. Only the ports that the Ingress requests may be opened.

pub(super) mod labels;
mod sources;

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{PortRange, Protocol, Workload};
use kube::core::ObjectMeta;

use super::annotation::reject_unknown_annotations;
use super::annotation_keys::{HOSTNAME, SOURCE_RANGES, annotations};
use super::host_port::{HostPort, HostPorts};
use super::hostname::parse_hostname_annotation;
use super::problems::Reports;
use super::request::{GroupVariant, PortRequest, Rejected, reject};
use super::service_ports::NodePorts;
use crate::k8s::index::Index;
use crate::k8s::objects::{Ingress, IntOrText, ObjectRef, Pod, Service};
use crate::k8s::reasons;
use labels::{find_label, has_voyager_labels, is_haproxy};
use sources::{parse_sources, reject_sources_on_managed_object};

const TYPE: &str = "ingress.appscode.com/type";
const STATS: &str = "ingress.appscode.com/stats";
const STATS_PORT: &str = "ingress.appscode.com/stats-port";

/// The port of Voyager's stats page unless the Ingress names another.
const DEFAULT_STATS_PORT: u16 = 56789;

/// The name of the stats page's port; frontends are called `tcp-<port>`.
const STATS_PORT_NAME: &str = "stats";

/// The values that Go's `strconv.ParseBool`, which Voyager uses, takes for false.
const FALSE: [&str; 6] = ["0", "f", "F", "false", "FALSE", "False"];

/// The ports that every Ingress with rules can listen on.
const HTTP_PORTS: [u16; 2] = [80, 443];

const KUBERNETES: &str = "networking.k8s.io";
/// The API group of Kubernetes' own Ingress until version 1.22.
const KUBERNETES_BEFORE: &str = "extensions";

/// Rejects ports of the pod that no intent opens: all but the frontends of `HAProxy`, such as the stats page
/// and the exporter.
pub(super) fn reject_internal_ports(pod: &Pod, request: &PortRequest) -> Result<(), Rejected> {
    reject_ports(request, |port| is_haproxy(pod) && !is_frontend(port))
}

/// Rejects the port of the Service that no intent opens: the stats page.
pub(super) fn reject_stats_port(service: &Service, request: &PortRequest) -> Result<(), Rejected> {
    reject_ports(request, |port| {
        has_voyager_labels(&service.metadata) && port.name.as_deref() == Some(STATS_PORT_NAME)
    })
}

fn reject_ports(request: &PortRequest, is_internal: impl Fn(&HostPort) -> bool) -> Result<(), Rejected> {
    let Some((port, _)) = request.ports.iter().find(|(port, _)| is_internal(port)) else { return Ok(()) };
    let message = format!(
        "{}/{} is no frontend of Voyager's HAProxy, but its stats page, its exporter or the like, which are \
         never opened; nothing of this is opened",
        port.ports, port.protocol
    );
    Err(reject(&request.intent, reasons::VOYAGER_INTERNAL_PORT, message))
}

/// Builds the request of the Ingress behind the pod; none if there is no Ingress, or it is of another type.
pub(super) fn build_request(
    index: &Index,
    pod: &Pod,
    pod_reference: &ObjectRef,
    host_ports: &HostPorts,
    problems: &mut Reports,
) -> Result<Option<PortRequest>, Rejected> {
    let Some(owner) = find_owning_ingress(index, &pod.metadata, pod_reference, is_host_port)? else {
        return Ok(None);
    };
    let frontends = host_ports.declared.iter().filter(|port| is_frontend(port));
    let frontends = frontends.map(|port| (port.ports, port));
    owner.build_request(&pod.metadata, pod_reference, frontends, problems)
}

/// Builds the request of the Ingress behind a Service with node ports, as for a pod.
pub(super) fn build_node_port_request(
    index: &Index,
    service: &Service,
    reference: &ObjectRef,
    node_ports: &NodePorts,
    problems: &mut Reports,
) -> Result<Option<PortRequest>, Rejected> {
    let Some(owner) = find_owning_ingress(index, &service.metadata, reference, is_node_port)? else {
        return Ok(None);
    };
    let frontends = node_ports
        .iter()
        .filter(|(port, _)| port.protocol == Protocol::Tcp && port.name.as_deref() != Some(STATS_PORT_NAME))
        .map(|(port, node_port)| (port.ports, node_port));
    owner.build_request(&service.metadata, reference, frontends, problems)
}

/// The Ingress for which Voyager's operator manages an object, and its API group.
struct OwningIngress<'a> {
    group: &'a str,
    ingress: &'a Ingress,
}

impl OwningIngress<'_> {
    /// Builds the request of the Ingress for some of these frontends: the ports that `HAProxy` listens on,
    /// each with the port to open for it.
    fn build_request<'a>(
        &self,
        managed: &ObjectMeta,
        managed_reference: &ObjectRef,
        frontends: impl Iterator<Item = (PortRange, &'a HostPort)>,
        problems: &mut Reports,
    ) -> Result<Option<PortRequest>, Rejected> {
        let Self { group, ingress } = *self;
        let reference = ingress_reference(ingress, group);
        reject_unknown_annotations(&ingress.metadata, &[SOURCE_RANGES, HOSTNAME], &reference)?;
        let (rule_ports, errors) = parse_rule_ports(ingress);
        problems
            .extend(errors.into_iter().map(|message| *reject(&reference, reasons::INVALID_PORT, message)));
        let stats_port = parse_stats_port(ingress)
            .map_err(|error| reject(&reference, reasons::INVALID_STATS_PORT, error))?;
        let is_requested = |listens: u16| rule_ports.contains(&listens) && stats_port != Some(listens);
        let requested = frontends.filter(|(listens, _)| is_requested(listens.first()));
        let ports: Vec<&HostPort> = requested.map(|(_, port)| port).collect();
        if ports.is_empty() {
            return Ok(None);
        }
        let sources = parse_sources(ingress).map_err(|error| {
            let message = format!("{error}; nothing of this Ingress is opened");
            reject(&reference, reasons::INVALID_SOURCE_RANGES, message)
        })?;
        reject_sources_on_managed_object(managed, managed_reference, ingress)?;
        let hostname = parse_hostname_annotation(&ingress.metadata)
            .map_err(|error| reject(&reference, reasons::INVALID_ANNOTATION, error))?;
        let (namespace, name) = (reference.namespace.clone(), reference.name.clone());
        let workload = Workload { kind: format!("Ingress.{group}"), namespace, name };
        let ports = ports.into_iter().map(|port| (port.clone(), sources.clone())).collect();
        Ok(Some(PortRequest {
            intent: reference,
            workload,
            ports,
            variant: GroupVariant::PerNode(String::new()),
            hostname,
        }))
    }
}

/// Finds the Ingress, of a type, that the labels of a pod or Service name. Older labels do not name its
/// group; then the only Ingress with the name is meant.
fn find_owning_ingress<'a>(
    index: &'a Index,
    managed: &ObjectMeta,
    managed_reference: &ObjectRef,
    has_type: impl Fn(&Ingress) -> bool,
) -> Result<Option<OwningIngress<'a>>, Rejected> {
    let Some(name) = find_label(managed, "origin-name") else { return Ok(None) };
    let mut by_group: BTreeMap<&str, &Ingress> =
        index.ingresses(&managed_reference.namespace, name).collect();
    // The API server serves an object of group `extensions` under the newer name as well: the same object
    // twice.
    if let Some(former) = by_group.remove(KUBERNETES_BEFORE) {
        by_group.entry(KUBERNETES).or_insert(former);
    }
    by_group.retain(|_, ingress| has_type(ingress));
    if let Some(group) = find_label(managed, "origin-api-group") {
        let group = if group == KUBERNETES_BEFORE { KUBERNETES } else { group };
        return Ok(by_group.get_key_value(group).map(|(group, ingress)| OwningIngress { group, ingress }));
    }
    if by_group.len() > 1 {
        let groups: Vec<&str> = by_group.into_keys().collect();
        let message = format!(
            "its labels name Ingress {name} but not its API group, and there is one in {}; nothing of this \
             {} is opened until it has the label origin-api-group",
            groups.join(" and in "),
            managed_reference.kind,
        );
        return Err(reject(managed_reference, reasons::AMBIGUOUS_INGRESS, message));
    }
    Ok(by_group.pop_first().map(|(group, ingress)| OwningIngress { group, ingress }))
}

/// `Daemon` is the name of `HostPort` until 2017.
fn is_host_port(ingress: &Ingress) -> bool {
    matches!(annotations(&ingress.metadata).get(TYPE).map(String::as_str), Some("HostPort" | "Daemon"))
}

fn is_node_port(ingress: &Ingress) -> bool {
    annotations(&ingress.metadata).get(TYPE).is_some_and(|kind| kind == "NodePort")
}

/// Returns the reference by which messages and Events name the Ingress.
pub(super) fn ingress_reference(ingress: &Ingress, group: &str) -> ObjectRef {
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

/// Returns true if the port can be one of `HAProxy`'s listeners for the Ingress. The name excludes the stats
/// page also while a rollout is under way and the Ingress already has another number for it.
pub(super) fn is_frontend(port: &HostPort) -> bool {
    port.container == "haproxy"
        && port.protocol == Protocol::Tcp
        && port.name.as_deref() != Some(STATS_PORT_NAME)
}

/// Parses the ports that the Ingress requests. Its rules with an invalid port are left out, with a message
/// each.
fn parse_rule_ports(ingress: &Ingress) -> (BTreeSet<u16>, BTreeSet<String>) {
    let (mut ports, mut errors) = (BTreeSet::from(HTTP_PORTS), BTreeSet::new());
    let frontends = ingress.spec.rules.iter().flat_map(|rule| [&rule.http, &rule.tcp]).flatten();
    for port in frontends.filter_map(|frontend| frontend.port.as_ref()) {
        let number = match port {
            IntOrText::Int(number) => u16::try_from(*number).ok(),
            IntOrText::Text(text) => text.parse().ok(),
            IntOrText::Other(_) => None,
        };
        match number.filter(|number| *number != 0) {
            Some(number) => _ = ports.insert(number),
            None => {
                errors.insert("a rule's port is not a number from 1 to 65535; it is ignored".to_owned());
            }
        }
    }
    (ports, errors)
}

/// Parses the port of the stats page; none if there is no stats page. It is never opened, even if a rule
/// requests the same number.
fn parse_stats_port(ingress: &Ingress) -> Result<Option<u16>, String> {
    let annotations = annotations(&ingress.metadata);
    if annotations.get(STATS).is_none_or(|stats| FALSE.contains(&stats.as_str())) {
        return Ok(None);
    }
    let Some(text) = annotations.get(STATS_PORT) else { return Ok(Some(DEFAULT_STATS_PORT)) };
    text.parse().map(Some).map_err(|_| {
        format!("{STATS_PORT}: not a port, so the stats page is not known; nothing of this Ingress is opened")
    })
}
