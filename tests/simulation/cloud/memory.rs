//! The cloud in memory, with faults, slow calls, and answers that are lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use firewall_core::testing::memory::{MemoryCloud, MemoryKey, MemoryProvider, MemoryResource};
use firewall_core::{
    Action, Applied, ChangesSince, Compiled, Desired, ErrorKind, Fence, FirewallProvider, InstanceId,
    Observed, ProviderError, ResourceSet,
};
use hostport_firewall::reconcile::cloud::CloudReconciler;
use hostport_firewall::reconcile::pass::Options;
use hostport_firewall::reconcile::reconciler::Reconciler;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::faults::{Call, Fate, Faults};
use super::{CLUSTER, ModelCloud, SharedObserver, Tampering, View};
use crate::checker::Cause;
use crate::landscape::{MACHINES, Probes, admitted, arriving};
use crate::mutants::Mutant;
use crate::process::Process;

/// The time that a read takes.
const READ: Duration = Duration::from_millis(80);

/// Longest time for which a cloud goes on to answer what was true before.
const STALE: Duration = Duration::from_secs(20);

/// The cloud. Clones share one state.
#[derive(Clone)]
pub(crate) struct SimulatedCloud {
    cloud: MemoryCloud,
    faults: Arc<Mutex<Faults>>,
    /// The resources that stale reads return
    stale: Arc<Mutex<ResourceSet<MemoryResource>>>,
    observer: Arc<OnceLock<SharedObserver>>,
}

impl SimulatedCloud {
    /// Returns a cloud with all machines, and something of others on each.
    pub(crate) fn new(seed: u64) -> Self {
        let cloud = MemoryCloud::new((0..MACHINES).map(instance));
        for machine in 0..MACHINES {
            for resource in foreign(machine) {
                cloud.put(resource);
            }
        }
        Self {
            cloud,
            faults: Arc::new(Mutex::new(Faults::new(seed))),
            stale: Arc::default(),
            observer: Arc::default(),
        }
    }

    fn announce(&self, cause: Cause) {
        if let Some(observer) = self.observer.get() {
            observer.changed(&|| self.view(), cause);
        }
    }

    /// Returns what the cloud lets in: by walking its resources, not by the program's arithmetic.
    fn view(&self) -> View {
        let resources = self.cloud.resources();
        let mut view = View::default();
        for (key, resource) in &resources {
            match key {
                MemoryKey::Attachment(cluster, machine) if cluster == CLUSTER => {
                    let groups = resource.groups.iter().filter_map(|group| resources.get(group));
                    let rules = groups.flat_map(|group| &group.rules);
                    let probes = rules.fold(0, |set: Probes, rule| {
                        let protocol = rule.protocol.to_string();
                        set | admitted(&protocol, rule.ports.first(), rule.ports.last(), &rule.source)
                    });
                    let number =
                        (0..MACHINES).find(|number| instance(*number) == *machine).unwrap_or_default();
                    view.admits.insert(format!("memory://{machine}"), probes & arriving(number));
                }
                MemoryKey::Group(cluster, _) | MemoryKey::Attachment(cluster, _) if cluster != "theirs" => {}
                _ => view.foreign.push(format!("{key}: {:?} {:?}", resource.rules, resource.groups)),
            }
        }
        view
    }
}

impl ModelCloud for SimulatedCloud {
    fn observe_with(&self, observer: SharedObserver) {
        _ = self.observer.set(observer);
    }

