//! The environment of one case: a cluster, its clouds, and the controller between them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use firewall_core::RuleSet;
use firewall_core::testing::conformance::rule;
use tempfile::TempDir;

use crate::aws::Aws;
use crate::cluster::{Cluster, NAMESPACE};
use crate::gce::Gce;
use crate::machine::Machine;
use crate::process::{Process, binary};
use crate::wait::{poll_every, wait_until};

/// The time without a mutating call after which the controller counts as idle.
const IDLE: Duration = Duration::from_secs(3);

/// The cluster's name, which marks its resources.
pub(crate) const CLUSTER: &str = "e2e";

/// TCP port 80, open to any source
pub(crate) const ANYWHERE_80: &[&str] = &["tcp/80 0.0.0.0/0", "tcp/80 ::/0"];

/// TCP port 8086, open to any source
pub(crate) const ANYWHERE_8086: &[&str] = &["tcp/8086 0.0.0.0/0", "tcp/8086 ::/0"];

/// The clouds that a case has, and the way in which rules reach their instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// AWS, by attached groups
    Attach,
    /// AWS, by rules in shared groups
    Shared,
    /// Google Cloud, by destination ranges
    Destination,
    /// Google Cloud, by network tags
    Tags,
    /// Both clouds, each in its default mode
    Mixed,
}

impl Mode {
    const fn has_aws(self) -> bool {
        matches!(self, Self::Attach | Self::Shared | Self::Mixed)
    }

    const fn has_gce(self) -> bool {
        matches!(self, Self::Destination | Self::Tags | Self::Mixed)
    }
}

/// A cluster, its clouds, and their machines, which have joined as nodes.
pub(crate) struct TestEnvironment {
    pub(crate) cluster: Cluster,
    aws: Option<Aws>,
    pub(crate) gce: Option<Gce>,
    /// Those on AWS first
    pub(crate) machines: Vec<Machine>,
    pub(crate) mode: Mode,
    logs: TempDir,
}

impl TestEnvironment {
    /// Starts everything but the controller, with this many nodes on each cloud; on AWS, each node has a
    /// security group of its own.
    pub(crate) async fn start(mode: Mode, nodes: u32) -> Self {
        let aws = async { if mode.has_aws() { Some(Aws::start().await) } else { None } };
        let gce = async { if mode.has_gce() { Some(Gce::start().await) } else { None } };
        let (cluster, aws, gce) = tokio::join!(Cluster::start(), aws, gce);
        let mut machines = Vec::new();
        if let Some(aws) = &aws {
            machines.extend(aws.seed(CLUSTER, &["--separate-groups", "--nodes", &nodes.to_string()]));
        }
        if let Some(gce) = &gce {
            machines.extend(gce.seed(nodes));
        }
        for machine in &machines {
            cluster.register_node(machine).await;
        }
        let logs = TempDir::with_prefix("logs-").expect("a temporary folder");
        Self { cluster, aws, gce, machines, mode, logs }
    }

    /// Returns AWS; panics if the mode does not have it.
    pub(crate) fn aws(&self) -> &Aws {
        self.aws.as_ref().expect("a case on AWS")
    }

    /// Returns Google Cloud; panics if the mode does not have it.
    pub(crate) fn gce(&self) -> &Gce {
        self.gce.as_ref().expect("a case on Google Cloud")
    }

    /// Starts the controller as its ServiceAccount, with more `options`.
    pub(crate) fn start_controller(&self, options: &[&str]) -> Process {
        self.start_replica("e2e", options)
    }

    /// Starts one replica of the controller under this identity.
    pub(crate) fn start_replica(&self, identity: &str, options: &[&str]) -> Process {
        self.start_replica_of(CLUSTER, identity, options)
    }

    /// Starts one replica of the controller for another cluster name.
    pub(crate) fn start_replica_of(&self, cluster: &str, identity: &str, options: &[&str]) -> Process {
        let mut command = Command::new(binary());
        command
            .args(["run", "--cluster-name", cluster, "--linger", "0s", "--identity", identity])
            .args(["--lease-namespace", NAMESPACE])
            .args(self.mode_options())
            .args(options)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("RUST_LOG", "info,hostport_firewall=debug,firewall_aws=debug,firewall_gce=debug")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        if let Some(aws) = &self.aws {
            command.envs(aws.env_vars());
        }
        if let Some(gce) = &self.gce {
            command.envs(gce.env_vars());
        }
        Process::start(&mut command, &self.log_path())
    }

