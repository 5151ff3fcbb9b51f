//! The administrator's settings for AWS, and their validation.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::ownership::{self, Marks};

/// The way in which rules are applied to the instances.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// Security groups of our own, attached to the instances' primary interfaces.
    Attach,
    /// Rules of our own in security groups that the user names; nothing is created or attached.
    Shared(SharedTargets),
}

/// The user's security groups that may hold our rules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SharedTargets {
    /// Groups by id
    pub ids: BTreeSet<String>,
    /// Groups by tag: key and value
    pub tag: Option<(String, String)>,
}

/// Configuration of the AWS provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwsConfig {
    /// The cluster's name, with which everything that we own is tagged
    pub cluster: String,
    /// The way in which rules are applied to the instances
    pub mode: Mode,
    /// Security groups that an interface may have. Default 5; the quota "Security groups per network
    /// interface" can be raised to 16.
    pub slots_per_interface: usize,
    /// Ingress rules that a group may have, IPv4 and IPv6 counted apart. Default 60; the quota is "Inbound or
    /// outbound rules per security group", and rules × slots must not exceed 1,000.
    pub rules_per_group: usize,
    /// True to attach also where the interface's only other group carries no `kubernetes.io/cluster/…` tag,
    /// although that breaks cloud-provider-aws and aws-load-balancer-controller if the cluster runs them.
    pub allow_untagged_node_groups: bool,
    /// True to attach also to instances of Karpenter and Cluster API, although the one replaces such nodes and the
    /// other takes the group off again.
    pub allow_provisioned_instances: bool,
    /// True to ask for the interfaces of one group at a time. `LocalStack` and moto take several values of
    /// the filter `group-id` for "all of these", where EC2 means "any of these".
    /// [`Aws::connect`](crate::Aws::connect) sets it where the endpoint is not AWS's own.
    pub one_group_per_filter: bool,
    /// The share of each of EC2's limits on calls that may be used, in percent. Default 50: the limits belong to
    /// the account and Region, and cloud controllers and autoscalers live on them too.
    pub api_rate_percent: u32,
    /// Tags of all that is created, beside the controller's own: an account's policy can demand some. What is there
    /// already keeps the tags that it has.
    pub tags: Vec<(String, String)>,
    /// The Region; by default from the environment, the profile or the instance itself
    pub region: Option<String>,
}

impl AwsConfig {
    /// Returns the defaults, for mode `attach`.
    pub fn new(cluster: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            mode: Mode::Attach,
            slots_per_interface: 5,
            rules_per_group: 60,
            allow_untagged_node_groups: false,
            allow_provisioned_instances: false,
            one_group_per_filter: false,
            api_rate_percent: 50,
            tags: Vec::new(),
            region: None,
        }
    }

    /// Returns the marks of what is created.
    pub(crate) fn marks(&self) -> Marks<'_> {
        Marks { cluster: &self.cluster, further: &self.tags }
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field with an impossible value, with the values that it may have.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let is_allowed = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        if self.cluster.is_empty() || self.cluster.len() > 100 || !self.cluster.chars().all(is_allowed) {
            return Err(ConfigError::Cluster(self.cluster.clone()));
        }
        if !(1..=16).contains(&self.slots_per_interface) {
            return Err(ConfigError::Slots(self.slots_per_interface));
        }
        if self.rules_per_group == 0 || self.rules_per_group * self.slots_per_interface > 1000 {
            return Err(ConfigError::Rules { rules: self.rules_per_group, slots: self.slots_per_interface });
        }
        if !(1..=100).contains(&self.api_rate_percent) {
            return Err(ConfigError::ApiRate(self.api_rate_percent));
        }
        if self.tags.len() > MAX_TAGS {
            return Err(ConfigError::TooManyTags(self.tags.len()));
        }
        if let Some((key, value)) = self.tags.iter().find(|(key, value)| !is_free_tag(key, value)) {
            return Err(ConfigError::Tag(format!("{key}={value}")));
        }
        let mut keys = BTreeSet::new();
        if let Some((key, _)) = self.tags.iter().find(|(key, _)| !keys.insert(key)) {
            return Err(ConfigError::TagTwice(key.clone()));
        }
        match &self.mode {
            Mode::Shared(SharedTargets { ids, tag: None }) if ids.is_empty() => Err(ConfigError::NoTarget),
            Mode::Shared(SharedTargets { ids, .. }) => match ids.iter().find(|id| !is_group_id(id)) {
                Some(id) => Err(ConfigError::GroupId(id.clone())),
                None => Ok(()),
            },
            Mode::Attach => Ok(()),
        }
    }
}

/// The most tags beside our own three: EC2 allows 50.
const MAX_TAGS: usize = 47;

/// Returns true if EC2 takes the tag, and it is nobody's own.
fn is_free_tag(key: &str, value: &str) -> bool {
    let is_allowed = |text: &str| text.chars().all(|c| c.is_alphanumeric() || " _.:/=+-@".contains(c));
    (1..=128).contains(&key.chars().count())
        && value.chars().count() <= 256
        && is_allowed(key)
        && is_allowed(value)
        && !ownership::is_reserved_key(key)
}

