use std::collections::{BTreeMap, BTreeSet};

use firewall_model::conformance::{desired, group, rule};
use firewall_model::{Compiled, InstanceId, Resource};

use crate::config::AwsConfig;
use crate::inventory::{InstanceFacts, Inventory};
use crate::resource::{Attachment, AwsResource, Egress, SecurityGroup};
use crate::session::Dialect;

fn id(text: &str) -> InstanceId {
    InstanceId::new(text)
}

fn facts(groups: &[&str]) -> InstanceFacts {
    InstanceFacts {
        vpc: "vpc-1".into(),
        interface: "eni-1".into(),
        groups: groups.iter().map(ToString::to_string).collect(),
        interfaces: 1,
        ipv6: false,
        managed_by: None,
    }
}

/// Instances by id, each with the groups on its interface; `sg-nodes` is tagged.
fn inventory(instances: &[(&str, &[&str])]) -> Inventory {
    Inventory {
        instances: instances.iter().map(|(name, groups)| (id(name), facts(groups))).collect(),
        cluster_tagged: BTreeSet::from(["sg-nodes".into()]),
        ..Inventory::default()
    }
}

fn compile(
    groups: impl IntoIterator<Item = (firewall_model::GroupKey, firewall_model::FirewallGroup)>,
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

fn reasons(compiled: &Compiled<AwsResource>) -> Vec<&'static str> {
    compiled.rejections.iter().map(|rejection| rejection.reason).collect()
}

/// Groups `g0`, `g1`, … on port 1000, 1001, …
fn numbered(
    count: u16,
    members: &[&InstanceId],
) -> Vec<(firewall_model::GroupKey, firewall_model::FirewallGroup)> {
    let one = |n: u16| group(&format!("g{n}"), &[&format!("tcp/{} 10.0.0.0/8", 1000 + 2 * n)], members);
    (0..count).map(one).collect()
}

#[test]
fn a_firewall_group_is_one_security_group_attached_to_its_members() {
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
        assert_eq!((reach.rules, reach.others), (web.rules.clone(), BTreeSet::new()));
    }
}

#[test]
fn each_vpc_has_a_security_group_of_its_own() {
    let (a, b) = (id("i-a"), id("i-b"));
    let mut inventory = inventory(&[("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes"])]);
    inventory.instances.get_mut(&b).unwrap().vpc = "vpc-2".into();
    let compiled = compile([group("web", &["tcp/80 0.0.0.0/0"], &[&a, &b])], &inventory);
    let vpcs: Vec<_> = security_groups(&compiled).iter().map(|group| group.name.vpc.clone()).collect();
    assert_eq!(vpcs, ["vpc-1", "vpc-2"]);
}

#[test]
fn an_instance_in_more_groups_than_it_has_slots_gets_one_for_exactly_that_set() {
    let (a, b, c) = (id("i-a"), id("i-b"), id("i-c"));
    let instances: [(&str, &[&str]); 3] =
        [("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes"]), ("i-c", &["sg-nodes", "sg-2"])];
    let mut groups = numbered(4, &[&a, &b, &c]);
    let compiled = compile(groups.clone(), &inventory(&instances));
    let of = |instance| attachments(&compiled)[instance].groups.clone();
    assert_eq!(of(&a).len(), 4, "four fit beside the node's own");
    assert_eq!(of(&c).len(), 1, "beside two others they do not");
    for (instance, expected) in [(&a, 4), (&c, 4)] {
        assert_eq!(AwsResource::reach(&compiled.resources, instance).rules.len(), expected);
    }

    groups.extend(numbered(5, &[&a, &b]).into_iter().skip(4));
    let compiled = compile(groups, &inventory(&instances));
    let of = |instance| attachments(&compiled)[instance].groups.clone();
    assert_eq!(of(&a).len(), 1);
    assert_eq!(of(&a), of(&b), "instances with the same set share the combined group");
    assert_ne!(of(&a), of(&c), "another set is another group");
    assert_eq!(security_groups(&compiled).len(), 2, "no group is made that is attached nowhere");
}

#[test]
fn only_the_own_set_and_the_own_slots_decide() {
    let (a, b) = (id("i-a"), id("i-b"));
    let instances: [(&str, &[&str]); 2] = [("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes"])];
    let alone = compile(numbered(5, &[&a]), &inventory(&instances));
    let mut both = numbered(5, &[&a]);
    both.extend([group("other", &["udp/53 ::/0"], &[&b])]);
    let together = compile(both, &inventory(&instances));
    assert_eq!(attachments(&alone)[&a], attachments(&together)[&a]);
}

#[test]
fn a_group_that_fits_into_no_security_group_is_rejected_with_its_quota() {
    let a = id("i-a");
    let rules: Vec<String> = (0..61).map(|n| format!("tcp/80 10.{}.0.0/16", 2 * n)).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    let inventory = inventory(&[("i-a", &["sg-nodes"])]);
    let compiled = compile([group("web", &rules, &[&a])], &inventory);
    assert_eq!((reasons(&compiled), compiled.resources.len()), (vec!["TooManyRules"], 0));
    assert!(compiled.rejections[0].message.contains("L-0EA8095F"));
    let mut mixed = rules[..60].to_vec();
    mixed.push("tcp/80 2001:db8::/32");
    let compiled = compile([group("web", &mixed, &[&a])], &inventory);
    assert_eq!(reasons(&compiled), [""; 0], "the families are counted apart");
}

