//! The command line: flags and their help, and the configuration that they make.

mod cloud;
mod intent;
pub mod log;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use k8s_openapi::jiff::SignedDuration;

use crate::controller::config::{Config, LeaseConfig, SettingsSource};
use crate::k8s::dns_zone::Zone;
use crate::k8s::manifests::Manifests;
use crate::reconcile::pass::Options;

pub use cloud::{AwsMode, CloudArgs, GceMode, ProviderName};
pub use intent::{IntentArgs, Policy};

/// Keeps cloud firewalls true to the host ports that Kubernetes pods bind.
///
/// A pod with a host port is reachable only on its node, and only if the cloud's firewall lets the traffic
/// in. This program opens exactly the ports asked for, on exactly the nodes that run the pods, and closes
/// them again.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 110, after_help = EXAMPLES)]
pub struct Cli {
    /// The command
    #[command(subcommand)]
    pub command: Command,
}

/// The commands of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the controller: reconcile the cloud with the cluster
    #[command(after_help = RUN_EXAMPLES)]
    Run(RunArgs),
    /// Show the changes that would be made, and make none
    ///
    /// Exits with 0 if there are no changes, 2 if there are, 1 on an error.
    #[command(after_help = PLAN_EXAMPLES)]
    Plan(PlanArgs),
    /// Print the definition of the kind `HostPortExposure`, to install it in a cluster
    #[command(after_help = CRD_EXAMPLES)]
    Crd,
    /// Remove every rule, group and attachment that carries this cluster's mark, and only those
    #[command(after_help = CLEANUP_EXAMPLES)]
    Cleanup(CleanupArgs),
}

const EXAMPLES: &str = "Examples:
  hostport-firewall plan --cluster-name prod       # what would change; changes nothing
  hostport-firewall run --cluster-name prod        # the controller
  hostport-firewall cleanup --cluster-name prod    # what would be removed; --yes removes it";

const RUN_EXAMPLES: &str = "Examples:
  # As a Deployment or sidecar, with the pod's own credentials and a Lease for leader election
  hostport-firewall run --cluster-name prod

  # Only rules in a security group that you manage; nothing is created or attached
  hostport-firewall run --cluster-name prod --aws-mode shared --aws-shared-group sg-0123456789abcdef0

  # A cluster on both clouds, whose GCE network belongs to another project (Shared VPC)
  hostport-firewall run --cluster-name prod --providers aws,gce --aws-region eu-central-1 \
    --gce-project nodes-1234 --gce-network-project network-1234

  # Within an administrator's limits, which are read again when the file changes
  hostport-firewall run --cluster-name prod --guardrails /etc/hostport-firewall/guardrails.yaml

  # Without a cluster: follow the files in a folder
  hostport-firewall run --cluster-name demo --manifests ./manifests";

const PLAN_EXAMPLES: &str = "Examples:
  # What would change for the cluster of the current kubeconfig context?
  hostport-firewall plan --cluster-name prod

  # The same from saved objects, for machines: all that matters of what the cluster serves
  kubectl get -A -o json \"$(kubectl api-resources --verbs=list -o name |
    grep -E '^(pods|nodes|namespaces|services)$|^(endpointslices|ingresses|hostportexposures)\\.' |
    paste -sd, -)\" > objects.json &&
    hostport-firewall plan --cluster-name prod --manifests objects.json -o json";

const CRD_EXAMPLES: &str = "Examples:
  hostport-firewall crd | kubectl apply --server-side -f -";

const CLEANUP_EXAMPLES: &str = "Examples:
  # Show what would be removed
  hostport-firewall cleanup --cluster-name prod

  # Remove it
  hostport-firewall cleanup --cluster-name prod --yes";

/// Source of the cluster's state.
#[derive(Args, Debug)]
pub struct SourceArgs {
    /// Read pods, nodes, Services and the objects that ask for ports from a YAML or JSON file, a folder of
    /// them, or `-` for standard input, instead of a cluster. Without an object, or without a Node among them,
    /// that is an error, and `run` keeps what it read before
    #[arg(long, value_name = "FILE|DIR|-")]
    pub manifests: Option<Manifests>,
}