fn is_group_id(id: &str) -> bool {
    id.strip_prefix("sg-").is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_hexdigit()))
}

/// An impossible value in an [`AwsConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The cluster's name cannot be part of a security group's name.
    #[error("cluster name {0:?} must be 1 to 100 letters, digits, dots, underscores, slashes or hyphens")]
    Cluster(String),
    /// A number of groups per interface that AWS does not allow.
    #[error("{0} security groups per interface: AWS allows 1 to 16")]
    Slots(usize),
    /// A number of rules per group that AWS does not allow.
    #[error("{rules} rules per group × {slots} groups per interface must be at least 1 and at most 1,000")]
    Rules {
        /// Rules per group
        rules: usize,
        /// Groups per interface
        slots: usize,
    },
    /// A share of the limits on calls that is none.
    #[error("{0} percent of EC2's limits on calls: use 1 to 100")]
    ApiRate(u32),
    /// A tag that EC2 does not take, or that is not free.
    #[error(
        "tag {0:?}: a key has 1 to 128 and a value up to 256 letters, digits, spaces and _.:/=+-@; Name, aws:…, \
         hostport-firewall.dev/…, kubernetes.io/cluster/… and karpenter.sh/discovery are taken"
    )]
    Tag(String),
    /// A tag with two values.
    #[error("tag {0:?} is given twice")]
    TagTwice(String),
    /// More tags than EC2 allows.
    #[error("{0} tags: EC2 allows {MAX_TAGS} beside those of the controller")]
    TooManyTags(usize),
    /// Mode `shared` without a target.
    #[error("mode shared needs the security groups to use: name their ids or a tag that they carry")]
    NoTarget,
    /// Not an id of a security group.
    #[error("{0:?} is not the id of a security group; it looks like sg-0123456789abcdef0")]
    GroupId(String),
}

/// The reason why no connection to EC2 could be set up.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConnectError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Neither the configuration nor the environment names a Region.
    #[error("no AWS Region: set it in the configuration or in AWS_REGION, or run on an EC2 instance")]
    NoRegion,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_configuration_is_rejected_with_its_field() {
        let base = AwsConfig::new("prod.eu-west-1/a_b");
        assert_eq!(base.validate(), Ok(()));
        let cluster = |cluster: &str| AwsConfig { cluster: cluster.into(), ..base.clone() };
        let shared = |ids: &[&str]| {
            let ids = ids.iter().map(ToString::to_string).collect();
            AwsConfig { mode: Mode::Shared(SharedTargets { ids, tag: None }), ..base.clone() }
        };
        let tagged =
            |key: &str, value: &str| AwsConfig { tags: vec![(key.into(), value.into())], ..base.clone() };
        assert_eq!(tagged("cost-center", "7: shops+games").validate(), Ok(()));
        let twice = ["1", "2"].map(|value| ("a".to_owned(), value.to_owned())).to_vec();
        let many = (0..48).map(|number| (number.to_string(), String::new())).collect();
        let cases = [
            (cluster(""), ConfigError::Cluster(String::new())),
            (cluster("a b"), ConfigError::Cluster("a b".into())),
            (cluster(&"a".repeat(101)), ConfigError::Cluster("a".repeat(101))),
            (AwsConfig { slots_per_interface: 17, ..base.clone() }, ConfigError::Slots(17)),
            (AwsConfig { rules_per_group: 201, ..base.clone() }, ConfigError::Rules { rules: 201, slots: 5 }),
            (AwsConfig { rules_per_group: 0, ..base.clone() }, ConfigError::Rules { rules: 0, slots: 5 }),
            (tagged("Name", "x"), ConfigError::Tag("Name=x".into())),
            (
                tagged("kubernetes.io/cluster/prod", ""),
                ConfigError::Tag("kubernetes.io/cluster/prod=".into()),
            ),
            (tagged("AWS:team", "x"), ConfigError::Tag("AWS:team=x".into())),
            (tagged("", "x"), ConfigError::Tag("=x".into())),
            (tagged("team", "a;b"), ConfigError::Tag("team=a;b".into())),
            (AwsConfig { tags: twice, ..base.clone() }, ConfigError::TagTwice("a".into())),
            (AwsConfig { tags: many, ..base.clone() }, ConfigError::TooManyTags(48)),
            (AwsConfig { api_rate_percent: 0, ..base.clone() }, ConfigError::ApiRate(0)),
            (AwsConfig { api_rate_percent: 101, ..base.clone() }, ConfigError::ApiRate(101)),
            (shared(&[]), ConfigError::NoTarget),
            (shared(&["sg-1", "web"]), ConfigError::GroupId("web".into())),
        ];
        for (config, error) in cases {
            assert_eq!(config.validate(), Err(error));
        }
    }
}
