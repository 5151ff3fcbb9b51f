//! Firewall groups: the rules, the instances they apply to, and the workload they are for.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use sha2::{Digest, Sha256};

use crate::{InstanceId, PortRange, Protocol, RuleSet, Unknown};

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
///
/// The parts are shared: every membership, and all that is known about it, has the key of its group.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupKey {
    /// The workload that the ports are open for
    pub workload: Arc<Workload>,
    /// The host ports that the pods bind and the intent exposes
    pub ports: Arc<BTreeSet<(Protocol, PortRange)>>,
    /// Any other distinction between pods of one workload whose rules differ: the pod's own source ranges,
    /// the address families of its node. Empty if there is none.
    pub variant: Arc<str>,
}

impl GroupKey {
    /// Returns sixteen hexadecimal digits that name the group in the cloud.
    ///
    /// Every part is hashed with its length, so that (`a-b`, `c`) and (`a`, `b-c`) differ.
    #[must_use]
    pub fn digest(&self) -> String {
        let ports: Vec<_> =
            self.ports.iter().map(|(protocol, ports)| format!("{protocol}/{ports}")).collect();
        let Workload { kind, namespace, name } = &*self.workload;
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

/// A firewall group as the text of its [`GroupKey`] names it: what is left of the key in the cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupLabel {
    /// The namespace of the workload
    pub namespace: String,
    /// The ports
    pub ports: BTreeSet<(Protocol, PortRange)>,
}

impl GroupLabel {
    /// Reads a text that holds one key or several, separated by `; `. A part that was cut off, or that nobody
    /// but this program can have written, is left out.
    #[must_use]
    pub fn read(text: &str) -> Vec<Self> {
        text.split("; ").filter_map(Self::read_one).collect()
    }

    fn read_one(text: &str) -> Option<Self> {
        let [_, name, ports] = text.split(' ').collect::<Vec<_>>()[..] else { return None };
        let (namespace, _) = name.split_once('/')?;
        let port = |text: &str| {
            let (protocol, range) = text.split_once('/')?;
            Some((protocol.parse().ok()?, range.parse().ok()?))
        };
        let ports = ports.split(',').map(port).collect::<Option<_>>()?;
        Some(Self { namespace: namespace.to_owned(), ports })
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

/// All groups as they should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Desired {
    /// The groups by identity
    pub groups: BTreeMap<GroupKey, FirewallGroup>,
    /// The traffic that may be asked for beside these
    pub unknown: Unknown,
}

impl Desired {
    /// Returns the state without groups, where nothing is unknown: the goal of `cleanup`.
    #[must_use]
    pub fn nothing() -> Self {
        Self { groups: BTreeMap::new(), unknown: Unknown::default() }
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
            workload: Workload { kind: "Deployment".into(), namespace: namespace.into(), name: name.into() }
                .into(),
            ports: BTreeSet::from([(Protocol::Tcp, PortRange::single(80).unwrap())]).into(),
            variant: "".into(),
        }
    }

    #[test]
    fn digests_differ_for_names_that_read_alike_when_joined() {
        assert_ne!(key("a-b", "c").digest(), key("a", "b-c").digest());
    }

    #[test]
    fn label_is_read_from_the_text_of_a_key() {
        let (one, other) = (key("shop", "web"), key("games", "turn"));
        let labels = GroupLabel::read(&format!("{one}; {other}; Deployment shop/w..."));
        let label = |key: &GroupKey| GroupLabel {
            namespace: key.workload.namespace.clone(),
            ports: (*key.ports).clone(),
        };
        assert_eq!(labels, [label(&one), label(&other)]);
        assert_eq!(GroupLabel::read("somebody's group"), []);
    }

    #[test]
    fn digest_fits_every_clouds_naming_rules() {
        let digest = key("default", "web").digest();
        assert_eq!(digest.len(), 16);
        assert!(digest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)));
    }
}
