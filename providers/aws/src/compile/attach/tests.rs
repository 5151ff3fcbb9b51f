//! Compiling in mode `attach`.

use std::collections::{BTreeMap, BTreeSet};

use firewall_core::testing::conformance::{assert_incumbents_keep_capacity, desired, group, rule};
use firewall_core::{Compiled, Desired, FirewallGroup, GroupKey, InstanceId, Resource, ResourceSet};
use proptest::prelude::*;

use crate::config::AwsConfig;
use crate::ec2_cache::AttachApi;
use crate::inventory::Inventory;
use crate::inventory::Provisioner;
use crate::resource::{Attachment, AwsResource, Egress, SecurityGroup};
use crate::testing::{id, infeasible_groups, reasons};

/// Returns instances by id, each with the groups on its interface; `sg-nodes` is tagged.
fn inventory(instances: &[(&str, &[&str])]) -> Inventory {
    Inventory { cluster_tagged: BTreeSet::from(["sg-nodes".into()]), ..Inventory::of_instances(instances) }
}

fn compile(
    groups: impl IntoIterator<Item = (GroupKey, FirewallGroup)>,
    inventory: &Inventory,
) -> Compiled<AwsResource> {
    super::compile(&desired(groups), inventory, &AwsConfig::new("test"))
}

fn security_groups(compiled: &Compiled<AwsResource>) -> Vec<&SecurityGroup> {
    let mut groups = Vec::new();
    for resource in compiled.resources.values() {
        if let AwsResource::SecurityGroup(group) = resource {
            groups.push(group);
        }
    }
    groups
}

fn attachments(compiled: &Compiled<AwsResource>) -> BTreeMap<&InstanceId, &Attachment> {
    let mut attachments = BTreeMap::new();
    for resource in compiled.resources.values() {
        if let AwsResource::Attachment(attachment) = resource {
            attachments.insert(&attachment.instance, attachment);
        }
    }
    attachments
}

/// Returns groups `g0`, `g1`, … on port 1000, 1002, …
fn numbered(count: u16, members: &[&InstanceId]) -> Vec<(GroupKey, FirewallGroup)> {
    let one = |n: u16| group(&format!("g{n}"), &[&format!("tcp/{} 10.0.0.0/8", 1000 + 2 * n)], members);
    (0..count).map(one).collect()
}

#[test]
fn group_is_one_security_group_attached_to_its_members() {
    let (a, b) = (id("i-a"), id("i-b"));
    let inventory = inventory(&[("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes"])]);
    let (key, web) = group("web", &["tcp/80 0.0.0.0/0", "tcp/80 ::/0"], &[&a, &b]);
    let compiled = compile([(key.clone(), web.clone())], &inventory);
    let [security_group] = security_groups(&compiled)[..] else { panic!("{compiled:?}") };
    assert_eq!(security_group.name.name, format!("hostport-firewall-test-{}", key.digest()));
    assert_eq!(security_group.rules, *web.rules.rules());
    assert_eq!(security_group.egress, Egress::Closed);
    for instance in [&a, &b] {
        let attachment = attachments(&compiled)[instance];
        assert_eq!(attachment.groups, BTreeSet::from([security_group.name.clone()]));
        assert_eq!(attachment.capacity, 4);
        let reach = AwsResource::reach(&compiled.resources, instance);
        assert_eq!((reach.rules, reach.other_traffic), (web.rules.clone(), BTreeSet::new()));
    }
}

#[test]
fn each_vpc_has_its_own_security_group() {
    let (a, b) = (id("i-a"), id("i-b"));
    let mut inventory = inventory(&[("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes"])]);
    inventory.instances.get_mut(&b).unwrap().vpc = "vpc-2".into();
    let compiled = compile([group("web", &["tcp/80 0.0.0.0/0"], &[&a, &b])], &inventory);
    let vpcs: Vec<_> = security_groups(&compiled).iter().map(|group| group.name.vpc.clone()).collect();
    assert_eq!(vpcs, ["vpc-1", "vpc-2"]);
}

