//! Tags and descriptions, by which everything that this cluster owns is known.

use std::collections::BTreeSet;

use aws_sdk_ec2::types::{ResourceType, SecurityGroup, Tag, TagSpecification};
use firewall_core::{GroupLabel, PortRange, Protocol};

/// The tag whose value is the cluster that owns a group or a rule.
pub const CLUSTER_TAG: &str = "hostport-firewall.dev/cluster";

/// The tag that names the firewall groups that a group or a rule serves.
pub(crate) const GROUP_TAG: &str = "hostport-firewall.dev/group";

/// The beginning of the tag keys by which Kubernetes' cloud controllers find the nodes' own group. We set
/// none of them: the controllers fail on an instance that has two groups with one.
const NODE_GROUP_TAG: &str = "kubernetes.io/cluster/";

/// EC2's limit for a tag's value, in characters.
const MAX_TAG_VALUE: usize = 256;

/// EC2's limit for the description of a group or of a rule, in characters.
const MAX_DESCRIPTION: usize = 255;

/// Returns the value of a tag.
pub(crate) fn tag_value<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value)
}

/// Returns true if the tags name the cluster as the owner.
pub(crate) fn is_ours(tags: &[Tag], cluster: &str) -> bool {
    tag_value(tags, CLUSTER_TAG) == Some(cluster)
}

/// Returns the beginning of the names of a cluster's security groups, in lower case: EC2 compares names without regard
/// to it.
pub(crate) fn group_name_prefix(cluster: &str) -> String {
    format!("hostport-firewall-{}-", cluster.to_ascii_lowercase())
}

/// Returns true if the security group is the cluster's: it has its tag, and a name that the controller gives. A tag
/// alone is soon copied, by a person or with a module, and a group that others rely on would be detached and deleted.
pub(crate) fn is_own_group(group: &SecurityGroup, cluster: &str) -> bool {
    is_ours(group.tags(), cluster) && has_own_name(group, cluster)
}

/// Returns true if the security group has a name that the controller gives.
pub(crate) fn has_own_name(group: &SecurityGroup, cluster: &str) -> bool {
    group.group_name().is_some_and(|name| name.to_ascii_lowercase().starts_with(&group_name_prefix(cluster)))
}

/// Returns true if the tags are those by which cloud controllers find a cluster's nodes.
pub(crate) fn is_node_group(tags: &[Tag]) -> bool {
    tags.iter().filter_map(Tag::key).any(|key| key.starts_with(NODE_GROUP_TAG))
}

/// Returns true if nobody but the controller and EC2 may give its groups and rules a tag with this key.
pub(crate) fn is_reserved_key(key: &str) -> bool {
    // Karpenter would find our groups by it, and give them to nodes.
    let prefixes = ["aws:", "hostport-firewall.dev/", NODE_GROUP_TAG, "karpenter.sh/discovery"];
    key == "Name" || prefixes.iter().any(|prefix| key.to_ascii_lowercase().starts_with(prefix))
}

/// The marks of what is created: the cluster's name, and the administrator's tags.
#[derive(Clone, Copy)]
pub(crate) struct Marks<'a> {
    pub(crate) cluster: &'a str,
    pub(crate) further: &'a [(String, String)],
}

/// Returns the tags of a new security group.
pub(crate) fn group_tags(marks: Marks<'_>, label: &str, name: &str) -> TagSpecification {
    specification(marks, ResourceType::SecurityGroup, &[(GROUP_TAG, label), ("Name", name)])
}

/// Returns the tags of new rules.
pub(crate) fn rule_tags(marks: Marks<'_>, label: &str) -> TagSpecification {
    specification(marks, ResourceType::SecurityGroupRule, &[(GROUP_TAG, label)])
}

fn specification(marks: Marks<'_>, kind: ResourceType, tags: &[(&str, &str)]) -> TagSpecification {
    let tag = |(key, value): (&str, &str)| Tag::builder().key(key).value(value).build();
    let further = marks.further.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let all = [(CLUSTER_TAG, marks.cluster)].into_iter().chain(tags.iter().copied()).chain(further);
    TagSpecification::builder().resource_type(kind).set_tags(Some(all.map(tag).collect())).build()
}

/// Joins texts to a tag value that people can read.
pub(crate) fn join_label<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let joined = texts.into_iter().map(String::as_str).collect::<Vec<_>>().join("; ");
    shorten(&joined, MAX_TAG_VALUE)
}

/// Returns the label of those of the firewall groups that have some of these ports; of all, if none is known to.
pub(crate) fn label_of_ports(groups: &BTreeSet<String>, protocol: Protocol, ports: PortRange) -> String {
    let has_port = |text: &&String| {
        let own = GroupLabel::read(text).into_iter().flat_map(|label| label.ports);
        own.into_iter().any(|(other, own)| other == protocol && own.intersection(ports).is_some())
    };
    let having = join_label(groups.iter().filter(has_port));
    if having.is_empty() { join_label(groups) } else { having }
}

/// Returns the text as a description: with EC2's characters only, and within its limit.
pub(crate) fn clean_description(text: &str) -> String {
    let is_allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=;{}!$*".contains(c);
    let clean: String = text.chars().map(|c| if is_allowed(c) { c } else { '_' }).collect();
    shorten(&clean, MAX_DESCRIPTION)
}

fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_group_carries_no_tag_that_cloud_controllers_look_for() {
        let further = [("cost-center".to_owned(), "7".to_owned())];
        let marks = Marks { cluster: "prod", further: &further };
        let tags = group_tags(marks, "Deployment default/web tcp/80", "hostport-firewall-prod-0");
        let keys: Vec<_> = tags.tags().iter().filter_map(Tag::key).collect();
        assert_eq!(keys, [CLUSTER_TAG, GROUP_TAG, "Name", "cost-center"]);
        assert!(!is_node_group(tags.tags()));
        assert!(is_ours(tags.tags(), "prod") && !is_ours(tags.tags(), "production"));
    }

    #[test]
    fn label_of_ports_names_the_groups_that_have_them() {
        let [web, dns] = ["Deployment shop/web tcp/80-81,tcp/443", "DaemonSet kube/dns udp/53"];
        let groups = BTreeSet::from([web, dns].map(str::to_owned));
        let port = |first, last| PortRange::new(first, last).unwrap();
        assert_eq!(label_of_ports(&groups, Protocol::Tcp, port(81, 90)), web);
        assert_eq!(label_of_ports(&groups, Protocol::Udp, port(53, 53)), dns);
        assert_eq!(label_of_ports(&groups, Protocol::Udp, port(80, 80)), format!("{dns}; {web}"));
    }

    #[test]
    fn descriptions_and_labels_keep_to_ec2s_limits() {
        assert_eq!(clean_description("a & \"b\" é"), "a _ _b_ _");
        assert_eq!(clean_description(&"x".repeat(300)).len(), 255);
        let long = ["é".repeat(200), "é".repeat(200)];
        assert_eq!(join_label(&long).chars().count(), 256);
    }
}
