//! The resources of this cluster in the account: what they let in, their text, and what others do to them.

use std::collections::{BTreeMap, BTreeSet};

use firewall_aws::CLUSTER_TAG;

use super::{Ec2, instance};
use crate::cloud::{CLUSTER, ModelCloud, Tampering, View};
use crate::fake_ec2::{Group, Rule};
use crate::landscape::{EGRESS, Probes, admitted, arriving};

/// Returns true if tags have this cluster's mark.
fn is_mark(tags: &BTreeMap<String, String>) -> bool {
    tags.get(CLUSTER_TAG).is_some_and(|own| own == CLUSTER)
}

impl Ec2 {
    /// Returns what the account lets in: by walking interfaces, groups and rules.
    pub(super) fn view(&self) -> View {
        let state = self.account.state();
        let is_ours = |group: &Group, rule: &Rule| is_mark(&group.tags) || is_mark(&rule.tags);
        let mut view = View::default();
        for machine in 0..self.machines {
            let interface = &state.instances[&instance(machine)].interfaces[0];
            let attached = &state.interfaces[interface].groups;
            let groups = attached.iter().filter_map(|id| state.groups.get(id));
            let rules = groups.flat_map(|group| group.rules.iter().filter(|rule| is_ours(group, rule)));
            let probes = rules.fold(0, |set, rule| set | probes(rule));
            view.admits.insert(self.provider_id(machine), probes & arriving(machine));
            let is_theirs = |id: &&String| state.groups.get(*id).is_none_or(|group| !is_mark(&group.tags));
            let theirs: Vec<&String> = attached.iter().filter(is_theirs).collect();
            view.foreign.push(format!("{interface}: {theirs:?}"));
        }
        for (id, group) in state.groups.iter().filter(|(_, group)| !is_mark(&group.tags)) {
            let theirs: Vec<&str> =
                group.rules.iter().filter(|rule| !is_mark(&rule.tags)).map(|rule| rule.id.as_str()).collect();
            view.foreign.push(format!("{id}: {theirs:?}"));
        }
        view
    }

    /// Returns every group of ours with its rules, every rule of ours in another's group, and every attachment.
    pub(super) fn describe_resources(&self) -> Vec<String> {
        let state = self.account.state();
        let mut all = Vec::new();
        for (id, group) in &state.groups {
            if is_mark(&group.tags) {
                all.push(format!("{}: {:?}, egress {}", group.name, group.ingress(), group.egress()));
                continue;
            }
            let own = group.rules.iter().filter(|rule| is_mark(&rule.tags));
            all.extend(own.map(|rule| {
                let Rule { protocol, from, to, source, .. } = rule;
                format!("{id}: {protocol} {from} {to} {source}")
            }));
        }
        for (id, interface) in &state.interfaces {
            let own = interface.groups.iter().filter_map(|group| state.groups.get(group));
            let own = own.filter(|group| is_mark(&group.tags));
            all.extend(own.map(|group| format!("{id}: {}", group.name)));
        }
        all.sort();
        all
    }

    /// Changes what is ours at an instance, as somebody else would.
    pub(super) fn tamper_with(&self, instance: &str, how: Tampering) {
        let mut state = self.account.state();
        let attached = state.groups_of(instance).clone();
        let is_ours =
            |id: &&String| state.groups.get(*id).is_some_and(|group| group.tags.contains_key(CLUSTER_TAG));
        let ours: BTreeSet<String> = attached.iter().filter(is_ours).cloned().collect();
        // Where rules are put in groups of others, these are what somebody changes.
        let group = ours.first().or_else(|| attached.last().filter(|_| self.is_shared)).cloned();
        match how {
            Tampering::MemberRemoved => state.groups_of(instance).retain(|id| !ours.contains(id)),
            Tampering::RuleAdded => {
                if let Some(group) = group.and_then(|id| state.groups.get_mut(&id)) {
                    group.rules.push(Rule::ingress("tcp 22 22 cidrIp 203.0.113.0/24"));
                }
            }
            Tampering::RuleRemoved => {
                if let Some(group) = group.and_then(|id| state.groups.get_mut(&id)) {
                    group.rules.retain(|rule| rule.egress);
                }
            }
        }
    }
}

/// Returns what a rule lets in, or out.
fn probes(rule: &Rule) -> Probes {
    if rule.egress {
        // The network of a cluster's nodes has an egress rule of its own: one of ours would widen it.
        return EGRESS;
    }
    let port = |text: &str| text.parse::<u16>().unwrap_or(0);
    let Ok(source) = rule.source.parse() else { return 0 };
    admitted(&rule.protocol, port(&rule.from), port(&rule.to), &source)
}
