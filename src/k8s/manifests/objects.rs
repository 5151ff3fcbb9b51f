//! The objects of manifests: sorts them by watch, and refuses what is no object of Kubernetes.

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::error::{ManifestError, to_message};
use crate::k8s::host_port_exposure::GROUP;
use crate::k8s::index::{Object, Watch};
use crate::k8s::names::{is_dns_subdomain, is_kind};

/// The groups whose Ingresses are read from manifests; always all of them, because a set of files is complete
/// as it is.
const INGRESS_GROUPS: [&str; 3] = ["networking.k8s.io", "voyager.appscode.com", "extensions"];

/// The kinds that controllers make pods from.
const WORKLOADS: [&str; 7] =
    ["CronJob", "DaemonSet", "Deployment", "Job", "ReplicaSet", "ReplicationController", "StatefulSet"];

/// The objects that decide about host ports, and what is known of the others.
pub(super) struct Objects {
    /// Those of each watch, also of one without any
    pub(super) by_watch: BTreeMap<Watch, Vec<Object>>,
    /// The number of workloads of each kind
    workloads: BTreeMap<&'static str, usize>,
    /// True if a pod is bound to a node
    has_bound_pod: bool,
}

impl Default for Objects {
    fn default() -> Self {
        let watches = Watch::ALWAYS.into_iter().chain([Watch::HostPortExposures]);
        let watches = watches.chain(INGRESS_GROUPS.map(|group| Watch::Ingresses(group.to_owned())));
        let by_watch = watches.map(|watch| (watch, Vec::new())).collect();
        Self { by_watch, workloads: BTreeMap::new(), has_bound_pod: false }
    }
}

impl Objects {
    /// Adds an object, or those of a list. `position` says where it is in the file.
    ///
    /// # Errors
    /// If it is no object of Kubernetes, or does not have the fields of its kind.
    pub(super) fn add(&mut self, path: &str, position: &str, document: Value) -> Result<(), ManifestError> {
        let (group, kind) = parse_type(&document).map_err(|message| {
            let (path, position) = (path.to_owned(), position.to_owned());
            ManifestError::NotAnObject { path, position, message }
        })?;
        match kind.as_str() {
            "Pod" if group.is_empty() => {
                let pod: crate::k8s::objects::Pod = parse_object(path, &kind, document)?;
                self.has_bound_pod |= pod.spec.node_name.as_deref().is_some_and(|node| !node.is_empty());
                self.push(&Watch::Pods, Object::Pod(pod));
            }
            "Node" if group.is_empty() => {
                self.push(&Watch::Nodes, Object::Node(parse_object(path, &kind, document)?));
            }
            "Namespace" if group.is_empty() => {
                self.push(&Watch::Namespaces, Object::Namespace(parse_object(path, &kind, document)?));
            }
            "Service" if group.is_empty() => {
                self.push(&Watch::Services, Object::Service(parse_object(path, &kind, document)?));
            }
            "EndpointSlice" if group == "discovery.k8s.io" => {
                let slice = Object::EndpointSlice(parse_object(path, &kind, document)?);
                self.push(&Watch::EndpointSlices, slice);
            }
            "HostPortExposure" if group == GROUP => {
                let exposure = Object::HostPortExposure(parse_object(path, &kind, document)?);
                self.push(&Watch::HostPortExposures, exposure);
            }
            "Ingress" if INGRESS_GROUPS.contains(&group.as_str()) => {
                let ingress = Object::Ingress(parse_object(path, &kind, document)?);
                self.push(&Watch::Ingresses(group), ingress);
            }
            "Status" if group.is_empty() => {
                let message = document.get("message").and_then(Value::as_str).unwrap_or("it has no message");
                let (path, position) = (path.to_owned(), position.to_owned());
                return Err(ManifestError::Status { path, position, message: to_message(&message) });
            }
            _ if is_list(&kind, &document) => self.add_items(path, position, &kind, document)?,
            _ => {
                if let Some(workload) = WORKLOADS.iter().find(|workload| **workload == kind) {
                    *self.workloads.entry(workload).or_default() += 1;
                } else {
                    tracing::debug!(path, kind, group, "ignored: it does not decide about host ports");
                }
            }
        }
        Ok(())
    }