#[test]
fn groups_beyond_the_slots_share_one_security_group() {
    let (a, b, c) = (id("i-a"), id("i-b"), id("i-c"));
    let instances: [(&str, &[&str]); 3] =
        [("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes"]), ("i-c", &["sg-nodes", "sg-2"])];
    let mut groups = numbered(4, &[&a, &b, &c]);
    let compiled = compile(groups.clone(), &inventory(&instances));
    let of = |instance| attachments(&compiled)[instance].groups.clone();
    assert_eq!(of(&a).len(), 4, "four fit beside the node's own group");
    assert_eq!(of(&c).len(), 1, "they do not fit beside two others");
    for (instance, expected) in [(&a, 4), (&c, 4)] {
        assert_eq!(AwsResource::reach(&compiled.resources, instance).rules.len(), expected);
    }

    groups.extend(numbered(5, &[&a, &b]).into_iter().skip(4));
    let compiled = compile(groups, &inventory(&instances));
    let of = |instance| attachments(&compiled)[instance].groups.clone();
    let names: BTreeSet<_> = [&a, &b, &c].into_iter().flat_map(of).collect();
    assert_eq!((of(&a).len(), names.len()), (1, 3), "each interface has a combined group of its own");
    assert_eq!(security_groups(&compiled).len(), 3, "no security group is created that is attached nowhere");
}

#[test]
fn combined_group_keeps_its_name_whatever_it_holds() {
    let a = id("i-a");
    let nodes = inventory(&[("i-a", &["sg-nodes"])]);
    let name_of = |groups: Vec<(GroupKey, FirewallGroup)>| {
        let compiled = compile(groups, &nodes);
        attachments(&compiled)[&a].groups.clone()
    };
    let (five, six) = (numbered(5, &[&a]), numbered(6, &[&a]));
    assert_eq!(name_of(five), name_of(six.clone()));
    assert_eq!(name_of(six[1..].to_vec()), name_of(six));
}

#[test]
fn other_instances_do_not_change_an_attachment() {
    let (a, b) = (id("i-a"), id("i-b"));
    let instances: [(&str, &[&str]); 2] = [("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes"])];
    let alone = compile(numbered(5, &[&a]), &inventory(&instances));
    let mut both = numbered(5, &[&a]);
    both.extend([group("other", &["udp/53 ::/0"], &[&b])]);
    let together = compile(both, &inventory(&instances));
    assert_eq!(attachments(&alone)[&a], attachments(&together)[&a]);
}

#[test]
fn oversized_group_is_infeasible_and_names_the_quota() {
    let a = id("i-a");
    let rules: Vec<String> = (0..61).map(|n| format!("tcp/80 10.{}.0.0/16", 2 * n)).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let inventory = inventory(&[("i-a", &["sg-nodes"])]);
    let compiled = compile([group("web", &rules, &[&a])], &inventory);
    assert_eq!((reasons(&compiled), compiled.resources.len()), (vec!["TooManyRules"], 0));
    assert!(compiled.infeasible[0].message.contains("L-0EA8095F"));
    let mut mixed = rules[..60].to_vec();
    mixed.push("tcp/80 2001:db8::/32");
    let compiled = compile([group("web", &mixed, &[&a])], &inventory);
    assert_eq!(reasons(&compiled), [""; 0], "the families are counted apart");
}

/// Returns the inventory as it is when the resources exist and no others of ours do.
fn inventory_after(inventory: &Inventory, resources: &ResourceSet<AwsResource>) -> Inventory {
    let mut inventory = inventory.clone();
    inventory.security_groups.clear();
    for facts in inventory.instances.values_mut() {
        facts.own_groups.clear();
    }
    for resource in resources.values() {
        match resource {
            AwsResource::SecurityGroup(group) => {
                inventory.security_groups.insert(group.name.clone(), group.rules.clone());
            }
            AwsResource::Attachment(attachment) => {
                let facts = inventory.instances.get_mut(&attachment.instance).unwrap();
                facts.own_groups.clone_from(&attachment.groups);
            }
            AwsResource::SharedRules(_) => {}
        }
    }
    inventory
}

/// Returns a group of twenty rules.
fn twenty(number: u16, members: &[&InstanceId]) -> (GroupKey, FirewallGroup) {
    let rules: Vec<String> =
        (0..20).map(|net| format!("tcp/{} 10.{}.0.0/16", 80 + 2 * number, 2 * net)).collect();
    group(&format!("g{number}"), &rules.iter().map(String::as_str).collect::<Vec<_>>(), members)
}

#[test]
fn excess_group_is_infeasible_only_on_the_full_instance() {
    let (a, b) = (id("i-a"), id("i-b"));
    let mut groups: Vec<_> = (0..4).map(|number| twenty(number, &[&a])).collect();
    groups.push(twenty(4, &[&a, &b]));
    let compiled = compile(groups, &inventory(&[("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes"])]));
    assert_eq!(reasons(&compiled), ["TooManyRules"]);
    let infeasible = &compiled.infeasible[0];
    assert_eq!((infeasible.group.workload.name.as_str(), &infeasible.instance), ("g4", &Some(a.clone())));
    assert_eq!(attachments(&compiled)[&a].groups.len(), 4);
    assert_eq!(attachments(&compiled)[&b].groups.len(), 1);
    assert_eq!(compiled.requirements.len(), 5);
}

