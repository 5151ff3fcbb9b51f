//! Decodes Protocol Buffers, in which the API server sends the kinds that it defines itself.
//!
//! An object is `k8s\0` and a `runtime.Unknown`, which holds its kind and the message itself. Strings stay
//! in the received bytes until it is known that the object matters: most pods of a cluster do not.

mod messages;
mod metadata;
mod objects;

use bytes::Bytes;
use prost::{DecodeError, Message};

use super::event::{Content, Event, Garbled, Page, Received, Refusal};
use super::kind::Kind;
use crate::k8s::index::Watch;
use metadata::{ListMeta, Named, Status, text};
use objects::IntoObject;

/// The bytes that every encoded object begins with.
const MAGIC: &[u8] = b"k8s\0";

/// `k8s.io.apimachinery.pkg.runtime.Unknown`
#[derive(Message)]
struct Unknown {
    #[prost(bytes = "bytes", tag = "2")]
    raw: Bytes,
}

/// `k8s.io.apimachinery.pkg.apis.meta.v1.WatchEvent`
#[derive(Message)]
struct WatchEvent {
    #[prost(string, tag = "1")]
    kind: String,
    #[prost(message, optional, tag = "2")]
    object: Option<RawExtension>,
}

/// `k8s.io.apimachinery.pkg.runtime.RawExtension`
#[derive(Message)]
struct RawExtension {
    #[prost(bytes = "bytes", tag = "1")]
    raw: Bytes,
}

/// The fields that all lists have.
#[derive(Message)]
struct List {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ListMeta>,
    #[prost(bytes = "bytes", repeated, tag = "2")]
    items: Vec<Bytes>,
}

/// Decodes one event of a watch.
pub(super) fn decode_event(kind: &Kind, frame: Bytes) -> Result<Event, Garbled> {
    let event = WatchEvent::decode(frame).map_err(|error| garbled(&error))?;
    let object = open_envelope(&event.object.unwrap_or_default().raw)?;
    if event.kind == "ERROR" {
        return Status::decode(object)
            .map(|status| Event::Refused(status.refusal()))
            .map_err(|error| garbled(&error));
    }
    let named = Named::decode(object.clone()).map_err(|error| garbled(&error))?;
    let resource_version = named.resource_version();
    Ok(match event.kind.as_str() {
        "ADDED" | "MODIFIED" => {
            Event::Exists { received: decode_object(kind, object, &named), resource_version }
        }
        "DELETED" => Event::Deleted { name: named.name(), resource_version },
        "BOOKMARK" => Event::Bookmark { resource_version, ends_list: ends_list(object) },
        other => return Err(Garbled(format!("an event has the type {other:?}"))),
    })
}

/// Returns true of the bookmark that ends the objects of a streaming list. Every kind has its metadata in the
/// same place.
fn ends_list(bookmark: Bytes) -> bool {
    let metadata = messages::Namespace::decode(bookmark).ok().and_then(|bookmark| bookmark.metadata);
    metadata.is_some_and(|metadata| metadata.ends_list())
}

/// Decodes one page of a list.
pub(super) fn decode_page(kind: &Kind, body: &Bytes) -> Result<Page, Garbled> {
    let List { metadata, items } = List::decode(open_envelope(body)?).map_err(|error| garbled(&error))?;
    let metadata = metadata.unwrap_or_default();
    let decode = |item: Bytes| {
        let named = Named::decode(item.clone()).unwrap_or_default();
        decode_object(kind, item, &named)
    };
    Ok(Page {
        items: items.into_iter().map(decode).collect(),
        resource_version: text(&metadata.resource_version),
        next: metadata.next(),
    })
}

/// Decodes an error.
pub(super) fn decode_refusal(body: &Bytes) -> Option<Refusal> {
    Some(Status::decode(open_envelope(body).ok()?).ok()?.refusal())
}

fn decode_object(kind: &Kind, object: Bytes, named: &Named) -> Received {
    let decoded = match &kind.watch {
        Watch::Pods => decode_typed::<messages::Pod>(kind, object),
        Watch::Nodes => decode_typed::<messages::Node>(kind, object),
        Watch::Namespaces => decode_typed::<messages::Namespace>(kind, object),
        Watch::Services => decode_typed::<messages::Service>(kind, object),
        Watch::EndpointSlices => decode_typed::<messages::EndpointSlice>(kind, object),
        Watch::Ingresses(_) => decode_typed::<messages::Ingress>(kind, object),
        Watch::HostPortExposures | Watch::DNSEndpoints => {
            Err("the API server sends custom resources in JSON only".to_owned())
        }
    };
    match decoded {
        Ok(Some(received)) => received,
        Ok(None) => Received { name: named.name(), content: Content::Irrelevant },
        Err(error) => Received::unreadable(kind, named.name(), named.uid(), error),
    }
}

/// Decodes an object; none if it cannot matter.
fn decode_typed<M: Message + IntoObject + Default>(
    kind: &Kind,
    object: Bytes,
) -> Result<Option<Received>, String> {
    let message = M::decode(object).map_err(|error| error.to_string())?;
    Ok(message.may_matter().then(|| Received::new(message.into_object(kind))))
}

fn open_envelope(bytes: &Bytes) -> Result<Bytes, Garbled> {
    if !bytes.starts_with(MAGIC) {
        return Err(Garbled("it is no object in Protocol Buffers".to_owned()));
    }
    Ok(Unknown::decode(bytes.slice(MAGIC.len()..)).map_err(|error| garbled(&error))?.raw)
}

fn garbled(error: &DecodeError) -> Garbled {
    Garbled(format!("it is no message of the Kubernetes API: {error}"))
}

#[cfg(test)]
mod tests;
