//! Flags: the cluster and its clouds, which all commands share.

use std::collections::BTreeSet;

use clap::{Args, ValueEnum};
use firewall_aws::{AwsConfig, Mode, SharedTargets};
use firewall_gce::GceConfig;

use crate::controller::clouds::{Choice, CloudConfig, CloudsConfig};
use crate::desired::claims::{AWS, CloudName, GCE};

/// The cluster and its clouds.
#[derive(Args, Debug)]
pub struct CloudArgs {
    /// Name that marks this cluster's resources in the cloud; must be unique in the cloud account
    #[arg(long, env = "HOSTPORT_FIREWALL_CLUSTER_NAME", value_name = "NAME", value_parser = cluster_name)]
    pub cluster_name: String,
    /// Clouds to manage; `auto` detects them from the environment: AWS by a Region, Google Cloud by a project
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        value_name = "auto|aws|gce|aws,gce",
        default_value = "auto",
        hide_possible_values = true
    )]
    pub providers: Vec<ProviderName>,
    /// Share of each of the cloud's limits on API calls to use, in percent; the limits belong to the account or
    /// project, and cloud controllers and autoscalers live on them too
    #[arg(long, value_name = "PERCENT", default_value_t = 50,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    pub api_rate_percent: u32,
    /// Mode on AWS: groups of the controller's own, or rules in yours
    #[arg(long, value_enum, default_value_t = AwsMode::Attach, help_heading = "AWS")]
    pub aws_mode: AwsMode,
    /// Security group to put rules into, in mode `shared`; can be repeated
    #[arg(long, value_name = "ID", help_heading = "AWS")]
    pub aws_shared_group: Vec<String>,
    /// Put rules into the security groups with this tag, in mode `shared`
    #[arg(long, value_name = "KEY=VALUE", value_parser = key_value, help_heading = "AWS")]
    pub aws_shared_tag: Option<(String, String)>,
    /// Region; by default from the environment, the profile, or the instance
    #[arg(long, value_name = "REGION", help_heading = "AWS")]
    pub aws_region: Option<String>,
    /// Security groups that an interface can have, as the account's quota says
    #[arg(long, value_name = "COUNT", default_value_t = 5, help_heading = "AWS",
          value_parser = clap::value_parser!(u8).range(1..=16))]
    pub aws_groups_per_interface: u8,
    /// Ingress rules that a security group can have, per address family, as the account's quota says
    #[arg(long, value_name = "COUNT", default_value_t = 60, help_heading = "AWS",
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub aws_rules_per_group: u16,
    /// Add a second group even to interfaces whose only group has no `kubernetes.io/cluster/` tag; breaks the
    /// AWS cloud controllers, safe only where none runs
    #[arg(long, help_heading = "AWS")]
    pub aws_allow_untagged_node_groups: bool,
    /// Attach also to instances of Karpenter, which replaces nodes with another security group than its own, and of
    /// Cluster API, which takes it off again
    #[arg(long, help_heading = "AWS")]
    pub aws_allow_provisioned_instances: bool,
    /// Tags of all security groups and rules that are created, beside the controller's own; can be repeated
    #[arg(long, value_name = "KEY=VALUE,…", value_delimiter = ',', value_parser = key_value, help_heading = "AWS")]
    pub aws_tags: Vec<(String, String)>,
    /// Mode on Google Cloud: rules by address, or by network tag
    #[arg(long, value_enum, default_value_t = GceMode::Destination, help_heading = "Google Cloud")]
    pub gce_mode: GceMode,
    /// Project of the instances; by default `GOOGLE_CLOUD_PROJECT`, or the one of the machine that this runs
    /// on
    #[arg(long, value_name = "PROJECT", help_heading = "Google Cloud")]
    pub gce_project: Option<String>,
    /// Project of the rules, if the network belongs to another: the host project of a Shared VPC
    #[arg(long, value_name = "PROJECT", help_heading = "Google Cloud")]
    pub gce_network_project: Option<String>,
    /// Network, by name or full or partial URL; by default that of each instance's first interface
    #[arg(long, value_name = "NETWORK", help_heading = "Google Cloud")]
    pub gce_network: Option<String>,
    /// Let rules apply only to instances that have one of these network tags too; can be repeated
    #[arg(long, value_name = "TAG", help_heading = "Google Cloud")]
    pub gce_target_tag: Vec<String>,
    /// Priority of the rules: where a deny rule has the same or a lower number, it wins
    #[arg(long, value_name = "0-65535", default_value_t = 1000, help_heading = "Google Cloud")]
    pub gce_priority: u16,
    /// Source ranges, and destination ranges, that one rule can have
    #[arg(long, value_name = "COUNT", default_value_t = 250, help_heading = "Google Cloud",
          value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub gce_ranges_per_rule: u16,
    /// Address of the Compute Engine API
    #[arg(
        long,
        value_name = "URL",
        env = "CLOUDSDK_API_ENDPOINT_OVERRIDES_COMPUTE",
        help_heading = "Google Cloud"
    )]
    pub gce_endpoint: Option<String>,
}

