//! Messages of `k8s.io.apimachinery.pkg.apis.meta.v1`: only the fields that are read, with their numbers.

use std::collections::BTreeMap;

use bytes::Bytes;
use k8s_openapi::apimachinery::pkg::apis::meta::v1 as api;
use k8s_openapi::jiff::Timestamp;
use prost::Message;

use super::super::event::Refusal;
use crate::k8s::index::NamespacedName;
use crate::k8s::objects::{DOMAIN, is_read};

#[derive(Clone, PartialEq, Message)]
pub(super) struct ObjectMeta {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    namespace: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    uid: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    resource_version: Bytes,
    #[prost(message, optional, tag = "9")]
    deletion_timestamp: Option<Time>,
    #[prost(message, repeated, tag = "11")]
    labels: Vec<Entry>,
    #[prost(message, repeated, tag = "12")]
    annotations: Vec<Entry>,
    #[prost(message, repeated, tag = "13")]
    owner_references: Vec<OwnerReference>,
}

/// An entry of a map.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Entry {
    #[prost(bytes = "bytes", tag = "1")]
    key: Bytes,
    #[prost(bytes = "bytes", tag = "2")]
    value: Bytes,
}

#[derive(Clone, PartialEq, Message)]
struct Time {
    #[prost(int64, tag = "1")]
    seconds: i64,
}

#[derive(Clone, PartialEq, Message)]
struct OwnerReference {
    #[prost(bytes = "bytes", tag = "1")]
    kind: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "4")]
    uid: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    api_version: Bytes,
    #[prost(bool, optional, tag = "6")]
    controller: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    block_owner_deletion: Option<bool>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ListMeta {
    #[prost(bytes = "bytes", tag = "2")]
    pub(super) resource_version: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    next: Bytes,
}

impl ListMeta {
    pub(super) fn next(&self) -> Option<String> {
        optional(&self.next)
    }
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Status {
    #[prost(message, optional, tag = "1")]
    metadata: Option<ListMeta>,
    #[prost(bytes = "bytes", tag = "3")]
    message: Bytes,
    #[prost(int32, tag = "6")]
    code: i32,
}

impl Status {
    pub(super) fn refusal(&self) -> Refusal {
        let next = self.metadata.as_ref().and_then(ListMeta::next);
        Refusal { code: self.code.try_into().unwrap_or_default(), message: text(&self.message), next }
    }
}

/// An object of which only the metadata is read.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Named {
    #[prost(message, optional, tag = "1")]
    metadata: Option<NamedMeta>,
}

/// The metadata that is read of every object, whether it matters or not.
#[derive(Clone, PartialEq, Message)]
struct NamedMeta {
    #[prost(bytes = "bytes", tag = "1")]
    name: Bytes,
    #[prost(bytes = "bytes", tag = "3")]
    namespace: Bytes,
    #[prost(bytes = "bytes", tag = "5")]
    uid: Bytes,
    #[prost(bytes = "bytes", tag = "6")]
    resource_version: Bytes,
}

impl Named {
    pub(super) fn name(&self) -> NamespacedName {
        self.metadata.as_ref().map(|meta| (text(&meta.namespace), text(&meta.name))).unwrap_or_default()
    }

    pub(super) fn uid(&self) -> String {
        self.metadata.as_ref().map(|meta| text(&meta.uid)).unwrap_or_default()
    }

    pub(super) fn resource_version(&self) -> String {
        self.metadata.as_ref().map(|meta| text(&meta.resource_version)).unwrap_or_default()
    }
}

impl ObjectMeta {
    /// Returns true of the bookmark that ends the objects of a streaming list.
    pub(super) fn ends_list(&self) -> bool {
        self.annotations.iter().any(|entry| entry.key == "k8s.io/initial-events-end")
    }

    /// Returns true if the object has any of the project's own annotations.
    pub(super) fn carries_ours(&self) -> bool {
        self.annotations.iter().any(|entry| entry.key.starts_with(DOMAIN.as_bytes()))
    }

    pub(super) fn into_api(self) -> api::ObjectMeta {
        api::ObjectMeta {
            name: optional(&self.name),
            namespace: optional(&self.namespace),
            uid: optional(&self.uid),
            resource_version: optional(&self.resource_version),
            deletion_timestamp: self
                .deletion_timestamp
                .and_then(|time| Timestamp::from_second(time.seconds).ok())
                .map(api::Time),
            labels: map(&self.labels, |_| true),
            annotations: map(&self.annotations, is_read),
            owner_references: (!self.owner_references.is_empty())
                .then(|| each(self.owner_references, OwnerReference::into_api)),
            ..api::ObjectMeta::default()
        }
    }
}

impl OwnerReference {
    fn into_api(self) -> api::OwnerReference {
        api::OwnerReference {
            api_version: text(&self.api_version),
            block_owner_deletion: self.block_owner_deletion,
            controller: self.controller,
            kind: text(&self.kind),
            name: text(&self.name),
            uid: text(&self.uid),
        }
    }
}

/// Returns what `read` makes of each message, in no more room than it needs: what is collected from a `Vec` by itself
/// keeps the room of the larger messages for as long as the object is held.
pub(super) fn each<M, T>(messages: Vec<M>, read: impl FnMut(M) -> T) -> Vec<T> {
    messages.into_iter().map(read).collect::<Box<[T]>>().into_vec()
}

fn map(entries: &[Entry], is_kept: impl Fn(&str) -> bool) -> Option<BTreeMap<String, String>> {
    let entries = entries.iter().map(|entry| (text(&entry.key), text(&entry.value)));
    let kept: BTreeMap<String, String> = entries.filter(|(key, _)| is_kept(key)).collect();
    (!kept.is_empty()).then_some(kept)
}

/// Returns a string as JSON would have it: the API server replaces there what is not UTF-8.
pub(super) fn text(bytes: &Bytes) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Returns a string that is absent from JSON when it is empty.
pub(super) fn optional(bytes: &Bytes) -> Option<String> {
    (!bytes.is_empty()).then(|| text(bytes))
}