#[test]
fn newcomer_closes_no_established_group_whatever_its_name() {
    let a = id("i-a");
    let nodes = inventory(&[("i-a", &["sg-nodes"])]);
    for newcomer in 0..5 {
        let mut groups: Vec<_> = (0..5).map(|number| twenty(number, &[&a])).collect();
        let (new, _) = groups[newcomer].clone();
        let all = groups.clone();
        groups.remove(newcomer);
        let before = compile(groups, &nodes);
        let after = compile(all, &inventory_after(&nodes, &before.resources));
        assert_eq!(after.resources, before.resources);
        assert_eq!(infeasible_groups(&after), [&new]);
    }
}

#[test]
fn combined_group_keeps_its_groups_if_a_newcomer_exceeds_it() {
    let a = id("i-a");
    let nodes = inventory(&[("i-a", &["sg-nodes"])]);
    let before = compile(numbered(6, &[&a]), &nodes);
    assert_eq!(attachments(&before)[&a].groups.len(), 1);
    let rules: Vec<String> = (0..58).map(|net| format!("tcp/443 10.{}.0.0/16", 2 * net)).collect();
    let large = group("a-large-one", &rules.iter().map(String::as_str).collect::<Vec<_>>(), &[&a]);
    let mut groups = numbered(6, &[&a]);
    groups.push(large);
    let after = compile(groups, &inventory_after(&nodes, &before.resources));
    assert_eq!((reasons(&after), after.resources), (vec!["TooManyRules"], before.resources));
}

/// Returns for each moment the sources of each group: either of two sets, or none where the group is absent.
fn histories() -> impl Strategy<Value = Vec<Vec<Option<BTreeSet<u8>>>>> {
    let sources = || prop::collection::btree_set(0..12_u8, 1..6);
    let groups = prop::collection::vec((sources(), sources()), 6);
    let choices = prop::collection::vec(prop::collection::vec(0..8_u8, 6), 2..8);
    (groups, choices).prop_map(|(groups, choices)| {
        let chosen = |(group, choice): (&(BTreeSet<u8>, BTreeSet<u8>), &u8)| match choice {
            0..3 => None,
            3 => Some(group.1.clone()),
            _ => Some(group.0.clone()),
        };
        choices.iter().map(|choices| groups.iter().zip(choices).map(chosen).collect()).collect()
    })
}

/// Returns the groups of a moment, on adjacent ports and with sources of which some merge: together they can
/// take fewer rules.
fn moment(groups: &[Option<BTreeSet<u8>>], members: &[&InstanceId]) -> Desired {
    let one = |(number, sources): (usize, &BTreeSet<u8>)| {
        let rules: Vec<String> =
            sources.iter().map(|source| format!("tcp/{} 10.{source}.0.0/16", 1000 + number)).collect();
        group(&format!("g{number}"), &rules.iter().map(String::as_str).collect::<Vec<_>>(), members)
    };
    let present = groups.iter().enumerate().filter_map(|(number, sources)| Some((number, sources.as_ref()?)));
    desired(present.map(one))
}

proptest! {
    #[test]
    fn established_groups_keep_capacity_and_compiling_is_stable(
        history in histories(),
        slots in 2..5_usize,
        rules in 5..14_usize,
    ) {
        let nodes = inventory(&[("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes", "sg-2"])]);
        let slots = slots + 1;
        let config =
            AwsConfig { slots_per_interface: slots, rules_per_group: rules, ..AwsConfig::new("test") };
        let history: Vec<_> =
            history.iter().map(|groups| moment(groups, &[&id("i-a"), &id("i-b")])).collect();
        assert_incumbents_keep_capacity(&history, |desired, current| {
            super::compile(desired, &inventory_after(&nodes, current), &config)
        });
    }
}

#[test]
fn untagged_node_group_is_infeasible_with_the_remedy() {
    let a = id("i-a");
    let web = || [group("web", &["tcp/80 0.0.0.0/0"], &[&a])];
    let compiled = compile(web(), &inventory(&[("i-a", &["sg-bare"])]));
    assert_eq!((reasons(&compiled), compiled.resources.len()), (vec!["UntaggedNodeGroup"], 0));
    let remedy = "aws ec2 create-tags --resources sg-bare --tags Key=kubernetes.io/cluster/test,Value=owned";
    assert!(compiled.infeasible[0].message.contains(remedy), "{}", compiled.infeasible[0].message);

    let two = compile(web(), &inventory(&[("i-a", &["sg-bare", "sg-bare-2"])]));
    assert_eq!(reasons(&two), [""; 0], "a node with several groups is not made worse");
    let config = AwsConfig { allow_untagged_node_groups: true, ..AwsConfig::new("test") };
    let allowed = super::compile(&desired(web()), &inventory(&[("i-a", &["sg-bare"])]), &config);
    assert_eq!(reasons(&allowed), [""; 0]);
}

