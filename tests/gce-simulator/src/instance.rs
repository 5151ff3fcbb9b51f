//! Instances: the form that a test gives, and the form that the API shows.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::firewall::API;

/// An instance
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Instance {
    /// The project
    pub project: String,
    /// The zone
    pub zone: String,
    /// The name
    pub name: String,
    /// The network interfaces, the first one first
    pub interfaces: Vec<Interface>,
    /// The network tags
    #[serde(default)]
    pub tags: BTreeSet<String>,
    /// `RUNNING`, `TERMINATED`, …
    #[serde(default = "running_status")]
    pub status: String,
    /// E-mail addresses of the service accounts
    #[serde(default)]
    pub service_accounts: BTreeSet<String>,
}

/// A network interface
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// The network, as `projects/PROJECT/global/networks/NAME`
    pub network: String,
    /// Internal IPv4 address
    #[serde(default)]
    pub ipv4: Option<Ipv4Addr>,
    /// External IPv4 address
    #[serde(default)]
    pub external_ipv4: Option<Ipv4Addr>,
    /// Internal IPv6 address
    #[serde(default)]
    pub ipv6: Option<Ipv6Addr>,
    /// External IPv6 address
    #[serde(default)]
    pub external_ipv6: Option<Ipv6Addr>,
}

fn running_status() -> String {
    "RUNNING".to_owned()
}

impl Instance {
    /// Returns a running instance with one interface.
    #[must_use]
    pub fn new(project: &str, zone: &str, name: &str, network: &str, ipv4: Ipv4Addr) -> Self {
        let (external_ipv4, ipv6, external_ipv6) = (None, None, None);
        Self {
            project: project.to_owned(),
            zone: zone.to_owned(),
            name: name.to_owned(),
            interfaces: vec![Interface {
                network: network.to_owned(),
                ipv4: Some(ipv4),
                external_ipv4,
                ipv6,
                external_ipv6,
            }],
            tags: BTreeSet::new(),
            status: running_status(),
            service_accounts: BTreeSet::new(),
        }
    }

    /// Returns the instance's path below the API.
    pub(crate) fn path(&self) -> String {
        format!("projects/{}/zones/{}/instances/{}", self.project, self.zone, self.name)
    }

    /// Returns the instance as the API shows it. The fingerprint changes with every change of the tags.
    pub(crate) fn to_json(&self, id: u64, fingerprint: u64) -> Value {
        let interfaces =
            self.interfaces.iter().enumerate().map(|(number, interface)| interface.to_json(number));
        let accounts = self.service_accounts.iter().map(
            |email| json!({ "email": email, "scopes": ["https://www.googleapis.com/auth/cloud-platform"] }),
        );
        let mut tags = json!({ "fingerprint": encode_fingerprint(fingerprint) });
        if !self.tags.is_empty() {
            tags["items"] = json!(self.tags);
        }
        json!({
            "kind": "compute#instance",
            "id": id.to_string(),
            "name": self.name,
            "zone": format!("{API}/projects/{}/zones/{}", self.project, self.zone),
            "status": self.status,
            "selfLink": format!("{API}/{}", self.path()),
            "tags": tags,
            "networkInterfaces": interfaces.collect::<Vec<_>>(),
            "serviceAccounts": accounts.collect::<Vec<_>>(),
        })
    }
}

/// Encodes a fingerprint as Base64 in the alphabet for URLs.
///
/// Source: "Type and Format Summary" of Google's discovery service, format `byte`.
pub(crate) fn encode_fingerprint(fingerprint: u64) -> String {
    URL_SAFE.encode(fingerprint.to_be_bytes())
}

impl Interface {
    fn to_json(&self, number: usize) -> Value {
        let mut shown = json!({
            "kind": "compute#networkInterface",
            "name": format!("nic{number}"),
            "network": format!("{API}/{}", self.network),
            "stackType": if self.ipv6.or(self.external_ipv6).is_some() { "IPV4_IPV6" } else { "IPV4_ONLY" },
        });
        if let Some(address) = self.ipv4 {
            shown["networkIP"] = json!(address);
        }
        if let Some(address) = self.external_ipv4 {
            let access = json!({ "kind": "compute#accessConfig", "type": "ONE_TO_ONE_NAT", "name": "External NAT", "natIP": address });
            shown["accessConfigs"] = json!([access]);
        }
        if let Some(address) = self.ipv6 {
            shown["ipv6Address"] = json!(address);
            shown["internalIpv6PrefixLength"] = json!(96);
        }
        if let Some(address) = self.external_ipv6 {
            let access = json!({
                "kind": "compute#accessConfig", "type": "DIRECT_IPV6", "name": "external-ipv6",
                "externalIpv6": address, "externalIpv6PrefixLength": 96,
            });
            shown["ipv6AccessConfigs"] = json!([access]);
        }
        shown
    }
}
