//! Firewall groups: the rules, the instances they apply to, and the workload they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use sha2::{Digest, Sha256};

use crate::{PortRange, Protocol, RuleSet};

/// The cloud's own id of the instance behind a node, as its provider writes it
/// (`i-0abc…` on AWS, `project/zone/name` on GCE).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InstanceId(String);

impl InstanceId {
    /// Wraps an id that the provider has already validated.
    pub fn new(id: impl Into<String>) -> Self {
        Self(id.into())
    }

    /// Returns the id as the provider's API takes it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for InstanceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The object that ports are open for: the owner of the pods with the `ReplicaSet` hash stripped, or the
/// object with the intent: a Voyager Ingress, a Service, a `HostPortExposure`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// The Kubernetes kind, for example `Deployment`
    pub kind: String,
    /// The namespace
    pub namespace: String,
    /// The name
    pub name: String,
}

impl fmt::Display for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
    }
}

/// The identity of a firewall group: memberships with the same key are in one group.
///
/// Ports belong to the identity because they change pod by pod as a rollout proceeds: with one group for
/// both, a node would have the new port open before its pod binds it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The workload that the ports are open for
    pub workload: Workload,
    /// The host ports that the pods bind and the intent exposes
    pub ports: BTreeSet<(Protocol, PortRange)>,
    /// Any other distinction between pods of one workload whose rules differ: the pod's own source ranges,
    /// the address families of its node. Empty if there is none.
    pub variant: String,
}

impl GroupKey {
    /// Returns sixteen hexadecimal digits that name the group in the cloud.
    ///
    /// Every part is hashed with its length, so that (`a-b`, `c`) and (`a`, `b-c`) differ.
    #[must_use]
    pub fn digest(&self) -> String {
        let ports: Vec<_> =
            self.ports.iter().map(|(protocol, ports)| format!("{protocol}/{ports}")).collect();
        let Workload { kind, namespace, name } = &self.workload;
        digest([kind.as_str(), namespace, name, &ports.join(","), &self.variant])
    }
}

impl fmt::Display for GroupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.workload)?;
        for (position, (protocol, ports)) in self.ports.iter().enumerate() {
            write!(f, "{}{protocol}/{ports}", if position == 0 { " " } else { "," })?;
        }
        Ok(())
    }
}

/// Returns sixteen hexadecimal digits of SHA-256 over `parts`, each hashed with its length.
pub fn digest<'a>(parts: impl IntoIterator<Item = &'a str>) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

/// A named set of ingress rules and the instances they apply to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallGroup {
    /// The rules, in canonical form
    pub rules: RuleSet,
    /// The instances that the rules apply to
    pub members: BTreeSet<InstanceId>,
}

/// The completeness of the knowledge of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Completeness {
    /// Every watched kind has been listed since its watch last broke.
    Complete,
    /// Parts are missing, for these reasons; nothing may be closed on such knowledge.
    Partial(Vec<String>),
}

impl Completeness {
    /// Returns true if closing is safe.
    #[must_use]
    pub const fn is_complete(&self) -> bool {
        matches!(self, Self::Complete)
    }
}

/// All groups as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The groups by identity
    pub groups: BTreeMap<GroupKey, FirewallGroup>,
    /// Reports whether a group that is absent here is known to be no longer desired
    pub completeness: Completeness,
}

impl Desired {
    /// Returns the state without groups, from complete knowledge: the goal of `cleanup`.
    #[must_use]
    pub const fn nothing() -> Self {
        Self { groups: BTreeMap::new(), completeness: Completeness::Complete }
    }

    /// Returns every instance that is a member of a group.
    #[must_use]
    pub fn members(&self) -> BTreeSet<InstanceId> {
        self.groups.values().flat_map(|group| group.members.iter().cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(namespace: &str, name: &str) -> GroupKey {
        GroupKey {
            workload: Workload { kind: "Deployment".into(), namespace: namespace.into(), name: name.into() },
            ports: BTreeSet::from([(Protocol::Tcp, PortRange::single(80).unwrap())]),
            variant: String::new(),
        }
    }

    #[test]
    fn digests_differ_for_names_that_read_alike_when_joined() {
        assert_ne!(key("a-b", "c").digest(), key("a", "b-c").digest());
    }

    #[test]
    fn digest_fits_every_clouds_naming_rules() {
        let digest = key("default", "web").digest();
        assert_eq!(digest.len(), 16);
        assert!(digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }
}