    fn reconciler(
        &self,
        process: &Process,
        cluster: &str,
        options: Options,
        fence: &Fence,
        mutant: Option<Mutant>,
    ) -> Box<dyn CloudReconciler> {
        let provider = SimulatedProvider {
            inner: self.cloud.provider(cluster),
            cluster: cluster.to_owned(),
            cloud: self.clone(),
            process: process.clone(),
            fence: fence.clone(),
            mutant,
            is_first_read: Arc::new(Mutex::new(true)),
        };
        Box::new(Reconciler::new(provider, options))
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_stale_reads(&self, reads: u32) {
        *self.stale.lock().unwrap_or_else(PoisonError::into_inner) = self.cloud.resources();
        let mut faults = self.faults();
        faults.stale_reads = reads;
        faults.stale_since = Some(Instant::now());
    }

    fn tamper(&self, machine: usize, how: Tampering) {
        let key = MemoryKey::Attachment(CLUSTER.to_owned(), instance(machine));
        if how == Tampering::MemberRemoved {
            self.cloud.remove(&key);
        } else if let Some(group) = self.cloud.resources().get(&key).and_then(|one| one.groups.first()) {
            let rule = firewall_core::testing::conformance::rule("tcp/22 203.0.113.0/24");
            self.cloud.tamper_with(group, |group| match how {
                Tampering::RuleAdded => _ = group.rules.insert(rule),
                _ => _ = group.rules.pop_first(),
            });
        }
        self.announce(Cause::Other);
    }

    fn replace_machine(&self, _: usize) -> bool {
        false
    }

    fn resources(&self) -> Vec<String> {
        let all = self.cloud.resources();
        let ours = all.iter().filter(|(key, _)| is_of(key, CLUSTER));
        ours.map(|(key, one)| format!("{key}: {:?} {:?}", one.rules, one.groups)).collect()
    }

    fn provider_id(&self, machine: usize) -> String {
        format!("memory://{}", instance(machine))
    }
}

/// Returns the id of a machine.
fn instance(machine: usize) -> InstanceId {
    InstanceId::new(format!("m{machine}"))
}

/// Returns the objects of another cluster on a machine.
fn foreign(machine: usize) -> [MemoryResource; 2] {
    let group = MemoryKey::Group("theirs".to_owned(), format!("g{machine}"));
    let resource = |key: MemoryKey| MemoryResource {
        key,
        label: "theirs".to_owned(),
        owner: firewall_core::Owner::Foreign,
        rules: BTreeSet::new(),
        groups: BTreeSet::new(),
    };
    let rules = BTreeSet::from([firewall_core::testing::conformance::rule("tcp/80 0.0.0.0/0")]);
    let attachment = resource(MemoryKey::Attachment("theirs".to_owned(), instance(machine)));
    [
        MemoryResource { rules, ..resource(group.clone()) },
        MemoryResource { groups: BTreeSet::from([group]), ..attachment },
    ]
}

/// The provider of one process.
struct SimulatedProvider {
    inner: MemoryProvider,
    cluster: String,
    cloud: SimulatedCloud,
    process: Process,
    fence: Fence,
    mutant: Option<Mutant>,
    is_first_read: Arc<Mutex<bool>>,
}

impl FirewallProvider for SimulatedProvider {
    type Resource = MemoryResource;
    type Inventory = <MemoryProvider as FirewallProvider>::Inventory;

    fn name(&self) -> &'static str {
        self.inner.name()
    }

    fn parse_provider_id(&self, provider_id: &str) -> Option<Result<InstanceId, String>> {
        // A controller of another project knows none of these machines.
        if self.cluster == CLUSTER { self.inner.parse_provider_id(provider_id) } else { None }
    }

    fn provider_id_prefixes(&self) -> Vec<String> {
        if self.cluster == CLUSTER { self.inner.provider_id_prefixes() } else { Vec::new() }
    }

    fn compile(&self, desired: &Desired, inventory: &Self::Inventory) -> Compiled<MemoryResource> {
        let compiled = self.inner.compile(desired, inventory);
        match self.mutant {
            Some(mutant) => mutant.compiled(compiled),
            None => compiled,
        }
    }

    async fn observe(
        &self,
        members: &BTreeSet<InstanceId>,
    ) -> Result<Observed<MemoryResource, Self::Inventory>, ProviderError> {
        self.process.pause_if_dead().await;
        sleep(READ).await;
        let mut observed = self.inner.observe(members).await?;
        {
            let mut faults = self.cloud.faults();
            if faults.is_unreadable {
                return Err(ProviderError::new(ErrorKind::Unavailable, "read", "all", "as the history asks"));
            }
            let is_recent = faults.stale_since.is_some_and(|since| since.elapsed() < STALE);
            if faults.stale_reads > 0 && is_recent {
                faults.stale_reads -= 1;
                let stale = self.cloud.stale.lock().unwrap_or_else(PoisonError::into_inner);
                let own = observed.resources.keys().chain(stale.keys());
                let own: BTreeSet<&MemoryKey> = own.filter(|key| is_of(key, CLUSTER)).collect();
                observed.resources = own.into_iter().filter_map(|key| stale.get(key).cloned()).collect();
            }
        }
        if let Some(observer) = self.cloud.observer.get() {
            observer.has_read(&self.process);
        }
        if let Some(mutant) = self.mutant {
            let is_first =
                std::mem::take(&mut *self.is_first_read.lock().unwrap_or_else(PoisonError::into_inner));
            for action in mutant.after_read(&observed.resources, is_first) {
                _ = self.send(&action).await;
            }
        }
        self.process.pause_if_dead().await;
        Ok(observed)
    }

    async fn observe_added(
        &self,
        known: &mut Observed<MemoryResource, Self::Inventory>,
        changes: &ChangesSince<MemoryKey>,
    ) -> Result<bool, ProviderError> {
        self.process.pause_if_dead().await;
        sleep(READ).await;
        if self.cloud.faults().is_unreadable {
            return Err(ProviderError::new(ErrorKind::Unavailable, "read", "all", "as the history asks"));
        }
        self.inner.observe_added(known, changes).await
    }

