//! A world for one case: a cluster, a cloud, and the controller between them.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use firewall_core::RuleSet;
use firewall_core::testing::conformance::rule;
use tempfile::TempDir;

use crate::amazon::Amazon;
use crate::cluster::{Cluster, NAMESPACE};
use crate::google::Google;
use crate::machine::Machine;
use crate::patience::{looking_every, until};
use crate::process::{Process, binary};

/// How long nothing must have changed for the world to count as settled.
const SETTLED: Duration = Duration::from_secs(3);

/// The name that marks the cluster's resources.
pub(crate) const CLUSTER: &str = "e2e";

/// Which clouds there are, and how rules reach their instances.
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
    const fn on_amazon(self) -> bool {
        matches!(self, Self::Attach | Self::Shared | Self::Mixed)
    }

    const fn on_google(self) -> bool {
        matches!(self, Self::Destination | Self::Tags | Self::Mixed)
    }
}

/// A cluster, its clouds, and their machines, which have joined as nodes.
pub(crate) struct World {
    pub(crate) cluster: Cluster,
    amazon: Option<Amazon>,
    pub(crate) google: Option<Google>,
    /// On AWS first
    pub(crate) machines: Vec<Machine>,
    pub(crate) mode: Mode,
    logs: TempDir,
}

impl World {
    /// Starts everything but the controller, with this many nodes on each cloud; on AWS, each in a security group of
    /// its own.
    pub(crate) async fn start(mode: Mode, nodes: u32) -> Self {
        let amazon = async { if mode.on_amazon() { Some(Amazon::start().await) } else { None } };
        let google = async { if mode.on_google() { Some(Google::start().await) } else { None } };
        let (cluster, amazon, google) = tokio::join!(Cluster::start(), amazon, google);
        let mut machines = Vec::new();
        if let Some(amazon) = &amazon {
            machines.extend(amazon.seed(CLUSTER, &["--separate-groups", "--nodes", &nodes.to_string()]));
        }
        if let Some(google) = &google {
            machines.extend(google.seed(nodes));
        }
        for machine in &machines {
            cluster.join(machine).await;
        }
        let logs = TempDir::with_prefix("logs-").expect("a temporary folder");
        Self { cluster, amazon, google, machines, mode, logs }
    }

    pub(crate) fn amazon(&self) -> &Amazon {
        self.amazon.as_ref().expect("a world on AWS")
    }

    pub(crate) fn google(&self) -> &Google {
        self.google.as_ref().expect("a world on Google Cloud")
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
            .env("RUST_LOG", "info,hostport_firewall=debug,firewall_aws=debug,firewall_gce=debug")
            .env("AWS_EC2_METADATA_DISABLED", "true");
        if let Some(amazon) = &self.amazon {
            command.envs(amazon.environment());
        }
        if let Some(google) = &self.google {
            command.envs(google.environment());
        }
        Process::start(&mut command, &self.log())
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

    /// What each machine lets in now, by its name.
    pub(crate) async fn open_everywhere(&self) -> Vec<(String, RuleSet)> {
        if let Some(google) = &self.google {
            return self.machines.iter().map(|one| (one.name.clone(), google.open(one))).collect();
        }
        self.amazon().open_everywhere(&self.machines).await
    }

    /// What the machine lets in now.
    pub(crate) async fn open(&self, machine: &Machine) -> RuleSet {
        if machine.is_google() { self.google().open(machine) } else { self.amazon().open(machine).await }
    }

    /// The calls that changed something since the start, cloud by cloud.
    pub(crate) fn mutations(&self) -> Vec<String> {
        let amazon = self.amazon.iter().flat_map(Amazon::mutations);
        amazon.chain(self.google.iter().flat_map(Google::mutations)).collect()
    }

    /// The names of the groups and rules that carry the cluster's mark.
    pub(crate) async fn owned(&self) -> Vec<String> {
        let mut owned = Vec::new();
        if let Some(amazon) = &self.amazon {
            owned.extend(amazon.owned_groups(CLUSTER).await);
        }
        if let Some(google) = &self.google {
            owned.extend(google.owned(CLUSTER).into_keys());
        }
        owned
    }

    /// Waits until exactly these rules are open on the machine.
    pub(crate) async fn opens(&self, machine: &Machine, rules: &[&str]) {
        let expected: RuleSet = rules.iter().map(|text| rule(text)).collect();
        until(&format!("{} has open: {expected}", machine.name), async || {
            let open = self.open(machine).await;
            let log = || format!("{open}\nthe controller's log:\n{}", self.log_since(0));
            if open == expected { Ok(()) } else { Err(log()) }
        })
        .await;
    }

    /// Waits until no mutating call has come for a while, and returns all so far.
    pub(crate) async fn settled(&self) -> Vec<String> {
        let mut before = None;
        looking_every(SETTLED, "the controller comes to rest", async || {
            let calls = self.mutations();
            let last = before.replace(calls.clone());
            if last.as_ref() == Some(&calls) { Ok(calls) } else { Err(format!("{calls:?}")) }
        })
        .await
    }

    /// Waits until nothing in the clouds carries the cluster's mark: what is in use goes only after what uses it.
    pub(crate) async fn owns_nothing(&self) {
        until("nothing is left", async || {
            let owned = self.owned().await;
            if owned.is_empty() { Ok(()) } else { Err(format!("{owned:?}")) }
        })
        .await;
    }

    /// Waits until the controller's log contains a text.
    pub(crate) async fn says(&self, text: &str) {
        self.says_since(0, text).await;
    }

    /// Waits until the controllers' log from this byte on contains a text.
    pub(crate) async fn says_since(&self, start: usize, text: &str) {
        until(&format!("the controller says {text:?}"), async || {
            let log = self.log_since(start);
            if log.contains(text) { Ok(()) } else { Err(log) }
        })
        .await;
    }

    /// The controllers' log from this byte on.
    pub(crate) fn log_since(&self, start: usize) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default().split_off(start)
    }

    /// The controller's log.
    pub(crate) fn log(&self) -> PathBuf {
        self.logs.path().join("controller.log")
    }
}
