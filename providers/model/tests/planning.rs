//! Planning, checked against the cloud in memory: single cases by name, then seeded histories with faults.

use std::collections::{BTreeMap, BTreeSet};

use firewall_model::conformance::{self, Harness, desired, group, planned, reaches, rule};
use firewall_model::memory::{Fault, Memory, MemoryCloud, MemoryKey, MemoryResource};
use firewall_model::{
    Action, Completeness, Desired, Effect, FirewallProvider, IngressRule, InstanceId, Limits, Observed, Plan,
    PlanInput, Policy, ProviderError, RuleSet, Waiting, World, check, diff, plan,
};
use futures::executor::block_on;
use proptest::prelude::*;

fn instances(count: usize) -> Vec<InstanceId> {
    (0..count).map(|n| InstanceId::new(format!("i-{n}"))).collect()
}

struct InMemory {
    cloud: MemoryCloud,
    instances: Vec<InstanceId>,
}

impl Harness for InMemory {
    type Provider = Memory;

    fn provider(&self, cluster: &str) -> Memory {
        self.cloud.provider(cluster)
    }

    fn instances(&self) -> Vec<InstanceId> {
        self.instances.clone()
    }

    fn missing_instance(&self) -> InstanceId {
        InstanceId::new("i-gone")
    }

    async fn open(&self, cluster: &str, instance: &InstanceId) -> RuleSet {
        let resources = self.cloud.resources();
        let attachment = resources.get(&MemoryKey::Attachment(cluster.into(), instance.clone()));
        let groups = attachment.into_iter().flat_map(|attachment| &attachment.groups);
        groups.flat_map(|group| resources[group].rules.iter().copied()).collect()
    }

    async fn others(&self, cluster: &str) -> String {
        let resources = self.cloud.resources();
        let foreign = resources.iter().filter(|(key, _)| {
            let (MemoryKey::Group(owner, _) | MemoryKey::Attachment(owner, _)) = key;
            owner != cluster
        });
        format!("{:?}", foreign.collect::<Vec<_>>())
    }

    async fn meddle(&self, cluster: &str, rule: IngressRule, present: bool) {
        let resources = self.cloud.resources();
        let owned = |key: &&MemoryKey| matches!(key, MemoryKey::Group(owner, _) if owner == cluster);
        let key = resources.keys().find(owned).expect("an owned group");
        self.cloud.meddle(key, |group| {
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
fn converged(count: usize, desired: &Desired) -> (MemoryCloud, Memory) {
    let cloud = MemoryCloud::new(instances(count));
    let provider = cloud.provider("c");
    block_on(conformance::converge(&provider, desired));
    (cloud, provider)
}

/// What `plan` and `check` look at, with the defaults that a case does not care about.
struct Case {
    desired: World<MemoryResource>,
    observed: World<MemoryResource>,
    completeness: Completeness,
    policy: Policy,
    limits: Limits,
    backoff: BTreeSet<(MemoryKey, Effect)>,
}

impl Case {
    fn new(provider: &Memory, desired: &Desired) -> Self {
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
    assert!(opening.steps[1].after.iter().any(|other| other.step == 0 && other.must_succeed));

    let (_, provider) = converged(1, &wanted);
    let closing = Case::new(&provider, &Desired::nothing()).plan();
    assert!(matches!(closing.steps[0].action.key(), MemoryKey::Attachment(..)), "{:?}", verbs(&closing));
    assert!(closing.steps[1].after.iter().any(|other| other.step == 0 && other.must_succeed));
}

#[test]
fn what_moves_opens_at_its_new_place_before_it_closes_at_the_old() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0]])]));
    let plan = Case::new(&provider, &desired([group("web", OPEN, &[&ids[1]])])).plan();
    let effects: Vec<Effect> = plan.steps.iter().map(|step| step.effect).collect();
    assert_eq!(effects, [Effect::Open, Effect::Close]);
    let waits: Vec<_> = plan.steps[1].after.iter().map(|other| (other.step, other.must_succeed)).collect();
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
fn a_member_joins_only_after_a_rule_that_nobody_asked_for_has_gone() {
    let ids = instances(2);
    let (cloud, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0]])]));
    let key = cloud.resources().into_keys().find(|key| matches!(key, MemoryKey::Group(..))).unwrap();
    cloud.meddle(&key, |group| _ = group.rules.insert(rule("tcp/22 0.0.0.0/0")));
    let plan = Case::new(&provider, &desired([group("web", OPEN, &[&ids[0], &ids[1]])])).plan();
    assert_eq!(plan.steps[0].action.key(), key, "{:?}", verbs(&plan));
    assert!(plan.steps[1].after.iter().any(|other| other.step == 0 && other.must_succeed));
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
    assert!(plan.steps[1].after.iter().any(|other| other.step == 0 && other.must_succeed));
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
    let waiting: Vec<_> = plan.withheld.iter().map(|one| (one.key.clone(), one.waiting.clone())).collect();
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
    assert!(matches!(&plan.withheld[0].waiting, Waiting::Knowledge(gaps) if gaps[0].contains("pods")));
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
fn what_failed_waits_and_holds_nothing_else_up() {
    let ids = instances(1);
    let (_, provider) = converged(1, &Desired::nothing());
    let mut case = Case::new(
        &provider,
        &desired([group("web", OPEN, &[&ids[0]]), group("dns", &["udp/53 ::/0"], &[&ids[0]])]),
    );
    let (web, _) = group("web", OPEN, &[]);
    case.backoff.insert((MemoryKey::Group("c".into(), web.digest()), Effect::Open));
    let plan = case.plan();
    assert_eq!(plan.steps.len(), 2, "{:?}", verbs(&plan));
    assert_eq!(plan.withheld[0].waiting, Waiting::Backoff);
}

