//! What the administrator sets for Google Cloud, and what is wrong with it if something is.

use std::collections::BTreeSet;

use thiserror::Error;

use crate::network::{Network, NetworkError, is_name, is_project};
use crate::resource::Capacity;

/// Ports and port ranges that one rule may have, as documented.
const PORTS_PER_RULE: usize = 100;

/// Tags that one instance may have, as documented.
pub(crate) const TAGS_PER_INSTANCE: usize = 64;

/// How the rules find the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// By the members' internal addresses, in the rules' destination ranges. No instance is touched.
    Destination,
    /// By network tags that are set on the members.
    Tags,
}

/// Configuration of the GCE provider.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GceConfig {
    /// The cluster's name, by which everything we own is marked
    pub cluster: String,
    /// How the rules find the instances
    pub mode: Mode,
    /// The project of the instances
    pub project: String,
    /// The project of the rules: the host project of a Shared VPC. The instances' own if `None`.
    pub network_project: Option<String>,
    /// The network, by name or full or partial URL. If `None`, the network of each instance's first interface.
    pub network: Option<String>,
    /// Rules apply only to instances that carry one of these tags too; mode `destination` only.
    pub target_tags: BTreeSet<String>,
    /// Priority of the rules, 0 to 65535; a lower number goes first. Default 1000.
    pub priority: u16,
    /// Source ranges, and destination ranges, that one rule may have. Default 250: 5,000 are documented, other
    /// sources say 256.
    pub ranges_per_rule: usize,
    /// URL of another Compute Engine API, `https://compute.googleapis.com` if `None`
    pub endpoint: Option<String>,
}

impl GceConfig {
    /// The defaults, for mode `destination`.
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
            endpoint: None,
        }
    }

    /// The project in which rules are made.
    #[must_use]
    pub fn rule_project(&self) -> &str {
        self.network_project.as_deref().unwrap_or(&self.project)
    }

    pub(crate) const fn capacity(&self) -> Capacity {
        Capacity { ranges: self.ranges_per_rule, ports: PORTS_PER_RULE }
    }

    /// The network that was named, if one was.
    ///
    /// # Errors
    /// If what was named is no network.
    pub fn chosen_network(&self) -> Result<Option<Network>, NetworkError> {
        self.network.as_deref().map(|text| Network::parse(text, self.rule_project())).transpose()
    }

    /// Checks every field.
    ///
    /// # Errors
    /// The first field that cannot be right, with what it may be.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "._/-".contains(c);
        if self.cluster.is_empty() || self.cluster.len() > 100 || !self.cluster.chars().all(plain) {
            return Err(ConfigError::Cluster(self.cluster.clone()));
        }
        if let Some(project) = [Some(&self.project), self.network_project.as_ref()]
            .into_iter()
            .flatten()
            .find(|p| !is_project_id(p))
        {
            return Err(ConfigError::Project(project.clone()));
        }
        if let Some(network) = self.chosen_network()?
            && network.project != self.rule_project()
        {
            return Err(ConfigError::NetworkElsewhere(network));
        }
        if let Some(tag) = self.target_tags.iter().find(|tag| !is_name(tag)) {
            return Err(ConfigError::Tag(tag.clone()));
        }
        if self.target_tags.len() > 70 {
            return Err(ConfigError::Tags(self.target_tags.len()));
        }
        if self.mode == Mode::Tags && !self.target_tags.is_empty() {
            return Err(ConfigError::TagsTwice);
        }
        if !(1..=5000).contains(&self.ranges_per_rule) {
            return Err(ConfigError::Ranges(self.ranges_per_rule));
        }
        Ok(())
    }
}

fn is_project_id(text: &str) -> bool {
    is_project(text) && !text.bytes().all(|b| b.is_ascii_digit())
}

/// What is wrong with a [`GceConfig`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// The cluster's name is too long or has characters that a description should not have.
    #[error("cluster name {0:?} must be 1 to 100 letters, digits, dots, underscores, slashes or hyphens")]
    Cluster(String),
    /// Not a project's id. Its number would do for Google, but nodes and networks are known by the id.
    #[error("{0:?} is not the id of a project; write the id, for example my-project, and not the number")]
    Project(String),
    /// Not a network.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// The network belongs to another project than the one in which rules are to be made.
    #[error(
        "network {0} belongs to project {project}; if it is shared with the instances' project (Shared VPC), say \
         --gce-network-project {project}", project = .0.project
    )]
    NetworkElsewhere(Network),
    /// Not a network tag.
    #[error(
        "{0:?} is not a network tag: 1 to 63 lowercase letters, digits and hyphens, beginning with a letter"
    )]
    Tag(String),
    /// Too many target tags.
    #[error("{0} target tags: a firewall rule can have 70")]
    Tags(usize),
    /// Target tags in mode `tags`, where the mode sets the rules' target tags itself.
    #[error("target tags cannot be combined with mode tags, which finds the instances by tags of its own")]
    TagsTwice,
    /// No such number of ranges in a rule.
    #[error(
        "{0} ranges in a rule: Google allows at most 5,000 sources and 5,000 destinations, and 1 is the least"
    )]
    Ranges(usize),
}

/// Why no connection to Compute Engine could be set up.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// The configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// There are no credentials, or they cannot be used.
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
    fn a_configuration_that_cannot_be_right_says_why() {
        let base = GceConfig::new("prod", "my-project");
        assert_eq!(base.validate(), Ok(()));
        let with = |change: fn(&mut GceConfig)| {
            let mut config = base.clone();
            change(&mut config);
            config.validate().expect_err("refused")
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
                ConfigError::NetworkElsewhere(network),
            ),
            (with(|c| c.target_tags = BTreeSet::from(["Web".into()])), ConfigError::Tag("Web".into())),
            (
                with(|c| {
                    c.mode = Mode::Tags;
                    c.target_tags = BTreeSet::from(["web".into()]);
                }),
                ConfigError::TagsTwice,
            ),
            (with(|c| c.target_tags = (0..71).map(|i| format!("t{i}")).collect()), ConfigError::Tags(71)),
            (with(|c| c.ranges_per_rule = 5001), ConfigError::Ranges(5001)),
        ];
        for (error, expected) in cases {
            assert_eq!(error, expected);
        }
    }

    #[test]
    fn a_network_named_without_a_project_is_in_the_project_of_the_rules() {
        let mut config = GceConfig { network: Some("web".into()), ..GceConfig::new("prod", "service") };
        assert_eq!(config.chosen_network().unwrap().unwrap().project, "service");
        config.network_project = Some("host".into());
        assert_eq!(config.chosen_network().unwrap().unwrap().project, "host");
    }
}
