//! Planning, checked against the cloud in memory: single cases by name, and seeded histories with faults.

mod backoff;
mod histories;

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{self, Harness, desired, group, rule};
use firewall_core::testing::memory::{MemoryCloud, MemoryKey, MemoryProvider, MemoryResource};
use firewall_core::{
    Action, Completeness, Desired, Effect, FirewallProvider, IngressRule, InstanceId, Limits, Observed, Plan,
    PlanInput, Policy, ResourceSet, RuleSet, WithheldReason, check, plan,
};
use futures::executor::block_on;

fn instances(count: usize) -> Vec<InstanceId> {
    (0..count).map(|n| InstanceId::new(format!("i-{n}"))).collect()
}

struct InMemory {
    cloud: MemoryCloud,
    instances: Vec<InstanceId>,
}

impl Harness for InMemory {
    type Provider = MemoryProvider;

    fn provider(&self, cluster: &str) -> MemoryProvider {
        self.cloud.provider(cluster)
    }

    fn instances(&self) -> Vec<InstanceId> {
        self.instances.clone()
    }

    fn missing_instance(&self) -> InstanceId {
        InstanceId::new("i-gone")
    }

    async fn open_rules(&self, cluster: &str, instance: &InstanceId) -> RuleSet {
        let resources = self.cloud.resources();
        let attachment = resources.get(&MemoryKey::Attachment(cluster.into(), instance.clone()));
        let groups = attachment.into_iter().flat_map(|attachment| &attachment.groups);
        groups.flat_map(|group| resources[group].rules.iter().copied()).collect()
    }

    async fn foreign_state(&self, cluster: &str) -> String {
        let resources = self.cloud.resources();
        let foreign = resources.iter().filter(|(key, _)| {
            let (MemoryKey::Group(owner, _) | MemoryKey::Attachment(owner, _)) = key;
            owner != cluster
        });
        format!("{:?}", foreign.collect::<Vec<_>>())
    }

    async fn tamper_with_rule(&self, cluster: &str, rule: IngressRule, present: bool) {
        let resources = self.cloud.resources();
        let owned = |key: &&MemoryKey| matches!(key, MemoryKey::Group(owner, _) if owner == cluster);
        let key = resources.keys().find(owned).expect("an owned group");
        self.cloud.tamper_with(key, |group| {
            if present {
                group.rules.insert(rule)
            } else {
                group.rules.remove(&rule)
            };
        });
    }
}

#[test]
fn the_cloud_in_memory_conforms() {
    let instances = instances(3);
    block_on(conformance::run(&InMemory { cloud: MemoryCloud::new(instances.clone()), instances }));
}

/// A cloud that has converged to `desired`, and its provider.
fn converged(count: usize, desired: &Desired) -> (MemoryCloud, MemoryProvider) {
    let cloud = MemoryCloud::new(instances(count));
    let provider = cloud.provider("c");
    block_on(conformance::converge(&provider, desired));
    (cloud, provider)
}

/// What `plan` and `check` look at, with the defaults that a case does not care about.
struct Case {
    desired: ResourceSet<MemoryResource>,
    observed: ResourceSet<MemoryResource>,
    completeness: Completeness,
    policy: Policy,
    limits: Limits,
    backoff: BTreeSet<(MemoryKey, Effect)>,
}

impl Case {
    fn new(provider: &MemoryProvider, desired: &Desired) -> Self {
        let observed: Observed<_, _> = block_on(provider.observe(&desired.members())).unwrap();
        Self {
            desired: provider.compile(desired, &observed.inventory).resources,
            observed: observed.resources,
            completeness: desired.completeness.clone(),
            policy: Policy::Sync,
            limits: Limits::default(),
            backoff: BTreeSet::new(),
        }
    }

    fn input(&self) -> PlanInput<'_, MemoryResource> {
        PlanInput {
            desired: &self.desired,
            observed: &self.observed,
            completeness: &self.completeness,
            policy: self.policy,
            limits: self.limits,
            backoff: &self.backoff,
        }
    }

    fn plan(&self) -> Plan<MemoryResource> {
        let plan = plan(&self.input());
        assert_eq!(check(&self.input(), &plan), []);
        plan
    }
}

fn verbs(plan: &Plan<MemoryResource>) -> Vec<String> {
    plan.steps.iter().map(|step| format!("{} {}", step.action.verb(), step.action.key())).collect()
}

const OPEN: &[&str] = &["tcp/80 0.0.0.0/0"];

