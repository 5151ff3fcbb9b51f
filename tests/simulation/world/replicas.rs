//! The processes of the controller: started, killed and started again, as a kubelet does.

use std::time::Duration;

use firewall_core::{Fence, Limits, Policy};
use hostport_firewall::controller::clouds::{Choice, CloudsConfig};
use hostport_firewall::controller::config::{Config, LeaseConfig, SettingsSource};
use hostport_firewall::controller::run_connected;
use hostport_firewall::intents::settings::Settings;
use hostport_firewall::reconcile::pass::Options;
use tokio::task::{JoinHandle, spawn_local};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{HOLD, RESYNC, START, World};
use crate::checker::Scope;
use crate::cloud::CLUSTER;
use crate::history::Setup;
use crate::mutants::Mutant;
use crate::process::Process;

/// The time after which a process that has ended is started again, in milliseconds.
const RESTART: u64 = 2_000;

/// The time after which another replica writes where one has been killed, in milliseconds: the Lease runs out,
/// and is looked at every two seconds.
const TAKEOVER: u64 = 25_000;

/// The time that a process may take to end when it is told to, in milliseconds.
const LAST_CALLS: u64 = 35_000;

/// One replica: its process, or the time at which the next starts.
pub(super) struct Replica {
    identity: String,
    /// The name of the cluster in the cloud
    cluster: String,
    running: Option<Running>,
    starts_at: u64,
}

/// A process that runs.
struct Running {
    process: Process,
    task: JoinHandle<()>,
    /// Tells it to end
    stop: CancellationToken,
}

impl Replica {
    pub(super) fn end(&self) {
        if let Some(Running { process, task, .. }) = &self.running {
            process.kill();
            task.abort();
        }
    }
}

impl World {
    /// Starts all replicas.
    pub(super) fn start_all(&mut self) {
        let Setup { replicas, same_identity, has_second_project, .. } = self.history.setup;
        let replica = |identity: String, cluster: &str| Replica {
            identity,
            cluster: cluster.to_owned(),
            running: None,
            starts_at: 0,
        };
        for number in 0..replicas {
            let identity = if same_identity { "same".to_owned() } else { format!("replica-{number}") };
            self.replicas.push(replica(identity, CLUSTER));
        }
        if has_second_project {
            self.replicas.push(replica("other".to_owned(), "second"));
        }
        self.tend_replicas();
    }

    /// Starts what is due, and notes what has ended.
    pub(super) fn tend_replicas(&mut self) {
        let now = self.now();
        for position in 0..self.replicas.len() {
            if let Some(Running { process, task, stop }) = &self.replicas[position].running
                && (!process.is_alive() || task.is_finished())
            {
                if process.is_alive() && !stop.is_cancelled() {
                    self.witness.has_ended(process);
                }
                self.stop_replica(position, RESTART);
            }
            let replica = &self.replicas[position];
            if replica.running.is_none() && replica.starts_at <= now {
                let running = self.start_process(replica.identity.clone(), &replica.cluster.clone());
                self.replicas[position].running = Some(running);
            }
        }
    }

    /// Tells a replica's process to end, and starts another later.
    pub(super) fn tell_replica_to_stop(&mut self, position: usize, after: u64) {
        let now = self.now();
        let Some(running) = self.replicas.get(position).and_then(|replica| replica.running.as_ref()) else {
            return;
        };
        running.stop.cancel();
        self.witness.checker().excuses.late(Scope::All, now, now + after + LAST_CALLS + START + TAKEOVER);
    }

    /// Ends a replica's process at whatever it awaits, and starts another later.
    pub(super) fn stop_replica(&mut self, position: usize, after: u64) {
        let now = self.now();
        let has_lease = self.history.setup.has_lease;
        let Some(replica) = self.replicas.get_mut(position) else { return };
        let Some(Running { process, task, .. }) = replica.running.take() else { return };
        process.kill();
        task.abort();
        replica.starts_at = now + after;
        self.witness.note(&format!("process {} has ended", process.number));
        let takeover = if has_lease { TAKEOVER } else { 0 };
        self.witness.checker().excuses.late(Scope::All, now, now + after + START + takeover);
    }

    fn start_process(&mut self, identity: String, cluster: &str) -> Running {
        self.processes += 1;
        let process = Process::new(self.processes);
        self.witness.note(&format!("process {} starts as {identity}", process.number));
        self.witness.process_started();
        let setup = self.history.setup;
        let mut options = Options { linger: Duration::from_millis(setup.linger), ..Options::default() };
        options.mass_close_hold = Duration::from_millis(HOLD);
        options.resync = Duration::from_millis(RESYNC);
        if !setup.holds_mass_close {
            options.limits = Limits { mass_close_least: usize::MAX, ..Limits::default() };
        }
        if setup.open_only {
            options.policy = Policy::OpenOnly;
        }
        let lease = match self.mutant {
            Some(Mutant::LeadsTwice) => None,
            _ => setup.has_lease.then(|| LeaseConfig {
                name: format!("hostport-firewall-{cluster}"),
                namespace: Some("operators".to_owned()),
            }),
        };
        let fence = match &lease {
            Some(_) => Fence::closed(Instant::now().into_std()),
            None => Fence::always_open(),
        };
        let config = Config {
            cluster: cluster.to_owned(),
            clouds: CloudsConfig { choice: Choice::Auto, clouds: Vec::new() },
            manifests: None,
            settings: SettingsSource { fixed: Settings::default(), guardrails: None },
            options: options.clone(),
            resync: Duration::from_millis(RESYNC),
            lease,
            identity: Some(identity),
            zone: None,
            metrics_address: None,
        };
        let clouds = vec![self.cloud.reconciler(&process, cluster, options, &fence, self.mutant)];
        let (client, settings) = (self.api.client(&process), self.settings.subscribe());
        let stop = CancellationToken::new();
        let task = spawn_local(run_connected(config, client, clouds, settings, fence, stop.clone()));
        Running { process, task, stop }
    }
}
