//! The administrator's configuration of the GCE provider, and its validation.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::network::{Network, NetworkError, is_name, is_project};
use crate::resource::RuleCapacity;

/// Most ports and port ranges that one rule may have, as Google documents.
const PORTS_PER_RULE: usize = 100;

/// Most target tags that one rule may have, as Google documents.
const TARGET_TAGS_PER_RULE: usize = 70;

/// Most network tags that one instance may have, as Google documents.
pub(crate) const TAGS_PER_INSTANCE: usize = 64;

/// The means by which rules select their instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the members' internal addresses, in the rules' destination ranges. No instance is changed.
    Destination,
    /// By network tags, which are set on the members.
    Tags,
}

/// The configuration of the GCE provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GceConfig {
    /// The cluster's name, which is part of the ownership mark of all its resources
    pub cluster: String,
    /// The means by which rules select their instances
    pub mode: Mode,
    /// The project of the instances
    pub project: String,
    /// The project of the rules: the host project of a Shared VPC. If `None`, the project of the instances.
    pub network_project: Option<String>,
    /// The network, by name or full or partial URL. If `None`, the network of each instance's first
    /// interface.
    pub network: Option<String>,
    /// Network tags of which an instance must carry one for the rules to apply to it; mode `destination`
    /// only.
    pub target_tags: BTreeSet<String>,
    /// Priority of the rules, 0 to 65535; a lower number takes precedence. Default 1000.
    pub priority: u16,
    /// Most source ranges, and most destination ranges, that one rule may have. Default 250: Google documents
    /// 5,000, other sources state 256.
    pub ranges_per_rule: usize,
    /// The share of each of the project's quotas of calls that may be used, in percent. Default 50: the cloud
    /// controllers and the autoscaler live on them too.
    pub api_rate_percent: u32,
    /// URL of another Compute Engine API, `https://compute.googleapis.com` if `None`
    pub endpoint: Option<String>,
}

impl GceConfig {
    /// Returns the defaults, for mode `destination`.
    pub fn new(cluster: impl Into<String>, project: impl Into<String>) -> Self {
        Self {
            cluster: cluster.into(),
            mode: Mode::Destination,
            project: project.into(),
            network_project: None,
            network: None,
            target_tags: BTreeSet::new(),
            priority: 1000,
            ranges_per_rule: 250,
            api_rate_percent: 50,
            endpoint: None,
        }
    }

    /// Returns the project in which rules are created.
    #[must_use]
    pub fn rule_project(&self) -> &str {
        self.network_project.as_deref().unwrap_or(&self.project)
    }

    /// Returns the capacity of every rule.
    pub(crate) const fn rule_capacity(&self) -> RuleCapacity {
        RuleCapacity { ranges: self.ranges_per_rule, ports: PORTS_PER_RULE }
    }

    /// Returns the configured network, if there is one.
    ///
    /// # Errors
    /// If the configured text names no network.
    pub fn configured_network(&self) -> Result<Option<Network>, NetworkError> {
        self.network.as_deref().map(|text| Network::parse(text, self.rule_project())).transpose()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// Of the first invalid field, with its valid values.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        if self.cluster.is_empty() || self.cluster.len() > 100 || !self.cluster.chars().all(allowed) {
            return Err(ConfigError::Cluster(self.cluster.clone()));
        }
        if let Some(project) = [Some(&self.project), self.network_project.as_ref()]
            .into_iter()
            .flatten()
            .find(|p| !is_project_id(p))
        {
            return Err(ConfigError::Project(project.clone()));
        }
        if let Some(network) = self.configured_network()?
            && network.project != self.rule_project()
        {
            return Err(ConfigError::NetworkInOtherProject(network));
        }
        if let Some(tag) = self.target_tags.iter().find(|tag| !is_name(tag)) {
            return Err(ConfigError::TargetTag(tag.clone()));
        }
        if self.target_tags.len() > TARGET_TAGS_PER_RULE {
            return Err(ConfigError::TooManyTargetTags(self.target_tags.len()));
        }
        if self.mode == Mode::Tags && !self.target_tags.is_empty() {
            return Err(ConfigError::TargetTagsInTagsMode);
        }
        if !(1..=100).contains(&self.api_rate_percent) {
            return Err(ConfigError::ApiRate(self.api_rate_percent));
        }
        if !(1..=5000).contains(&self.ranges_per_rule) {
            return Err(ConfigError::RangesPerRule(self.ranges_per_rule));
        }
        Ok(())
    }
}