    fn mode_options(&self) -> Vec<String> {
        // On both clouds, `auto` has to find them.
        let providers = |name: &str| vec![format!("--providers={name}")];
        match self.mode {
            Mode::Mixed => Vec::new(),
            Mode::Attach => providers("aws"),
            Mode::Destination => providers("gce"),
            Mode::Tags => [providers("gce"), vec!["--gce-mode=tags".to_owned()]].concat(),
            Mode::Shared => {
                let groups =
                    self.machines.iter().map(|machine| format!("--aws-shared-group={}", machine.node_group));
                groups.chain(providers("aws")).chain(["--aws-mode=shared".to_owned()]).collect()
            }
        }
    }

    /// Returns the ingress rules of each machine, by its name.
    pub(crate) async fn read_all_open_rules(&self) -> Vec<(String, RuleSet)> {
        if let Some(gce) = &self.gce {
            return self.machines.iter().map(|one| (one.name.clone(), gce.read_open_rules(one))).collect();
        }
        self.aws().read_all_open_rules(&self.machines).await
    }

    /// Returns the ingress rules of a machine.
    pub(crate) async fn read_open_rules(&self, machine: &Machine) -> RuleSet {
        if machine.is_on_gce() {
            self.gce().read_open_rules(machine)
        } else {
            self.aws().read_open_rules(machine).await
        }
    }

    /// Returns the calls that changed something since the start, cloud by cloud.
    pub(crate) fn list_mutations(&self) -> Vec<String> {
        let aws = self.aws.iter().flat_map(Aws::list_mutations);
        aws.chain(self.gce.iter().flat_map(Gce::list_mutations)).collect()
    }

    /// Returns the names of the groups and rules that carry the cluster's mark.
    pub(crate) async fn list_owned(&self) -> Vec<String> {
        let mut owned = Vec::new();
        if let Some(aws) = &self.aws {
            owned.extend(aws.list_owned_groups(CLUSTER).await);
        }
        if let Some(gce) = &self.gce {
            owned.extend(gce.list_owned_rules(CLUSTER).into_keys());
        }
        owned
    }

    /// Waits until exactly these rules are open on a machine.
    pub(crate) async fn wait_until_open(&self, machine: &Machine, rules: &[&str]) {
        let expected: RuleSet = rules.iter().map(|text| rule(text)).collect();
        wait_until(&format!("{} has open: {expected}", machine.name), async || {
            let open = self.read_open_rules(machine).await;
            let log = || format!("{open}\nthe controller's log:\n{}", self.read_log_since(0));
            if open == expected { Ok(()) } else { Err(log()) }
        })
        .await;
    }

    /// Waits until no mutating call has come for a while, and returns all so far.
    pub(crate) async fn wait_until_idle(&self) -> Vec<String> {
        let mut before = None;
        poll_every(IDLE, "the controller becomes idle", async || {
            let calls = self.list_mutations();
            let last = before.replace(calls.clone());
            if last.as_ref() == Some(&calls) { Ok(calls) } else { Err(format!("{calls:?}")) }
        })
        .await
    }

    /// Waits until no resource in the clouds carries the cluster's mark.
    ///
    /// It takes more than one call: a resource is deleted only after those that use it.
    pub(crate) async fn wait_until_nothing_owned(&self) {
        wait_until("nothing is left", async || {
            let owned = self.list_owned().await;
            if owned.is_empty() { Ok(()) } else { Err(format!("{owned:?}")) }
        })
        .await;
    }

    /// Waits until the controllers' log contains a text.
    pub(crate) async fn wait_for_log(&self, text: &str) {
        self.wait_for_log_since(0, text).await;
    }

    /// Waits until the controllers' log from this byte on contains a text.
    pub(crate) async fn wait_for_log_since(&self, start: usize, text: &str) {
        wait_until(&format!("the log contains {text:?}"), async || {
            let log = self.read_log_since(start);
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// Returns the controllers' log from this byte on.
    pub(crate) fn read_log_since(&self, start: usize) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default().split_off(start)
    }

    /// Returns the path of the controllers' log.
    fn log_path(&self) -> PathBuf {
        self.logs.path().join("controller.log")
    }
}