#[test]
fn a_combined_group_that_does_not_fit_is_rejected_on_that_instance_only() {
    let (a, b) = (id("i-a"), id("i-b"));
    let mut groups = Vec::new();
    for n in 0..5 {
        let rules: Vec<String> = (0..20).map(|m| format!("tcp/{} 10.{}.0.0/16", 80 + 2 * n, 2 * m)).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let members: &[&InstanceId] = if n == 0 { &[&a, &b] } else { &[&a] };
        groups.push(group(&format!("g{n}"), &rules, members));
    }
    let compiled = compile(groups, &inventory(&[("i-a", &["sg-nodes"]), ("i-b", &["sg-nodes"])]));
    assert_eq!(reasons(&compiled), ["TooManyRules"; 5]);
    assert!(compiled.rejections.iter().all(|rejection| rejection.instance == Some(a.clone())));
    assert_eq!(attachments(&compiled).into_keys().collect::<Vec<_>>(), [&b]);
}

#[test]
fn a_node_whose_only_group_is_untagged_is_refused_with_the_remedy() {
    let a = id("i-a");
    let web = || [group("web", &["tcp/80 0.0.0.0/0"], &[&a])];
    let compiled = compile(web(), &inventory(&[("i-a", &["sg-bare"])]));
    assert_eq!((reasons(&compiled), compiled.resources.len()), (vec!["UntaggedNodeGroup"], 0));
    let remedy = "aws ec2 create-tags --resources sg-bare --tags Key=kubernetes.io/cluster/test,Value=owned";
    assert!(compiled.rejections[0].message.contains(remedy), "{}", compiled.rejections[0].message);

    let two = compile(web(), &inventory(&[("i-a", &["sg-bare", "sg-bare-2"])]));
    assert_eq!(reasons(&two), [""; 0], "a node with several groups stays as well or as badly off as it is");
    let config = AwsConfig { allow_untagged_node_groups: true, ..AwsConfig::new("test") };
    let allowed = super::compile(&desired(web()), &inventory(&[("i-a", &["sg-bare"])]), &config);
    assert_eq!(reasons(&allowed), [""; 0]);
}

#[test]
fn instances_that_cannot_have_groups_are_rejected_and_the_others_are_not() {
    let ids = ["i-ok", "i-gone", "i-auto", "i-full", "i-two"].map(id);
    let mut inventory = inventory(&[
        ("i-ok", &["sg-nodes"]),
        ("i-auto", &["sg-nodes"]),
        ("i-full", &["sg-1", "sg-2", "sg-3", "sg-4", "sg-5"]),
        ("i-two", &["sg-nodes"]),
    ]);
    inventory.dialect = Dialect::Instances;
    inventory.instances.get_mut(&id("i-auto")).unwrap().managed_by = Some("eks.amazonaws.com".into());
    inventory.instances.get_mut(&id("i-two")).unwrap().interfaces = 2;
    let compiled = compile([group("web", &["tcp/80 0.0.0.0/0"], &ids.each_ref())], &inventory);
    let reasons: BTreeMap<_, _> = compiled
        .rejections
        .iter()
        .map(|rejection| (rejection.instance.as_ref().unwrap().as_str(), rejection.reason))
        .collect();
    let expected = BTreeMap::from([
        ("i-auto", "ManagedInstance"),
        ("i-full", "NoFreeSlot"),
        ("i-gone", "InstanceNotFound"),
        ("i-two", "MultipleInterfaces"),
    ]);
    assert_eq!(reasons, expected);
    assert_eq!(attachments(&compiled).into_keys().collect::<Vec<_>>(), [&id("i-ok")]);
}

#[test]
fn a_cluster_name_in_capitals_makes_the_name_that_ec2_would_compare() {
    let a = id("i-a");
    let config = AwsConfig::new("PROD");
    let groups = desired([group("web", &["tcp/80 0.0.0.0/0"], &[&a])]);
    let compiled = super::compile(&groups, &inventory(&[("i-a", &["sg-nodes"])]), &config);
    assert!(security_groups(&compiled)[0].name.name.starts_with("hostport-firewall-prod-"));
}

#[test]
fn open_egress_and_strays_count_as_reach_so_that_no_plan_attaches_them() {
    let a = id("i-a");
    let mut compiled =
        compile([group("web", &["tcp/80 0.0.0.0/0"], &[&a])], &inventory(&[("i-a", &["sg-nodes"])]));
    let wanted = AwsResource::reach(&compiled.resources, &a);
    for resource in compiled.resources.values_mut() {
        if let AwsResource::SecurityGroup(group) = resource {
            group.egress = Egress::Open;
        }
    }
    let wider = AwsResource::reach(&compiled.resources, &a);
    assert!(!wanted.covers(&wider) && wider.covers(&wanted));
    assert_eq!(wider.rules, [rule("tcp/80 0.0.0.0/0")].into_iter().collect());
}
