//! Worlds whose calls are counted: what is there first, what happens then, and what that costs.

use std::collections::BTreeMap;
use std::time::Duration;

use firewall_core::Fence;
use hostport_firewall::reconcile::cleanup::CleanupError;
use hostport_firewall::reconcile::pass::Options;
use tokio::time::sleep;

use super::{TICK, World};
use crate::api::Kind;
use crate::cloud::faults::Kill;
use crate::cloud::{CLUSTER, ModelCloud, Size};
use crate::history::{Event, History, Setup};
use crate::objects;
use crate::process::Process;

/// The calls of some time.
#[derive(Clone, Debug, Default)]
pub(crate) struct Calls {
    /// Calls that change something, by the method of the cloud's API
    pub(crate) changes: BTreeMap<String, usize>,
    /// Calls that read, but for polls of an operation
    pub(crate) reads: BTreeMap<String, usize>,
    /// Pages of lists of the Kubernetes API
    pub(crate) lists: usize,
    /// Its other reads: of single objects, and of the served APIs
    pub(crate) look_ups: usize,
}

/// A moment from which on calls are counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Mark {
    methods: usize,
    lists: usize,
    look_ups: usize,
}

impl World {
    /// Returns a world in which nothing has happened yet.
    pub(crate) fn empty(setup: Setup, size: Size) -> Self {
        Self::new(History { seed: 1, setup, events: Vec::new() }, None, size)
    }

    /// Returns such a world over a cloud of one's own.
    pub(crate) fn empty_over(cloud: Box<dyn ModelCloud>, setup: Setup) -> Self {
        Self::over(cloud, History { seed: 1, setup, events: Vec::new() }, None)
    }

    /// Lets events happen, then the controller start, and everything settle.
    pub(crate) async fn begin(&mut self, events: &[Event]) {
        self.prepare();
        for event in events {
            self.apply(event);
        }
        self.start_all();
        self.settle().await;
    }

    /// Lets events happen, each so many milliseconds after the one before.
    pub(crate) async fn happen(&mut self, events: &[(u64, Event)]) {
        for (after, event) in events {
            if *after > 0 {
                self.run_until(self.now() + after, TICK).await;
            }
            self.history.events.push((self.now(), event.clone()));
            self.apply(event);
        }
    }

    /// Lets everything settle.
    pub(crate) async fn settle_all(&mut self) {
        self.settle().await;
    }

    /// Lets so many milliseconds pass.
    pub(crate) async fn wait(&mut self, milliseconds: u64) {
        self.run_until(self.now() + milliseconds, TICK).await;
    }

    /// Lets time pass until the cloud has exactly these resources and what is asked for is open; returns the
    /// milliseconds that takes, if it is in time.
    pub(crate) async fn converge(&mut self, resources: &[String], within: u64) -> Option<u64> {
        let begin = self.now();
        while self.now() <= begin + within {
            if self.witness.checker().has_converged() && self.cloud.resources() == resources {
                return Some(self.now() - begin);
            }
            self.wait(TICK).await;
        }
        None
    }

    /// Lets the sender of a call be killed.
    pub(crate) fn kill_at(&self, kill: Kill) {
        self.cloud.faults().kill = Some(kill);
    }

    /// Returns true if no kill is left to happen.
    pub(crate) fn has_killed(&self) -> bool {
        self.cloud.faults().kill.is_none()
    }

    /// Returns everything of this cluster in the cloud.
    pub(crate) fn resources(&self) -> Vec<String> {
        self.cloud.resources()
    }

    /// Lets the controller be removed together with all pods.
    pub(crate) fn uninstall(&mut self) {
        for replica in self.replicas.drain(..) {
            replica.end();
        }
        self.api.change(|state| {
            let pods: Vec<_> = state.store.all(Kind::Pods).map(crate::api::name_of).collect();
            for (namespace, name) in pods {
                state.store.delete(Kind::Pods, &namespace, &name);
            }
        });
        self.witness.objects_changed();
    }

    /// Runs the command `cleanup`; none if it is killed.
    pub(crate) async fn clean_up(&mut self) -> Option<Result<(), CleanupError>> {
        self.processes += 1;
        let process = Process::new(self.processes);
        let fence = Fence::always_open();
        let cloud = self.cloud.reconciler(&process, CLUSTER, Options::default(), &fence, None);
        let death = async {
            while process.is_alive() {
                sleep(Duration::from_millis(TICK)).await;
            }
        };
        tokio::select! {
            biased;
            result = cloud.clean_up() => Some(result),
            () = death => None,
        }
    }

    /// Starts the controller of a cluster with a pod of the first workload on each of so many nodes.
    pub(crate) fn start_with_pods(&mut self, nodes: usize) {
        self.prepare();
        self.api.change(|state| {
            for node in 0..nodes {
                let provider_id = self.cloud.provider_id(node);
                // An odd address, which is of one family.
                state.store.put(Kind::Nodes, objects::node(node, Some(provider_id), 2 * node + 1));
                state.store.put(Kind::Pods, objects::pod(0, node, 1, false));
            }
        });
        self.start_all();
    }

    /// Ends all processes.
    pub(crate) fn end(&self) {
        self.replicas.iter().for_each(super::replicas::Replica::end);
    }

    /// Returns this moment.
    pub(crate) fn mark(&self) -> Mark {
        let (lists, look_ups) = self.api.read(|state| (state.lists, state.look_ups));
        Mark { methods: self.witness.methods(0).len(), lists, look_ups }
    }

    /// Returns the calls since then.
    pub(crate) fn calls_since(&self, mark: Mark) -> Calls {
        let now = self.mark();
        let (lists, look_ups) = (now.lists - mark.lists, now.look_ups - mark.look_ups);
        let mut calls = Calls { lists, look_ups, ..Calls::default() };
        for (method, changes) in self.witness.methods(mark.methods) {
            let of = if changes { &mut calls.changes } else { &mut calls.reads };
            *of.entry(method).or_default() += 1;
        }
        calls
    }
}

impl Calls {
    /// Returns the number of calls of the cloud that change something.
    pub(crate) fn writes(&self) -> usize {
        self.changes.values().sum()
    }

    /// Returns the number of those that read.
    pub(crate) fn read_count(&self) -> usize {
        self.reads.values().sum()
    }
}