    /// Adds an object to those of its watch.
    fn push(&mut self, watch: &Watch, object: Object) {
        if let Some(objects) = self.by_watch.get_mut(watch) {
            objects.push(object);
        }
    }

    fn add_items(
        &mut self,
        path: &str,
        position: &str,
        kind: &str,
        mut list: Value,
    ) -> Result<(), ManifestError> {
        let items = match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            // An empty list, as Go writes it
            Some(Value::Null) => Vec::new(),
            _ => {
                let message = format!("a {kind} has a list of items, and this one has none");
                let (path, position) = (path.to_owned(), position.to_owned());
                return Err(ManifestError::NotAnObject { path, position, message });
            }
        };
        let item_kind = kind.strip_suffix("List").unwrap_or_default();
        for (number, item) in items.into_iter().enumerate() {
            let position = format!("item {} of {position}", number + 1);
            self.add(path, &position, with_type(item, item_kind, &list["apiVersion"]))?;
        }
        Ok(())
    }

    /// Describes the workloads, if there are such and no pod is bound to a node: nothing can be planned from
    /// them, as somebody may expect who renders a chart.
    pub(super) fn describe_passed_over(&self) -> Option<String> {
        if self.has_bound_pod || self.workloads.is_empty() {
            return None;
        }
        let counts: Vec<String> =
            self.workloads.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let total: usize = self.workloads.values().sum();
        Some(format!(
            "{} {} passed over: pods are needed, with the node that each is bound to, as `kubectl get pods -A \
             -o yaml` prints them",
            counts.join(" and "),
            if total == 1 { "was" } else { "were" },
        ))
    }
}

/// Returns API group and kind.
fn parse_type(document: &Value) -> Result<(String, String), String> {
    let Value::Object(fields) = document else { return Err("it has no fields".to_owned()) };
    let text = |field: &str| match fields.get(field) {
        None => Err(format!("it has no {field}")),
        Some(Value::String(text)) => Ok(text.as_str()),
        Some(_) => Err(format!("its {field} is not a text")),
    };
    let (version, kind) = (text("apiVersion")?, text("kind")?);
    if !is_kind(kind) {
        return Err(format!("its kind cannot be {}", to_message(&format!("{kind:?}"))));
    }
    let (group, version) = version.rsplit_once('/').unwrap_or(("", version));
    if !is_dns_subdomain(version) || !(group.is_empty() || is_dns_subdomain(group)) {
        return Err("its apiVersion is none, such as v1 or apps/v1".to_owned());
    }
    Ok((group.to_owned(), kind.to_owned()))
}

/// Returns true if it is a list of objects, which has no name of its own.
fn is_list(kind: &str, document: &Value) -> bool {
    kind.ends_with("List") && document.pointer("/metadata/name").is_none()
}

/// Adds kind and version to the item of a typed list (`PodList`), which leaves them out; items of a plain
/// `List` have them.
fn with_type(mut item: Value, kind: &str, api_version: &Value) -> Value {
    if let Value::Object(fields) = &mut item
        && !kind.is_empty()
    {
        fields.entry("kind").or_insert_with(|| kind.into());
        fields.entry("apiVersion").or_insert_with(|| api_version.clone());
    }
    item
}

/// Parses one object. The error names it by kind, namespace and name.
fn parse_object<K: DeserializeOwned>(path: &str, kind: &str, document: Value) -> Result<K, ManifestError> {
    let field = |name: &str| document.pointer(&format!("/metadata/{name}")).and_then(Value::as_str);
    let (namespace, name) = (field("namespace").unwrap_or("default"), field("name").unwrap_or("?"));
    let object = to_message(&format!("{kind} {namespace}/{name}"));
    let is_named = is_dns_subdomain(namespace) && is_dns_subdomain(name);
    let parsed = if is_named {
        serde_json::from_value(document).map_err(|error| to_message(&error))
    } else {
        Err("it has no name, or one that Kubernetes does not allow: use lower case, digits, '-' and '.'"
            .to_owned())
    };
    parsed.map_err(|message| ManifestError::Object { path: path.to_owned(), object, message })
}
