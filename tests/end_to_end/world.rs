//! A world for one case: a cluster, a cloud, and the controller between them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use firewall_model::RuleSet;
use firewall_model::conformance::rule;
use tempfile::TempDir;

use crate::cloud::{Cloud, Machine};
use crate::cluster::{Cluster, NAMESPACE};
use crate::process::{Process, binary};

/// How often a state is looked for before the case fails, 250 ms apart.
const LOOKS: usize = 240;

/// How long nothing must have changed for the world to count as settled.
const SETTLED: Duration = Duration::from_secs(3);

/// The name that marks the cluster's resources.
pub(crate) const CLUSTER: &str = "e2e";

/// How rules reach the instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    Attach,
    Shared,
}

/// A cluster, a cloud, and their machines, which have joined as nodes.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    pub(crate) cloud: Cloud,
    pub(crate) machines: Vec<Machine>,
    mode: Mode,
    logs: TempDir,
}

impl World {
    /// Starts everything but the controller, with this many nodes, each in a security group of its own.
    pub(crate) async fn start(mode: Mode, nodes: usize) -> Self {
        let (cluster, cloud) = tokio::join!(Cluster::start(), Cloud::start());
        let machines = cloud.seed(CLUSTER, &["--separate-groups", "--nodes", &nodes.to_string()]);
        for machine in &machines {
            cluster.join(machine).await;
        }
        let logs = TempDir::with_prefix("logs-").expect("a temporary folder");
        Self { cluster, cloud, machines, mode, logs }
    }

    /// Starts the controller as its ServiceAccount, with more `options`.
    pub(crate) fn controller(&self, options: &[&str]) -> Process {
        self.replica("e2e", options)
    }

    /// Starts one replica under a name of its own.
    pub(crate) fn replica(&self, identity: &str, options: &[&str]) -> Process {
        let mut command = Command::new(binary());
        command
            .args(["run", "--cluster-name", CLUSTER, "--linger", "0s", "--identity", identity])
            .args(["--lease-namespace", NAMESPACE])
            .args(self.mode_options())
            .args(options)
            .env("KUBECONFIG", self.cluster.kubeconfig())
            .env("RUST_LOG", "info,hostport_firewall=debug,firewall_aws=debug")
            .envs(self.cloud.environment());
        Process::start(&mut command, &self.log())
    }

    fn mode_options(&self) -> Vec<String> {
        match self.mode {
            Mode::Attach => Vec::new(),
            Mode::Shared => {
                let groups =
                    self.machines.iter().map(|machine| format!("--aws-shared-group={}", machine.node_group));
                groups.chain(["--aws-mode=shared".to_owned()]).collect()
            }
        }
    }

    /// Waits until exactly these rules are open on the machine.
    pub(crate) async fn opens(&self, machine: &Machine, rules: &[&str]) {
        let expected: RuleSet = rules.iter().map(|text| rule(text)).collect();
        let mut open = RuleSet::default();
        for _ in 0..LOOKS {
            open = self.cloud.open(machine).await;
            if open == expected {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        let log = std::fs::read_to_string(self.log()).unwrap_or_default();
        panic!("{} has open: {open}\nexpected: {expected}\nthe controller's log:\n{log}", machine.name);
    }

    /// Waits until no mutating call has come for a while, and returns all so far.
    pub(crate) async fn settled(&self) -> Vec<String> {
        let mut calls = self.cloud.mutations();
        for _ in 0..LOOKS {
            tokio::time::sleep(SETTLED).await;
            let now = self.cloud.mutations();
            if now == calls {
                return calls;
            }
            calls = now;
        }
        panic!("the controller does not come to rest: {calls:?}");
    }

    /// Waits until the controller's log contains a text.
    pub(crate) async fn says(&self, text: &str) {
        let mut log = String::new();
        for _ in 0..LOOKS {
            log = std::fs::read_to_string(self.log()).unwrap_or_default();
            if log.contains(text) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
        panic!("the controller does not say {text:?}:\n{log}");
    }

    /// The controller's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.logs.path().join("controller.log")
    }
}
