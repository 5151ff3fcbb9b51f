//! Ingresses of the groups that Voyager reads.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::metadata::{null_is_default, slim_metadata};

/// An Ingress of any group that Voyager reads.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct Ingress {
    /// `networking.k8s.io/v1`, `voyager.appscode.com/v1`, …; absent from the items of a list
    #[serde(default, rename = "apiVersion")]
    pub api_version: Option<String>,
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// The ports and sources
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: IngressSpec,
}

/// The part of an Ingress that names ports and sources.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct IngressSpec {
    /// Voyager's rules, each with a port of its own
    #[serde(deserialize_with = "null_is_default")]
    pub rules: Vec<IngressSpecRule>,
    /// The sources; rejected by Voyager on `HostPort` since 2018, honoured where they do appear
    #[serde(deserialize_with = "null_is_default")]
    pub load_balancer_source_ranges: Vec<String>,
}

/// A rule of an Ingress.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct IngressSpecRule {
    /// An HTTP frontend
    pub http: Option<IngressFrontend>,
    /// A TCP frontend (Voyager only)
    pub tcp: Option<IngressFrontend>,
}

/// A frontend of an Ingress rule.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct IngressFrontend {
    /// Its listening port; a number, or in older objects a string
    pub port: Option<IntOrText>,
}

/// A number, or a text that may hold one. Anything else must not make the whole Ingress unreadable: its
/// problem could then not name the port.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum IntOrText {
    /// A number
    Int(i64),
    /// A text
    Text(String),
    /// Neither
    Other(IgnoredAny),
}
