//! Tags and descriptions: the marks by which everything we own is known.

use aws_sdk_ec2::types::{ResourceType, Tag, TagSpecification};

/// The tag whose value is the cluster that owns a group or a rule.
pub const CLUSTER_TAG: &str = "hostport-firewall.dev/cluster";

/// The tag that says which firewall groups a group or a rule serves.
pub(crate) const GROUP_TAG: &str = "hostport-firewall.dev/group";

/// Tag keys of the node groups that Kubernetes' cloud controllers look for. We set none of them: the
/// controllers fail on an instance that has two groups with one.
const NODE_GROUP_TAG: &str = "kubernetes.io/cluster/";

/// EC2's limit for a tag's value, in characters.
const TAG_VALUE: usize = 256;

/// EC2's limit for the description of a group or of a rule.
const DESCRIPTION: usize = 255;

/// The value of a tag.
pub(crate) fn value<'a>(tags: &'a [Tag], key: &str) -> Option<&'a str> {
    tags.iter().find(|tag| tag.key() == Some(key)).and_then(Tag::value)
}

/// Whether the tags mark something as the cluster's.
pub(crate) fn is_ours(tags: &[Tag], cluster: &str) -> bool {
    value(tags, CLUSTER_TAG) == Some(cluster)
}

/// Whether the tags mark the group by which cloud controllers know a cluster's nodes.
pub(crate) fn is_node_group(tags: &[Tag]) -> bool {
    tags.iter().filter_map(Tag::key).any(|key| key.starts_with(NODE_GROUP_TAG))
}

/// The tags of a new security group.
pub(crate) fn of_group(cluster: &str, label: &str, name: &str) -> TagSpecification {
    specification(ResourceType::SecurityGroup, &[(CLUSTER_TAG, cluster), (GROUP_TAG, label), ("Name", name)])
}

/// The tags of new rules.
pub(crate) fn of_rules(cluster: &str, label: &str) -> TagSpecification {
    specification(ResourceType::SecurityGroupRule, &[(CLUSTER_TAG, cluster), (GROUP_TAG, label)])
}

fn specification(kind: ResourceType, tags: &[(&str, &str)]) -> TagSpecification {
    let tag = |(key, value): &(&str, &str)| Tag::builder().key(*key).value(*value).build();
    TagSpecification::builder().resource_type(kind).set_tags(Some(tags.iter().map(tag).collect())).build()
}

/// Texts joined to a tag value that people can read.
pub(crate) fn label<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let joined = texts.into_iter().map(String::as_str).collect::<Vec<_>>().join("; ");
    shortened(&joined, TAG_VALUE)
}

/// The text as a description: of EC2's characters, and not too long.
pub(crate) fn description(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || " ._-:/()#,@[]+=;{}!$*".contains(c);
    let clean: String = text.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    shortened(&clean, DESCRIPTION)
}

fn shortened(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    text.chars().take(limit - 3).chain("...".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_group_of_ours_carries_a_tag_that_cloud_controllers_look_for() {
        let tags = of_group("prod", "Deployment default/web tcp/80", "hostport-firewall-prod-0");
        let keys: Vec<_> = tags.tags().iter().filter_map(Tag::key).collect();
        assert_eq!(keys, [CLUSTER_TAG, GROUP_TAG, "Name"]);
        assert!(!is_node_group(tags.tags()));
        assert!(is_ours(tags.tags(), "prod") && !is_ours(tags.tags(), "production"));
    }

    #[test]
    fn descriptions_and_labels_keep_to_ec2s_limits() {
        assert_eq!(description("a & \"b\" é"), "a _ _b_ _");
        assert_eq!(description(&"x".repeat(300)).len(), 255);
        let long = ["é".repeat(200), "é".repeat(200)];
        assert_eq!(label(&long).chars().count(), 256);
    }
}