    fn rules_name_members(&self) -> bool {
        self.inner.rules_name_members()
    }

    fn find_affected(
        &self,
        instances: &BTreeSet<InstanceId>,
        inventory: &Self::Inventory,
    ) -> Option<BTreeSet<InstanceId>> {
        self.inner.find_affected(instances, inventory)
    }

    fn cloud_id(&self, _: &MemoryKey) -> Option<String> {
        None
    }

    fn estimate_duration(&self, _: usize) -> Duration {
        Duration::ZERO
    }

    async fn apply(&self, action: &Action<MemoryResource>) -> Result<Applied, ProviderError> {
        let Some(mutant) = self.mutant else { return self.send(action).await };
        let mut last = Ok(Applied::default());
        for action in mutant.actions(action, &self.cloud.cloud.resources()) {
            last = self.send(&action).await;
        }
        last
    }
}

impl SimulatedProvider {
    /// Sends one change: what has been sent takes effect, whatever becomes of the sender.
    async fn send(&self, action: &Action<MemoryResource>) -> Result<Applied, ProviderError> {
        self.process.pause_if_dead().await;
        let call = describe(action, &self.cloud.cloud.resources());
        // A provider waits for its share of the call rate before it sends.
        let (begun, duration) = (Instant::now(), self.cloud.faults().duration(&call) / 2);
        sleep(duration).await;
        self.process.pause_if_dead().await;
        if !self.fence.allows(Instant::now().into_std()) {
            return Err(ProviderError::new(
                ErrorKind::Unavailable,
                action.verb(),
                call,
                "the fence is closed",
            ));
        }
        let observer = self.cloud.observer.get().cloned();
        if let Some(observer) = &observer {
            observer.sent(&self.process, &call);
        }
        let (fate, kill) = {
            let mut faults = self.cloud.faults();
            let creates_group = matches!((action, action.key()), (Action::Create(_), MemoryKey::Group(..)));
            let closes = match action {
                Action::Create(_) => false,
                Action::Delete(_) => true,
                Action::Update { from, to } => {
                    to.rules.is_subset(&from.rules) && to.groups.is_subset(&from.groups)
                }
            };
            (faults.decide(Call { text: &call, closes, creates_group }), faults.next_kill(false))
        };
        if kill == Some(true) {
            self.process.kill();
            self.process.pause_if_dead().await;
        }
        let (answer, answered) = oneshot::channel();
        let (cloud, inner, process) = (self.cloud.clone(), self.inner.clone(), self.process.clone());
        let action = action.clone();
        tokio::spawn(async move {
            sleep(duration / 2).await;
            let result = match fate {
                Fate::Succeeds => inner.apply(&action).await,
                Fate::Fails(error) => Err(error),
                Fate::AnswerLost(error) => inner.apply(&action).await.and(Err(error)),
            };
            let outcome = result.as_ref().map_or_else(ProviderError::reason, |_| "ok");
            if let Some(observer) = &observer {
                observer.ended(&process, &call, outcome);
            }
            cloud.announce(Cause::of_call(begun));
            if kill == Some(false) {
                process.kill();
            }
            sleep(duration / 2).await;
            _ = answer.send(result);
        });
        let result = answered.await;
        self.process.pause_if_dead().await;
        result.expect("the task ends by answering")
    }
}

fn is_of(key: &MemoryKey, owner: &str) -> bool {
    let (MemoryKey::Group(cluster, _) | MemoryKey::Attachment(cluster, _)) = key;
    cluster == owner
}

/// Returns a call as text: the verb, the object, and what it is for.
fn describe(action: &Action<MemoryResource>, resources: &ResourceSet<MemoryResource>) -> String {
    let labels: BTreeMap<&MemoryKey, &str> =
        resources.iter().map(|(key, resource)| (key, resource.label.as_str())).collect();
    match action.key() {
        MemoryKey::Group(..) => {
            let label = action.after().or_else(|| action.before()).map(|one| one.label.clone());
            format!("{} group of {}", action.verb(), label.unwrap_or_default())
        }
        MemoryKey::Attachment(_, machine) => {
            let groups = |resource: Option<&MemoryResource>| -> BTreeSet<MemoryKey> {
                resource.map(|resource| resource.groups.clone()).unwrap_or_default()
            };
            let name = |key: &MemoryKey| labels.get(key).copied().unwrap_or("?").to_owned();
            let (before, after) = (groups(action.before()), groups(action.after()));
            let added: Vec<String> = (&after - &before).iter().map(name).collect();
            let removed: Vec<String> = (&before - &after).iter().map(name).collect();
            format!(
                "{} attachment of {machine}: +[{}] -[{}]",
                action.verb(),
                added.join(", "),
                removed.join(", ")
            )
        }
    }
}
