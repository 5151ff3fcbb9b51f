//! Claims: which cloud a node's providerID belongs to.

use std::collections::BTreeSet;
use std::fmt;

use firewall_aws::Aws;
use firewall_gce::Gce;

/// A cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Provider {
    /// EC2 security groups
    Aws,
    /// VPC firewall rules of Google Compute Engine
    Gce,
}

impl Provider {
    const ALL: [Self; 2] = [Self::Aws, Self::Gce];

    fn claims(self, provider_id: &str) -> bool {
        match self {
            Self::Aws => Aws::instance_of(provider_id).is_some(),
            Self::Gce => Gce::instance_of(provider_id).is_some(),
        }
    }
}

impl fmt::Display for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Aws => "aws",
            Self::Gce => "gce",
        })
    }
}

/// What is wrong with a node's providerID, if none of the `active` providers takes it.
#[must_use]
pub fn unclaimed(provider_id: &str, active: &BTreeSet<Provider>) -> Option<String> {
    let claimant = Provider::ALL.into_iter().find(|provider| provider.claims(provider_id));
    match claimant {
        Some(provider) if active.contains(&provider) => None,
        Some(provider) => {
            let all = active | &BTreeSet::from([provider]);
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            Some(format!(
                "providerID {provider_id:?} is a machine of {provider}, and this controller runs without that provider; \
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
            "providerID {provider_id:?} belongs to no provider of this controller, which knows \
             aws:///<zone>/<instance id> and gce://<project>/<zone>/<name>"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_of_no_active_provider_is_told_what_to_do() {
        let (aws, both) = (BTreeSet::from([Provider::Aws]), BTreeSet::from(Provider::ALL));
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
