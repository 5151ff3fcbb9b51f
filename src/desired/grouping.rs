//! Grouping: exposures become firewall groups, of which each instance is a member because of its pods.
//!
//! Pods of one workload that bind the same host ports form one group. Sources that come from an Ingress are
//! not part of its identity: they change for all pods at once, which takes one call and no re-attachment.
//! Sources that come from the pods themselves are: they change pod by pod, and one group for both would open
//! on some node what its pod does not ask for.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::{Desired, FirewallGroup, GroupKey, InstanceId, RuleSet, Unknown};

use crate::intents::exposure::Exposure;
use crate::k8s::objects::ObjectRef;
use crate::k8s::objects::object_set::ObjectSet;
use crate::k8s::problem::{Problem, Verdict};
use crate::k8s::reasons;

/// Groups, and the Kubernetes objects behind them.
#[derive(Clone, Debug)]
pub struct Grouped {
    /// The groups that the provider compiles
    pub desired: Desired,
    /// The intents and port owners behind each group
    pub objects: BTreeMap<GroupKey, BTreeSet<ObjectRef>>,
    /// The port owners behind each membership
    pub port_owners: BTreeMap<(GroupKey, InstanceId), ObjectSet>,
    /// The intents behind each membership
    pub intents: BTreeMap<(GroupKey, InstanceId), ObjectSet>,
    /// The node of each member
    pub nodes: BTreeMap<InstanceId, ObjectRef>,
    /// Nodes whose machine is not known
    pub problems: BTreeSet<Problem>,
}

/// Groups the exposures whose instance the provider knows.
///
/// `instance` reads a providerID: `None` is another cloud's, and an error is told of the node.
pub fn grouped<'a>(
    exposures: impl IntoIterator<Item = &'a Exposure>,
    instance: impl Fn(&str) -> Option<Result<InstanceId, String>>,
    unknown: Unknown,
) -> Grouped {
    let desired = Desired { groups: BTreeMap::new(), unknown };
    let mut grouped = Grouped {
        desired,
        objects: BTreeMap::new(),
        port_owners: BTreeMap::new(),
        intents: BTreeMap::new(),
        nodes: BTreeMap::new(),
        problems: BTreeSet::new(),
    };
    for exposure in exposures {
        match instance(&exposure.provider_id) {
            Some(Ok(instance)) => grouped.add(exposure, instance),
            Some(Err(message)) => grouped.report(exposure, message),
            None => {}
        }
    }
    grouped
}

impl Grouped {
    fn add(&mut self, exposure: &Exposure, instance: InstanceId) {
        let key = exposure.group.clone();
        let objects = self.objects.entry(key.clone()).or_default();
        objects.extend([exposure.intent.clone(), exposure.port_owner.clone()]);
        self.nodes.insert(instance.clone(), exposure.node.clone());
        let membership = (key.clone(), instance.clone());
        self.intents.entry(membership.clone()).or_default().insert(&exposure.intent);
        self.port_owners.entry(membership).or_default().insert(&exposure.port_owner);
        let group = self.desired.groups.entry(key);
        let group =
            group.or_insert_with(|| FirewallGroup { rules: RuleSet::default(), members: BTreeSet::new() });
        group.rules = group.rules.union(&exposure.rules);
        group.members.insert(instance);
    }