#[test]
fn a_group_is_created_before_it_is_attached_and_detached_before_it_is_deleted() {
    let ids = instances(1);
    let wanted = desired([group("web", OPEN, &[&ids[0]])]);
    let (_, provider) = converged(1, &Desired::nothing());
    let opening = Case::new(&provider, &wanted).plan();
    assert!(matches!(opening.steps[0].action.key(), MemoryKey::Group(..)), "{:?}", verbs(&opening));
    assert!(opening.steps[1].depends_on.iter().any(|other| other.step == 0 && other.must_succeed));

    let (_, provider) = converged(1, &wanted);
    let closing = Case::new(&provider, &Desired::nothing()).plan();
    assert!(matches!(closing.steps[0].action.key(), MemoryKey::Attachment(..)), "{:?}", verbs(&closing));
    assert!(closing.steps[1].depends_on.iter().any(|other| other.step == 0 && other.must_succeed));
}

#[test]
fn what_moves_opens_at_its_new_place_before_it_closes_at_the_old() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0]])]));
    let plan = Case::new(&provider, &desired([group("web", OPEN, &[&ids[1]])])).plan();
    let effects: Vec<Effect> = plan.steps.iter().map(|step| step.effect).collect();
    assert_eq!(effects, [Effect::Open, Effect::Close]);
    let waits: Vec<_> =
        plan.steps[1].depends_on.iter().map(|other| (other.step, other.must_succeed)).collect();
    assert_eq!(waits, [(0, false)], "the closing lets the opening go first and does not depend on it");
}

#[test]
fn changed_sources_take_one_opening_and_one_closing_of_the_group_alone() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", &["tcp/80 10.0.0.0/8"], &[&ids[0], &ids[1]])]));
    let plan =
        Case::new(&provider, &desired([group("web", &["tcp/80 192.0.2.0/24"], &[&ids[0], &ids[1]])])).plan();
    let effects: Vec<_> = plan.steps.iter().map(|step| (step.action.verb(), step.effect)).collect();
    assert_eq!(effects, [("update", Effect::Open), ("update", Effect::Close)]);
}

#[test]
fn what_is_only_written_in_another_way_goes_once_it_is_open_in_the_new() {
    let ids = instances(1);
    let before = ["tcp/80 10.0.0.0/9", "tcp/80 192.168.0.0/16"];
    let (_, provider) = converged(1, &desired([group("web", &before, &[&ids[0]])]));
    let plan = Case::new(&provider, &desired([group("web", &["tcp/80 10.0.0.0/8"], &[&ids[0]])])).plan();
    let steps: Vec<(Effect, usize, Vec<bool>)> = plan
        .steps
        .iter()
        .map(|step| {
            let rules = step.action.after().map_or(0, |group| group.rules.len());
            (step.effect, rules, step.depends_on.iter().map(|other| other.must_succeed).collect())
        })
        .collect();
    let opening = (Effect::Open, 3, vec![]);
    let closing = (Effect::Close, 2, vec![false]);
    let tidying = (Effect::Close, 1, vec![true, true]);
    assert_eq!(steps, [opening, closing, tidying]);
}

#[test]
fn a_member_joins_only_after_a_rule_that_nobody_asked_for_has_gone() {
    let ids = instances(2);
    let (cloud, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0]])]));
    let key = cloud.resources().keys().cloned().find(|key| matches!(key, MemoryKey::Group(..))).unwrap();
    cloud.tamper_with(&key, |group| _ = group.rules.insert(rule("tcp/22 0.0.0.0/0")));
    let plan = Case::new(&provider, &desired([group("web", OPEN, &[&ids[0], &ids[1]])])).plan();
    assert_eq!(plan.steps[0].action.key(), key, "{:?}", verbs(&plan));
    assert!(plan.steps[1].depends_on.iter().any(|other| other.step == 0 && other.must_succeed));
}

#[test]
fn a_member_that_leaves_is_detached_before_its_group_opens_more() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", &["tcp/80 10.0.0.0/8"], &[&ids[0]])]));
    let plan = Case::new(&provider, &desired([group("web", &["tcp/80 192.0.2.0/24"], &[&ids[1]])])).plan();
    let [leaves, joins] = [0, 1].map(|n: usize| MemoryKey::Attachment("c".into(), ids[n].clone()));
    let (web, _) = group("web", &["tcp/80 10.0.0.0/8"], &[]);
    let web = MemoryKey::Group("c".into(), web.digest());
    assert_eq!(
        verbs(&plan),
        [
            format!("delete {leaves}"),
            format!("update {web}"),
            format!("update {web}"),
            format!("create {joins}")
        ]
    );
    assert_eq!(plan.steps[1].effect, Effect::Open);
    assert!(plan.steps[1].depends_on.iter().any(|other| other.step == 0 && other.must_succeed));
    assert_eq!(plan.withheld, []);
}

