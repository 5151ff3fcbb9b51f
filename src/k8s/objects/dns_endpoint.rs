//! external-dns' own kind: names, and the addresses that they are to have.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::metadata::{null_is_default, slim_metadata};

/// Records that external-dns publishes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct DNSEndpoint {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// What is published
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: DNSEndpointSpec,
}

/// What is published.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct DNSEndpointSpec {
    /// The records
    #[serde(deserialize_with = "null_is_default")]
    pub endpoints: Vec<DnsRecord>,
}

/// The addresses of one family that a name has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DnsRecord {
    /// The name
    pub dns_name: String,
    /// `A` or `AAAA`
    pub record_type: String,
    /// How long resolvers may keep it, in seconds
    #[serde(rename = "recordTTL")]
    pub record_ttl: u32,
    /// The addresses
    #[serde(deserialize_with = "null_is_default")]
    pub targets: Vec<String>,
}