    /// Adds a problem to the node, and to whatever wants a port opened on it.
    fn report(&mut self, exposure: &Exposure, message: String) {
        let (object, reason) = (exposure.node.clone(), reasons::UNSUPPORTED_NODE.to_owned());
        let problem = Problem { object, verdict: Verdict::Failed, reason, message };
        self.problems.extend([&exposure.port_owner, &exposure.intent].map(|other| problem.to(other)));
        self.problems.insert(problem);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use firewall_core::testing::conformance::rule;
    use firewall_core::{PortRange, Protocol, Workload};
    use proptest::prelude::*;

    use super::*;

    fn exposure(workload: &str, node: &str, port: u16, source: &str, variant: &str) -> Exposure {
        let object = |kind: &'static str, name: &str| ObjectRef {
            api_version: "v1".into(),
            kind: kind.into(),
            namespace: String::new(),
            name: name.to_owned(),
            uid: String::new(),
        };
        Exposure {
            port_owner: object("Pod", &format!("{workload}-{node}")),
            node: object("Node", node),
            provider_id: format!("memory://{node}"),
            intent: object("Pod", workload),
            group: GroupKey {
                workload: Workload {
                    kind: "DaemonSet".into(),
                    namespace: "default".into(),
                    name: workload.into(),
                }
                .into(),
                ports: BTreeSet::from([(Protocol::Tcp, PortRange::single(port).expect("a port"))]).into(),
                variant: variant.into(),
            },
            rules: RuleSet::from_iter([rule(&format!("tcp/{port} {source}"))]).into(),
            hostname: None,
        }
    }

    fn known(id: &str) -> Option<Result<InstanceId, String>> {
        Some(Ok(InstanceId::new(id.strip_prefix("memory://")?)))
    }

    fn groups(exposures: &[Exposure]) -> Vec<(usize, usize)> {
        let grouped = grouped(exposures, known, Unknown::default());
        grouped.desired.groups.values().map(|group| (group.rules.len(), group.members.len())).collect()
    }

    #[test]
    fn pods_with_the_same_ports_share_a_group() {
        let web = |node| exposure("web", node, 80, "0.0.0.0/0", "");
        assert_eq!(groups(&[web("a"), web("b"), web("b")]), [(1, 2)]);
        assert_eq!(groups(&[web("a"), exposure("web", "b", 81, "0.0.0.0/0", "")]), [(1, 1), (1, 1)]);
        assert_eq!(groups(&[web("a"), exposure("dns", "a", 80, "0.0.0.0/0", "")]), [(1, 1), (1, 1)]);
        assert_eq!(groups(&[web("a"), exposure("web", "b", 80, "10.0.0.0/8", "x")]), [(1, 1), (1, 1)]);
    }

    #[test]
    fn unclaimed_node_gets_a_problem_and_a_claimed_one_does_not() {
        let mut exposure = exposure("web", "a", 80, "0.0.0.0/0", "");
        exposure.provider_id = "openstack:///x".to_owned();
        let unclaimed =
            grouped(&[exposure.clone()], |id| known(id).or(Some(Err(id.to_owned()))), Unknown::default());
        assert!(unclaimed.desired.groups.is_empty());
        let has_problem = |kind: &str| {
            let mut problems = unclaimed.problems.iter();
            problems.any(|problem| problem.object.kind == kind && problem.message.contains("openstack"))
        };
        assert!(has_problem("Node") && has_problem("Pod"), "{:?}", unclaimed.problems);
        let claimed = grouped(&[exposure], known, Unknown::default());
        assert!(claimed.desired.groups.is_empty() && claimed.problems.is_empty());
    }

    proptest! {
        #[test]
        fn groups_open_exactly_what_exposures_ask_for(
            asked in prop::collection::vec((0..3_usize, 0..3_usize, 0..3_u16, 0..2_usize), 0..20),
        ) {
            let names = ["a", "b", "c"];
            let sources = ["10.0.0.0/8", "192.0.2.0/24"];
            let exposures: Vec<_> = asked
                .iter()
                .map(|(workload, node, port, source)| {
                    exposure(names[*workload], names[*node], 80 + port, sources[*source], sources[*source])
                })
                .collect();
            let grouped = grouped(&exposures, known, Unknown::default());
            for node in names {
                let asked_for: RuleSet = exposures
                    .iter()
                    .filter(|exposure| exposure.node.name == node)
                    .flat_map(|exposure| exposure.rules.iter().copied())
                    .collect();
                let members = grouped.desired.groups.values().filter(|group| {
                    group.members.contains(&InstanceId::new(node))
                });
                let open: RuleSet = members.flat_map(|group| group.rules.iter().copied()).collect();
                prop_assert_eq!(open, asked_for);
            }
        }
    }
}