/// Arguments of `run`.
#[derive(Args, Debug)]
pub struct RunArgs {
    /// The cluster and its clouds
    #[command(flatten)]
    pub cloud: CloudArgs,
    /// Source of the cluster's state
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub(crate) intent: IntentArgs,
    /// Time that a port stays open on a node after its pod has gone, so that a restart in place does not flap
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub linger: Duration,
    /// Compare the cloud with the cluster this often, even if nothing changes
    #[arg(long, value_name = "DURATION", default_value = "5m", value_parser = pause)]
    pub resync: Duration,
    /// Time that a mass close is held before it goes ahead by itself
    #[arg(long, value_name = "DURATION", default_value = "30m", value_parser = duration)]
    pub mass_close_hold: Duration,
    /// Write without a Lease; safe only if nothing else runs for this cluster name
    #[arg(long)]
    pub no_leader_election: bool,
    /// Name of the Lease
    #[arg(long, value_name = "NAME", default_value = "hostport-firewall")]
    pub lease_name: String,
    /// Namespace of the Lease; by default the pod's own
    #[arg(long, value_name = "NAMESPACE", env = "POD_NAMESPACE")]
    pub lease_namespace: Option<String>,
    /// Name of this replica in the Lease and in Events; by default the host's name
    #[arg(long, value_name = "NAME", env = "POD_NAME")]
    pub identity: Option<String>,
    /// Time that resolvers may keep the addresses of a hostname
    #[arg(long, value_name = "DURATION", default_value = "60s", value_parser = duration)]
    pub dns_ttl: Duration,
    /// Serve metrics for Prometheus there, at /metrics
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub metrics_address: Option<SocketAddr>,
    /// Form of the log on standard error; `RUST_LOG` sets its level
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    pub log_format: LogFormat,
}

/// Form of the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// For people
    Text,
    /// A JSON object a line
    Json,
}

/// Arguments of `plan`.
#[derive(Args, Debug)]
pub struct PlanArgs {
    /// The cluster and its clouds
    #[command(flatten)]
    pub cloud: CloudArgs,
    /// Source of the cluster's state
    #[command(flatten)]
    pub source: SourceArgs,
    #[command(flatten)]
    pub(crate) intent: IntentArgs,
    /// Form of the plan on standard output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Arguments of `cleanup`.
#[derive(Args, Debug)]
pub struct CleanupArgs {
    /// The cluster and its clouds
    #[command(flatten)]
    pub cloud: CloudArgs,
    /// Remove; without it, only show
    #[arg(long)]
    pub yes: bool,
    /// Form of the list on standard output
    #[arg(short, long, value_enum, default_value_t = Output::Text)]
    pub output: Output,
}

/// Form of a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For machines
    Json,
}

impl PlanArgs {
    /// Returns the administrator's choices.
    #[must_use]
    pub fn options(&self) -> Options {
        self.intent.options()
    }

    /// Returns the settings of all intents.
    #[must_use]
    pub fn settings(&self) -> SettingsSource {
        self.intent.settings()
    }
}

impl RunArgs {
    /// Returns the configuration of the controller.
    #[must_use]
    pub fn config(self) -> Config {
        let options = self.intent.options();
        let zone = Zone::new(&self.cloud.cluster_name, self.dns_ttl);
        Config {
            cluster: self.cloud.cluster_name.clone(),
            clouds: self.cloud.clouds(),
            manifests: self.source.manifests,
            settings: self.intent.settings(),
            options: Options {
                mass_close_hold: self.mass_close_hold,
                linger: self.linger,
                resync: self.resync,
                ..options
            },
            resync: self.resync,
            lease: (!self.no_leader_election)
                .then_some(LeaseConfig { name: self.lease_name, namespace: self.lease_namespace }),
            identity: self.identity,
            zone: self.intent.external_dns.then_some(zone),
            metrics_address: self.metrics_address,
        }
    }
}

/// Reads `30s`, `5m`, `1h 30m`.
fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "write a duration such as 30s, 5m or 1h30m")?;
    Duration::try_from(duration).map_err(|_| "a duration cannot be negative".to_owned())
}

/// Reads a duration that lies between two passes.
fn pause(text: &str) -> Result<Duration, String> {
    let pause = duration(text)?;
    let least = Duration::from_secs(1);
    if pause < least {
        Err("the cloud cannot be compared more often than once a second".to_owned())
    } else {
        Ok(pause)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn duration_is_read_in_human_form() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
        assert!(duration("-1s").is_err());
        assert!(duration("soon").is_err());
        assert!(pause("0s").is_err() && pause("1s").is_ok());
    }
}