#[test]
fn nobody_joins_a_group_that_could_not_be_narrowed() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0]])]));
    let mut case =
        Case::new(&provider, &desired([group("web", &["tcp/80 10.0.0.0/8"], &[&ids[0], &ids[1]])]));
    let (web, _) = group("web", OPEN, &[]);
    let web = MemoryKey::Group("c".into(), web.digest());
    case.backoff.insert((web.clone(), Effect::Close));
    let plan = case.plan();
    assert_eq!(verbs(&plan), [format!("update {web}")], "the group opens to whom it should be open");
    assert_eq!(plan.steps[0].effect, Effect::Open);
    let waiting: BTreeSet<_> = plan.withheld.iter().map(|withheld| withheld.waiting.clone()).collect();
    assert_eq!(waiting, BTreeSet::from([Waiting::Backoff, Waiting::Order]));
}

#[test]
fn what_could_not_be_opened_is_closed_all_the_same() {
    let ids = instances(1);
    let two = || desired([group("web", OPEN, &[&ids[0]]), group("dns", &["udp/53 ::/0"], &[&ids[0]])]);
    let (_, provider) = converged(1, &two());
    let later = desired([group("web", OPEN, &[&ids[0]]), group("new", &["tcp/81 ::/0"], &[&ids[0]])]);
    let mut case = Case::new(&provider, &later);
    let attachment = MemoryKey::Attachment("c".into(), ids[0].clone());
    case.backoff.insert((attachment.clone(), Effect::Open));
    let plan = case.plan();
    let detached = plan.steps.iter().find(|step| step.action.key() == attachment).unwrap();
    assert_eq!(detached.effect, Effect::Close, "{:?}", verbs(&plan));
    assert_eq!(detached.action.after().unwrap().groups.len(), 1, "what stays open and is asked for");
}

#[test]
fn what_could_not_be_detached_is_not_deleted() {
    let ids = instances(2);
    let (_, provider) = converged(2, &desired([group("web", OPEN, &[&ids[0], &ids[1]])]));
    let mut case = Case::new(&provider, &Desired::nothing());
    case.backoff.insert((MemoryKey::Attachment("c".into(), ids[0].clone()), Effect::Close));
    let other = MemoryKey::Attachment("c".into(), ids[1].clone());
    assert_eq!(verbs(&case.plan()), [format!("delete {other}")]);
}

