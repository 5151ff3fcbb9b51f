//! The zone: the `DNSEndpoint`s of this cluster name, and their contents.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use firewall_core::digest;

use super::objects::{DNSEndpointSpec, DOMAIN, DnsRecord};

/// The label on every `DNSEndpoint` of this project.
pub(crate) const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "hostport-firewall");

/// The hostnames that one controller publishes: those of its cluster name.
#[derive(Clone, Debug)]
pub struct Zone {
    /// A digest of the cluster name: of two controllers in one cluster, each changes only its own
    /// `DNSEndpoint`s
    cluster: String,
    /// The time for which resolvers may cache a record
    ttl: Duration,
}

impl Zone {
    /// Returns the zone of the cluster with this name in the cloud.
    #[must_use]
    pub(crate) fn new(cluster_name: &str, ttl: Duration) -> Self {
        Self { cluster: digest([cluster_name]), ttl }
    }

    /// Returns the label that only the `DNSEndpoint`s of this cluster name have.
    #[must_use]
    pub(crate) fn label(&self) -> (String, String) {
        (format!("{DOMAIN}cluster"), self.cluster.clone())
    }

    /// Returns the label selector of this zone's `DNSEndpoint`s.
    #[must_use]
    pub(crate) fn selector(&self) -> String {
        let (name, value) = self.label();
        format!("{}={},{name}={value}", MANAGED_BY.0, MANAGED_BY.1)
    }

    /// Returns the name of the `DNSEndpoint` for a hostname.
    #[must_use]
    pub(crate) fn name(&self, hostname: &str) -> String {
        format!("hpf-{}", digest([self.cluster.as_str(), hostname]))
    }

    /// Returns the spec of the `DNSEndpoint` for a hostname.
    #[must_use]
    pub(crate) fn spec(&self, hostname: &str, targets: &BTreeSet<IpAddr>) -> DNSEndpointSpec {
        let record = |kind: &str, v4: bool| {
            let targets = targets.iter().filter(|target| target.is_ipv4() == v4);
            let targets: Vec<String> = targets.map(ToString::to_string).collect();
            let (dns_name, record_type) = (hostname.to_owned(), kind.to_owned());
            let record_ttl = u32::try_from(self.ttl.as_secs()).unwrap_or(u32::MAX);
            (!targets.is_empty()).then_some(DnsRecord { dns_name, record_type, record_ttl, targets })
        };
        DNSEndpointSpec {
            endpoints: [record("A", true), record("AAAA", false)].into_iter().flatten().collect(),
        }
    }
}
