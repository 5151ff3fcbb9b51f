//! external-dns' own kind: hostnames, and the addresses to publish for them.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::metadata::{null_is_default, slim_metadata};

/// Records that external-dns publishes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
pub struct DNSEndpoint {
    /// Slim metadata
    #[serde(deserialize_with = "slim_metadata")]
    pub metadata: ObjectMeta,
    /// The records
    #[serde(default, deserialize_with = "null_is_default")]
    pub spec: DNSEndpointSpec,
}

/// The records of one `DNSEndpoint`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(default)]
pub struct DNSEndpointSpec {
    /// The records
    #[serde(deserialize_with = "null_is_default")]
    pub endpoints: Vec<DnsRecord>,
}

/// The addresses of one family of a hostname.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DnsRecord {
    /// The hostname
    pub dns_name: String,
    /// `A` or `AAAA`
    pub record_type: String,
    /// The time for which resolvers may cache it, in seconds
    #[serde(rename = "recordTTL")]
    pub record_ttl: u32,
    /// The addresses
    #[serde(deserialize_with = "null_is_default")]
    pub targets: Vec<String>,
}