#[test]
fn what_is_open_and_asked_for_stays_while_what_is_to_replace_it_waits() {
    let ids = instances(1);
    let former = || desired([group("web", OPEN, &[&ids[0]])]);
    let (former_key, _) = group("web", OPEN, &[]);
    let attachment = MemoryKey::Attachment("c".into(), ids[0].clone());
    let group_of = |key: &firewall_model::GroupKey| MemoryKey::Group("c".into(), key.digest());
    for (rules, stays) in
        [(&["tcp/80 0.0.0.0/0", "tcp/81 0.0.0.0/0"][..], true), (&["tcp/80 10.0.0.0/8"], false)]
    {
        let (later_key, _) = group("later", rules, &[]);
        for waiting in [&attachment, &group_of(&later_key)] {
            let (_, provider) = converged(1, &former());
            let mut case = Case::new(&provider, &desired([group("later", rules, &[&ids[0]])]));
            case.backoff.insert((waiting.clone(), Effect::Open));
            let plan = case.plan();
            let mut world = case.observed.clone();
            for step in &plan.steps {
                step.action.enact(&mut world);
            }
            assert_eq!(world.contains_key(&group_of(&former_key)), stays, "{waiting}: {:?}", verbs(&plan));
            assert_eq!(
                <MemoryResource as firewall_model::Resource>::reach(&world, &ids[0]).rules.is_empty(),
                !stays
            );
            case.observed = world;
            assert_eq!(verbs(&case.plan()), [""; 0], "it stays so until the other can be tried again");
        }
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

/// One moment of a history: which groups exist, with which sources, on which instances.
fn moment() -> impl Strategy<Value = BTreeMap<usize, (BTreeSet<usize>, BTreeSet<usize>)>> {
    let sources = prop::collection::btree_set(0..4_usize, 1..3);
    prop::collection::btree_map(0..4_usize, (sources, prop::collection::btree_set(0..4_usize, 1..4)), 0..4)
}

fn at_moment(moment: &BTreeMap<usize, (BTreeSet<usize>, BTreeSet<usize>)>, ids: &[InstanceId]) -> Desired {
    const SOURCES: [&str; 4] = ["10.0.0.0/8", "192.0.2.0/24", "0.0.0.0/0", "::/0"];
    desired(moment.iter().map(|(name, (sources, members))| {
        let rules: Vec<String> =
            sources.iter().map(|source| format!("tcp/{} {}", 80 + name, SOURCES[*source])).collect();
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        let members: Vec<&InstanceId> = members.iter().map(|member| &ids[*member]).collect();
        group(&format!("w{name}"), &rules, &members)
    }))
}

fn fault() -> impl Strategy<Value = Fault> {
    let error =
        || ProviderError::Transient { call: "call".into(), object: "x".into(), message: "injected".into() };
    prop_oneof![3 => Just(Fault::None), 1 => Just(Fault::Before(error())), 1 => Just(Fault::After(error()))]
}

/// Applies the plan as the controller does: what waits for a failed step is left out if it must not go ahead.
/// After every call, no instance admits more than it did or than is asked for.
fn apply_with_faults(provider: &Memory, cloud: &MemoryCloud, plan: &Plan<MemoryResource>, case: &Case) {
    let (before, wanted) = (reaches(&case.observed), reaches(&case.desired));
    let mut failed = BTreeSet::new();
    for (position, step) in plan.steps.iter().enumerate() {
        let blocked = step.after.iter().any(|other| other.must_succeed && failed.contains(&other.step));
        if blocked || block_on(provider.apply(&step.action)).is_err() {
            failed.insert(position);
        }
        for (instance, open) in reaches(&cloud.resources()) {
            let none = RuleSet::default();
            let allowed =
                before.get(&instance).unwrap_or(&none).union(wanted.get(&instance).unwrap_or(&none));
            assert!(
                allowed.covers(&open),
                "{instance} admits {open} where {allowed} is asked for, after {step:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn applying_the_diff_gives_the_desired(from in moment(), to in moment()) {
        let ids = instances(4);
        let (_, provider) = converged(4, &at_moment(&from, &ids));
        let case = Case::new(&provider, &at_moment(&to, &ids));
        let difference = diff(&case.desired, &case.observed);
        let mut world = case.observed.clone();
        for resource in difference.create.iter().chain(difference.update.iter().map(|change| &change.to)) {
            world.insert(resource.key.clone(), resource.clone());
        }
        for resource in &difference.delete {
            world.remove(&resource.key);
        }
        prop_assert!(diff(&case.desired, &world).is_empty());
        prop_assert_eq!(reaches(&world), reaches(&case.desired));
        prop_assert!(diff(&case.desired, &case.desired).is_empty());
    }

    #[test]
    fn every_plan_keeps_the_promises_and_leaves_nothing(from in moment(), to in moment()) {
        let ids = instances(4);
        let (_, provider) = converged(4, &at_moment(&from, &ids));
        let (plan, _) = block_on(planned(&provider, &at_moment(&to, &ids))).unwrap();
        prop_assert_eq!(&plan.withheld, &vec![]);
        block_on(conformance::converge(&provider, &at_moment(&to, &ids)));
    }

    #[test]
    fn what_failed_is_not_tried_and_holds_no_closing_up(
        from in moment(), to in moment(), failing in prop::collection::vec((any::<bool>(), any::<bool>()), 32),
    ) {
        let ids = instances(4);
        let (_, provider) = converged(4, &at_moment(&from, &ids));
        let mut case = Case::new(&provider, &at_moment(&to, &ids));
        case.limits.mass_close_released = true;
        let keys: BTreeSet<MemoryKey> = case.desired.keys().chain(case.observed.keys()).cloned().collect();
        for (key, (opening, closing)) in keys.iter().zip(failing) {
            let effects = [(opening, Effect::Open), (closing, Effect::Close)];
            let effects = effects.into_iter().filter(|(fails, _)| *fails);
            case.backoff.extend(effects.map(|(_, effect)| (key.clone(), effect)));
        }
        let plan = case.plan();
        for step in &plan.steps {
            prop_assert!(!case.backoff.contains(&(step.action.key(), step.effect)), "{:?}", step);
        }

        case.backoff = keys.into_iter().map(|key| (key, Effect::Open)).collect();
        let mut world = case.observed.clone();
        for step in &case.plan().steps {
            step.action.enact(&mut world);
        }
        let wanted = reaches(&case.desired);
        for (instance, open) in reaches(&world) {
            let wanted = wanted.get(&instance).cloned().unwrap_or_default();
            prop_assert!(wanted.covers(&open), "{instance} admits {open} where {wanted} is asked for");
        }
        case.observed = world;
        prop_assert_eq!(verbs(&case.plan()), [""; 0], "what was closed is not opened and closed again");
    }

    #[test]
    fn histories_with_faults_never_open_more_than_asked_and_converge(
        moments in prop::collection::vec((moment(), any::<bool>(), prop::collection::vec(fault(), 0..12)), 1..6),
    ) {
        let ids = instances(4);
        let cloud = MemoryCloud::new(ids.clone());
        let provider = cloud.provider("c");
        let mut last = Desired::nothing();
        for (moment, complete, faults) in moments {
            let mut wanted = at_moment(&moment, &ids);
            if !complete {
                wanted.completeness = Completeness::Partial(vec!["a watch is broken".into()]);
            }
            let mut case = Case::new(&provider, &wanted);
            case.limits.mass_close_released = true;
            cloud.inject(faults);
            apply_with_faults(&provider, &cloud, &case.plan(), &case);
            cloud.heal();
            last = at_moment(&moment, &ids);
        }
        block_on(conformance::converge(&provider, &last));
        let case = Case::new(&provider, &last);
        prop_assert_eq!(reaches(&cloud.resources()), reaches(&case.desired));
    }
}
