//! Claims: the cloud that a node's providerID belongs to. A new cloud is a row of [`CLOUDS`].

use std::collections::BTreeSet;

use firewall_aws::Aws;
use firewall_gce::Gce;

/// The name of a cloud, as `--providers` takes it.
pub type CloudName = &'static str;

/// EC2 security groups.
pub const AWS: CloudName = "aws";

/// VPC firewall rules of Google Compute Engine.
pub const GCE: CloudName = "gce";

/// A cloud that the controller knows.
#[derive(Debug)]
pub struct Cloud {
    /// The name, as `--providers` takes it
    pub name: CloudName,
    /// Form of a node's `spec.providerID` there
    pub provider_id_form: &'static str,
    /// Returns true for a providerID of this cloud, also for one that names no instance
    pub claims: fn(&str) -> bool,
}

/// Every cloud that the controller knows.
pub const CLOUDS: [Cloud; 2] = [
    Cloud {
        name: AWS,
        provider_id_form: "aws:///<zone>/<instance id>",
        claims: |provider_id| Aws::instance_of(provider_id).is_some(),
    },
    Cloud {
        name: GCE,
        provider_id_form: "gce://<project>/<zone>/<name>",
        claims: |provider_id| Gce::instance_of(provider_id).is_some(),
    },
];

/// Returns the message for a node whose providerID no active cloud claims; none if one does.
#[must_use]
pub fn unclaimed(provider_id: &str, active: &BTreeSet<CloudName>) -> Option<String> {
    let claimant = CLOUDS.iter().find(|cloud| (cloud.claims)(provider_id));
    match claimant {
        Some(cloud) if active.contains(cloud.name) => None,
        Some(Cloud { name, .. }) => {
            let all: Vec<CloudName> = (active | &BTreeSet::from([*name])).into_iter().collect();
            Some(format!(
                "providerID {provider_id:?} is a machine of {name}, and this controller runs without that provider; \
                 run it with --providers {}",
                all.join(",")
            ))
        }
        None if provider_id.starts_with("k3s://") => Some(format!(
            "providerID {provider_id:?} names no cloud machine: k3s' own cloud controller has set it, and it cannot be \
             changed; delete the node, and let its kubelet register it with --provider-id, or run the cloud's controller \
             manager with --disable-cloud-controller for k3s' own (docs/guides/k3s.md)"
        )),
        None => Some(format!(
            "providerID {provider_id:?} belongs to no provider of this controller, which knows {}",
            CLOUDS.map(|cloud| cloud.provider_id_form).join(" and ")
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_of_no_active_cloud_gets_a_remedy() {
        let (aws, both) = (BTreeSet::from([AWS]), BTreeSet::from([AWS, GCE]));
        let table = [
            ("aws:///z/i-0abc", &aws, None),
            ("gce://p/z/n", &both, None),
            ("gce://p/z", &both, None),
            ("gce://p/z/n", &aws, Some("--providers aws,gce")),
            ("k3s://n", &both, Some("docs/guides/k3s.md")),
            ("openstack:///x", &both, Some("openstack")),
        ];
        for (id, active, expected) in table {
            let message = unclaimed(id, active);
            let fits = match (&message, expected) {
                (Some(message), Some(part)) => message.contains(part),
                (None, None) => true,
                _ => false,
            };
            assert!(fits, "{id}: {message:?}");
        }
    }
}