/// A cloud, or those that the environment names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProviderName {
    /// Those that the environment names
    Auto,
    /// EC2 security groups
    Aws,
    /// VPC firewall rules of Google Compute Engine
    Gce,
}

/// Modes on Google Cloud.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum GceMode {
    /// By the nodes' internal addresses, in the rules' destination ranges; no instance is touched
    Destination,
    /// By network tags that are set on the nodes' instances
    Tags,
}

/// Modes on AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AwsMode {
    /// Own security groups, attached to the nodes' primary interfaces
    Attach,
    /// Rules in security groups that you manage and name
    Shared,
}

impl CloudArgs {
    /// Returns the configuration of the clouds.
    #[must_use]
    pub fn clouds(&self) -> CloudsConfig {
        let these = |name: &ProviderName| match name {
            ProviderName::Auto => None,
            ProviderName::Aws => Some(AWS),
            ProviderName::Gce => Some(GCE),
        };
        // `auto` among others says no more than alone.
        let these: Option<BTreeSet<CloudName>> = self.providers.iter().map(these).collect();
        let choice = these.map_or(Choice::Auto, Choice::These);
        CloudsConfig { choice, clouds: vec![CloudConfig::Aws(self.aws()), CloudConfig::Gce(self.gce())] }
    }

    fn gce(&self) -> GceConfig {
        GceConfig {
            mode: match self.gce_mode {
                GceMode::Destination => firewall_gce::Mode::Destination,
                GceMode::Tags => firewall_gce::Mode::Tags,
            },
            network_project: self.gce_network_project.clone(),
            network: self.gce_network.clone(),
            target_tags: self.gce_target_tag.iter().cloned().collect(),
            priority: self.gce_priority,
            ranges_per_rule: self.gce_ranges_per_rule.into(),
            endpoint: self.gce_endpoint.clone(),
            api_rate_percent: self.api_rate_percent,
            ..GceConfig::new(&self.cluster_name, self.gce_project.clone().unwrap_or_default())
        }
    }

    fn aws(&self) -> AwsConfig {
        let mode = match self.aws_mode {
            AwsMode::Attach => Mode::Attach,
            AwsMode::Shared => Mode::Shared(SharedTargets {
                ids: self.aws_shared_group.iter().cloned().collect(),
                tag: self.aws_shared_tag.clone(),
            }),
        };
        AwsConfig {
            mode,
            region: self.aws_region.clone(),
            slots_per_interface: self.aws_groups_per_interface.into(),
            rules_per_group: self.aws_rules_per_group.into(),
            allow_untagged_node_groups: self.aws_allow_untagged_node_groups,
            allow_provisioned_instances: self.aws_allow_provisioned_instances,
            tags: self.aws_tags.clone(),
            api_rate_percent: self.api_rate_percent,
            ..AwsConfig::new(&self.cluster_name)
        }
    }
}

/// Refuses the placeholder of the manifests: two clusters that keep it would take each other's rules for their own.
fn cluster_name(text: &str) -> Result<String, String> {
    if text.eq_ignore_ascii_case(PLACEHOLDER) {
        return Err(format!(
            "{PLACEHOLDER} stands in the manifests for a name of your own; choose one that no other cluster in the \
             cloud account has"
        ));
    }
    Ok(text.to_owned())
}

const PLACEHOLDER: &str = "CHANGE-ME";

fn key_value(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn placeholder_of_the_manifests_is_no_cluster_name() {
        for placeholder in ["CHANGE-ME", "change-me"] {
            let error = cluster_name(placeholder).unwrap_err();
            assert!(error.contains("choose one"), "{error}");
        }
        assert_eq!(cluster_name("prod"), Ok("prod".to_owned()));
    }
}