#[test]
fn what_waits_in_two_stages_is_told_once() {
    let ids = instances(2);
    let on = |source: &str, instance| {
        let [tcp, udp] = ["tcp/80", "udp/53"].map(|traffic| format!("{traffic} {source}"));
        desired([group("web", &[&tcp], &[instance]), group("dns", &[&udp], &[instance])])
    };
    let (_, provider) = converged(2, &on("10.0.0.0/8", &ids[0]));
    let mut case = Case::new(&provider, &on("192.0.2.0/24", &ids[1]));
    // As long as it has both groups, neither may open to others.
    case.backoff.insert((MemoryKey::Attachment("c".into(), ids[0].clone()), Effect::Close));
    let plan = case.plan();
    assert_eq!(verbs(&plan), [""; 0]);
    let waiting: Vec<_> = plan.withheld.iter().map(|one| (one.key.clone(), one.reason.clone())).collect();
    let (attachments, groups): (Vec<_>, Vec<_>) =
        waiting.iter().partition(|(key, _)| matches!(key, MemoryKey::Attachment(..)));
    assert_eq!((attachments.len(), groups.len()), (2, 2), "{waiting:?}");
}

#[test]
fn partial_knowledge_opens_and_never_closes() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0]])]));
    let mut wanted = desired([group("dns", &["udp/53 ::/0"], &[&ids[1]])]);
    wanted.completeness = Completeness::Partial(vec!["pods: not listed yet".into()]);
    let plan = Case::new(&provider, &wanted).plan();
    assert!(plan.steps.iter().all(|step| step.effect == Effect::Open), "{:?}", verbs(&plan));
    assert_eq!(plan.steps.len(), 2);
    assert!(
        matches!(&plan.withheld[0].reason, WithheldReason::IncompleteState(gaps) if gaps[0].contains("pods"))
    );
}

#[test]
fn policies_limit_what_a_plan_does() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0]])]));
    let wanted = desired([group("web", OPEN, &[&ids[1]])]);
    for (policy, verbs) in [
        (Policy::Sync, vec!["create", "delete"]),
        (Policy::OpenOnly, vec!["create"]),
        (Policy::Observe, vec![]),
    ] {
        let mut case = Case::new(&provider, &wanted);
        case.policy = policy;
        let plan = case.plan();
        assert_eq!(plan.steps.iter().map(|step| step.action.verb()).collect::<Vec<_>>(), verbs, "{policy:?}");
        assert_eq!(plan.withheld.is_empty(), policy == Policy::Sync, "{policy:?}");
    }
}

#[test]
fn a_mass_close_is_held_until_released() {
    let ids = instances(20);
    let all: Vec<&InstanceId> = ids.iter().collect();
    let (_, provider) = converged(20, &desired([group("web", OPEN, &all)]));
    for (left, held) in [(9, true), (10, false), (15, false)] {
        let mut case = Case::new(&provider, &desired([group("web", OPEN, &all[..left])]));
        let plan = case.plan();
        assert_eq!(plan.steps.is_empty(), held, "{left} of 20 left");
        case.limits.mass_close_released = true;
        assert_eq!(case.plan().steps.len(), 20 - left);
    }
}

#[test]
fn the_check_refuses_what_the_planner_would_not_do() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0]])]));
    let case = Case::new(&provider, &desired([group("web", OPEN, &[&ids[0]])]));
    let honest = Case::new(&provider, &Desired::nothing()).plan();
    let mut wide = case.observed.values().find(|resource| !resource.rules.is_empty()).unwrap().clone();
    wide.rules.insert(rule("tcp/22 0.0.0.0/0"));
    let update = Action::Update { from: case.observed[&wide.key].clone(), to: wide };
    let mut plan = honest.clone();
    plan.steps.truncate(1);
    plan.steps[0].action = update;
    assert_eq!(check(&case.input(), &plan).len(), 1, "wider than desired");

    let partial = Case { completeness: Completeness::Partial(vec![]), ..case };
    assert_eq!(check(&partial.input(), &honest).len(), honest.steps.len(), "closing on partial knowledge");
}
