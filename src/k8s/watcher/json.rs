//! Decodes JSON: custom resources, and everything from a server without Protocol Buffers.
//!
//! Objects are read without a tree of their fields. Only what cannot be read is read again: for its name.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::event::{Event, Garbled, Page, Received, Refusal};
use super::kind::Kind;
use crate::k8s::host_port_exposure::HostPortExposure;
use crate::k8s::index::{NamespacedName, Object, Watch};
use crate::k8s::objects::Ingress;

/// An event's frame.
#[derive(Deserialize)]
struct Frame<T> {
    #[serde(rename = "type")]
    kind: String,
    object: T,
}

/// An object of which only the metadata is read.
#[derive(Default, Deserialize)]
struct Named {
    #[serde(default)]
    metadata: NamedMetadata,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct NamedMetadata {
    name: Option<String>,
    namespace: Option<String>,
    uid: Option<String>,
    resource_version: Option<String>,
    annotations: Option<BTreeMap<String, String>>,
}

impl Named {
    fn name(&self) -> NamespacedName {
        let NamedMetadata { name, namespace, .. } = &self.metadata;
        (namespace.clone().unwrap_or_default(), name.clone().unwrap_or_default())
    }
}

/// A page of a list.
#[derive(Deserialize)]
#[serde(bound = "T: DeserializeOwned")]
struct List<T> {
    metadata: ListMetadata,
    #[serde(default = "Option::default")]
    items: Option<Vec<T>>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ListMetadata {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl ListMetadata {
    fn next(self) -> Option<String> {
        self.next.filter(|token| !token.is_empty())
    }
}

/// The API server's error, `kind: Status`.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Status {
    metadata: ListMetadata,
    code: u16,
    message: String,
}

impl Status {
    fn refusal(self) -> Refusal {
        Refusal { code: self.code, message: self.message, next: self.metadata.next() }
    }
}

/// Calls a function with the type of the kind's objects.
macro_rules! with_type {
    ($decode:ident, $kind:expr, $bytes:expr) => {
        match &$kind.watch {
            Watch::Pods => $decode($kind, $bytes, Object::Pod),
            Watch::Nodes => $decode($kind, $bytes, Object::Node),
            Watch::Namespaces => $decode($kind, $bytes, Object::Namespace),
            Watch::Services => $decode($kind, $bytes, Object::Service),
            Watch::EndpointSlices => $decode($kind, $bytes, Object::EndpointSlice),
            Watch::DNSEndpoints => $decode($kind, $bytes, Object::DNSEndpoint),
            Watch::HostPortExposures => {
                $decode($kind, $bytes, |object: HostPortExposure| Object::HostPortExposure(Box::new(object)))
            }
            Watch::Ingresses(_) => $decode($kind, $bytes, |ingress: Ingress| {
                let api_version = Some($kind.api_version.clone());
                Object::Ingress(Ingress { api_version, ..ingress })
            }),
        }
    };
}

/// Decodes one event of a watch.
pub(super) fn decode_event(kind: &Kind, frame: &[u8]) -> Result<Event, Garbled> {
    let Frame { kind: event, object: named } =
        serde_json::from_slice::<Frame<Named>>(frame).map_err(|error| garbled(&error))?;
    let name = named.name();
    let NamedMetadata { uid, resource_version, annotations, .. } = named.metadata;
    let resource_version = resource_version.unwrap_or_default();
    Ok(match event.as_str() {
        "ADDED" | "MODIFIED" => {
            let received = with_type!(decode_object, kind, frame).unwrap_or_else(|error| {
                Received::unreadable(kind, name, uid.unwrap_or_default(), error.to_string())
            });
            Event::Exists { received, resource_version }
        }
        "DELETED" => Event::Deleted { name, resource_version },
        "BOOKMARK" => {
            let ends_list = annotations.is_some_and(|all| all.contains_key("k8s.io/initial-events-end"));
            Event::Bookmark { resource_version, ends_list }
        }
        "ERROR" => {
            let frame: Frame<Status> = serde_json::from_slice(frame).map_err(|error| garbled(&error))?;
            Event::Refused(frame.object.refusal())
        }
        other => return Err(Garbled(format!("an event has the type {other:?}"))),
    })
}

/// Decodes one page of a list.
pub(super) fn decode_page(kind: &Kind, body: &[u8]) -> Result<Page, Garbled> {
    with_type!(decode_typed_page, kind, body)
}

/// Decodes an error.
pub(super) fn decode_refusal(body: &[u8]) -> Option<Refusal> {
    Some(serde_json::from_slice::<Status>(body).ok()?.refusal())
}

fn decode_object<K: DeserializeOwned>(
    _: &Kind,
    frame: &[u8],
    wrap: impl Fn(K) -> Object,
) -> Result<Received, serde_json::Error> {
    let frame: Frame<K> = serde_json::from_slice(frame)?;
    Ok(Received::new(wrap(frame.object)))
}

fn decode_typed_page<K: DeserializeOwned>(
    kind: &Kind,
    body: &[u8],
    wrap: impl Fn(K) -> Object,
) -> Result<Page, Garbled> {
    let (metadata, items) = if let Ok(List { metadata, items }) = serde_json::from_slice(body) {
        let items = items.into_iter().flatten();
        (metadata, items.map(|object: K| Received::new(wrap(object))).collect())
    } else {
        // One of them cannot be read, and has to be told from the others.
        let List { metadata, items } = serde_json::from_slice(body).map_err(|error| garbled(&error))?;
        let items = items.into_iter().flatten();
        (metadata, items.map(|item: Value| decode_item(kind, &item, &wrap)).collect())
    };
    Ok(Page { items, resource_version: metadata.resource_version.clone(), next: metadata.next() })
}

fn decode_item<K: DeserializeOwned>(kind: &Kind, item: &Value, wrap: &impl Fn(K) -> Object) -> Received {
    match K::deserialize(item) {
        Ok(object) => Received::new(wrap(object)),
        Err(error) => {
            let named = Named::deserialize(item).unwrap_or_default();
            let uid = named.metadata.uid.clone().unwrap_or_default();
            Received::unreadable(kind, named.name(), uid, error.to_string())
        }
    }
}

fn garbled(error: &serde_json::Error) -> Garbled {
    Garbled(format!("it is no JSON of the Kubernetes API: {error}"))
}