fn is_project_id(text: &str) -> bool {
    is_project(text) && !text.bytes().all(|b| b.is_ascii_digit())
}

/// The defects that a [`GceConfig`] can have.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The cluster's name is empty, too long, or has characters that a rule's description should not have.
    #[error("cluster name {0:?} must be 1 to 100 letters, digits, dots, underscores, slashes or hyphens")]
    Cluster(String),
    /// The text is not a project's id. Google accepts its number too, but nodes and networks name it by the
    /// id.
    #[error("{0:?} is not the id of a project; write the id, for example my-project, and not the number")]
    Project(String),
    /// The text names no network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The network belongs to another project than the one in which rules are created.
    #[error(
        "network {0} belongs to project {project}; if it is shared with the instances' project (Shared VPC), set \
         --gce-network-project {project}", project = .0.project
    )]
    NetworkInOtherProject(Network),
    /// The text is not a network tag.
    #[error(
        "{0:?} is not a network tag: 1 to 63 lowercase letters, digits and hyphens, beginning with a letter"
    )]
    TargetTag(String),
    /// There are more target tags than a rule can have.
    #[error("{0} target tags: a firewall rule can have {TARGET_TAGS_PER_RULE}")]
    TooManyTargetTags(usize),
    /// There are target tags in mode `tags`, which sets the rules' target tags itself.
    #[error("target tags cannot be combined with mode tags, which selects the instances by tags of its own")]
    TargetTagsInTagsMode,
    /// The share of the quotas of calls is none.
    #[error("{0} percent of the project's quotas of calls: use 1 to 100")]
    ApiRate(u32),
    /// The number of ranges per rule is out of bounds.
    #[error(
        "{0} ranges per rule: must be between 1 and 5,000, the most source or destination ranges that Google allows"
    )]
    RangesPerRule(usize),
}

/// The causes for which no connection to Compute Engine can be set up.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are no usable credentials.
    #[error(
        "no Google Cloud credentials: attach a service account, set up Workload Identity, or set \
         GOOGLE_APPLICATION_CREDENTIALS to a key file: {0}"
    )]
    Credentials(#[source] google_cloud_gax::client_builder::Error),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_configuration_names_the_defect() {
        let base = GceConfig::new("prod", "my-project");
        assert_eq!(base.validate(), Ok(()));
        let with = |change: fn(&mut GceConfig)| {
            let mut config = base.clone();
            change(&mut config);
            config.validate().expect_err("an invalid configuration")
        };
        let network = Network { project: "host".into(), name: "web".into() };
        let cases = [
            (with(|c| c.cluster = "a b".into()), ConfigError::Cluster("a b".into())),
            (with(|c| c.project = "My".into()), ConfigError::Project("My".into())),
            (with(|c| c.project = "123456789".into()), ConfigError::Project("123456789".into())),
            (with(|c| c.network_project = Some("a/b".into())), ConfigError::Project("a/b".into())),
            (with(|c| c.network = Some("a/b".into())), ConfigError::Network(NetworkError("a/b".into()))),
            (
                with(|c| c.network = Some("projects/host/global/networks/web".into())),
                ConfigError::NetworkInOtherProject(network),
            ),
            (with(|c| c.target_tags = BTreeSet::from(["Web".into()])), ConfigError::TargetTag("Web".into())),
            (
                with(|c| {
                    c.mode = Mode::Tags;
                    c.target_tags = BTreeSet::from(["web".into()]);
                }),
                ConfigError::TargetTagsInTagsMode,
            ),
            (
                with(|c| c.target_tags = (0..71).map(|i| format!("t{i}")).collect()),
                ConfigError::TooManyTargetTags(71),
            ),
            (with(|c| c.api_rate_percent = 0), ConfigError::ApiRate(0)),
            (with(|c| c.ranges_per_rule = 5001), ConfigError::RangesPerRule(5001)),
        ];
        for (error, expected) in cases {
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn network_without_a_project_is_in_the_project_of_the_rules() {
        let mut config = GceConfig { network: Some("web".into()), ..GceConfig::new("prod", "service") };
        assert_eq!(config.configured_network().unwrap().unwrap().project, "service");
        config.network_project = Some("host".into());
        assert_eq!(config.configured_network().unwrap().unwrap().project, "host");
    }
}
