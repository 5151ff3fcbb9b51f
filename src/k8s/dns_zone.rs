//! The zone: which `DNSEndpoint`s are this cluster's, and what they hold.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use firewall_core::digest;

use super::objects::{DNSEndpointSpec, DOMAIN, DnsRecord};

/// The label that tells our `DNSEndpoint`s from those of others.
pub const MANAGED_BY: (&str, &str) = ("app.kubernetes.io/managed-by", "hostport-firewall");

/// What is published, and for whom.
#[derive(Clone, Debug)]
pub struct Zone {
    /// Stands for the cluster name: two controllers in one cluster keep to their own
    cluster: String,
    /// How long resolvers may keep a record
    ttl: Duration,
}

impl Zone {
    /// The zone of the cluster with this name in the cloud.
    #[must_use]
    pub fn new(cluster_name: &str, ttl: Duration) -> Self {
        Self { cluster: digest([cluster_name]), ttl }
    }

    /// The label that tells the `DNSEndpoint`s of this cluster name from those of others.
    #[must_use]
    pub fn label(&self) -> (String, String) {
        (format!("{DOMAIN}cluster"), self.cluster.clone())
    }

    /// What the API server finds our `DNSEndpoint`s by.
    #[must_use]
    pub fn selector(&self) -> String {
        let (name, value) = self.label();
        format!("{}={},{name}={value}", MANAGED_BY.0, MANAGED_BY.1)
    }

    /// The name of the `DNSEndpoint` for a hostname.
    #[must_use]
    pub fn name(&self, hostname: &str) -> String {
        format!("hpf-{}", digest([self.cluster.as_str(), hostname]))
    }

    /// What the `DNSEndpoint` for a hostname says.
    #[must_use]
    pub fn spec(&self, hostname: &str, targets: &BTreeSet<IpAddr>) -> DNSEndpointSpec {
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