#[test]
fn unattachable_instance_is_infeasible_and_others_are_not() {
    let ids = ["i-ok", "i-gone", "i-auto", "i-full", "i-two", "i-karpenter"].map(id);
    let mut inventory = inventory(&[
        ("i-ok", &["sg-nodes"]),
        ("i-auto", &["sg-nodes"]),
        ("i-karpenter", &["sg-nodes"]),
        ("i-full", &["sg-1", "sg-2", "sg-3", "sg-4", "sg-5"]),
        ("i-two", &["sg-nodes"]),
    ]);
    inventory.attach_api = AttachApi::Instance;
    inventory.instances.get_mut(&id("i-auto")).unwrap().managed_by = Some("eks.amazonaws.com".into());
    inventory.instances.get_mut(&id("i-two")).unwrap().interface_count = 2;
    inventory.instances.get_mut(&id("i-karpenter")).unwrap().provisioner = Some(Provisioner::Karpenter);
    let compiled = compile([group("web", &["tcp/80 0.0.0.0/0"], &ids.each_ref())], &inventory);
    let infeasible = compiled.infeasible.iter();
    let reasons: BTreeMap<_, _> =
        infeasible.map(|one| (one.instance.as_ref().unwrap().as_str(), one.reason)).collect();
    let expected = BTreeMap::from([
        ("i-auto", "ManagedInstance"),
        ("i-full", "NoFreeSlot"),
        ("i-gone", "InstanceNotFound"),
        ("i-karpenter", "ProvisionedInstance"),
        ("i-two", "MultipleInterfaces"),
    ]);
    assert_eq!(reasons, expected);
    assert_eq!(attachments(&compiled).into_keys().collect::<Vec<_>>(), [&id("i-ok")]);
}

#[test]
fn security_group_name_is_in_lower_case() {
    let a = id("i-a");
    let config = AwsConfig::new("PROD");
    let groups = desired([group("web", &["tcp/80 0.0.0.0/0"], &[&a])]);
    let compiled = super::compile(&groups, &inventory(&[("i-a", &["sg-nodes"])]), &config);
    assert!(security_groups(&compiled)[0].name.name.starts_with("hostport-firewall-prod-"));
}

#[test]
fn open_egress_counts_as_reach_so_that_no_plan_attaches_it() {
    let a = id("i-a");
    let mut compiled =
        compile([group("web", &["tcp/80 0.0.0.0/0"], &[&a])], &inventory(&[("i-a", &["sg-nodes"])]));
    let wanted = AwsResource::reach(&compiled.resources, &a);
    let opened = compiled.resources.values().cloned().map(|resource| match resource {
        AwsResource::SecurityGroup(group) => {
            AwsResource::SecurityGroup(SecurityGroup { egress: Egress::Open, ..group })
        }
        other => other,
    });
    compiled.resources = opened.collect();
    let wider = AwsResource::reach(&compiled.resources, &a);
    assert!(!wanted.covers(&wider) && wider.covers(&wanted));
    assert_eq!(wider.rules, [rule("tcp/80 0.0.0.0/0")].into_iter().collect());
}

#[test]
fn provisioned_instance_is_infeasible_with_the_remedy() {
    let a = id("i-a");
    let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&a])]);
    let remedies = [
        (Provisioner::Karpenter, "securityGroupSelectorTerms of the EC2NodeClass"),
        (Provisioner::ClusterApi, "additionalSecurityGroups of the AWSMachineTemplate"),
    ];
    for (provisioner, remedy) in remedies {
        let mut inventory = inventory(&[("i-a", &["sg-nodes"])]);
        inventory.instances.get_mut(&a).unwrap().provisioner = Some(provisioner);
        let compiled = super::compile(&web(), &inventory, &AwsConfig::new("test"));
        assert_eq!((reasons(&compiled), compiled.resources.len()), (vec!["ProvisionedInstance"], 0));
        let message = &compiled.infeasible[0].message;
        assert!(message.contains(remedy) && message.contains("mode shared"), "{message}");
        let config = AwsConfig { allow_provisioned_instances: true, ..AwsConfig::new("test") };
        assert_eq!(reasons(&super::compile(&web(), &inventory, &config)), [""; 0]);
    }
}
