//! The conformance suite: the behaviour that every provider must have, written once and run against each.
//!
//! A provider's tests implement [`Harness`] over a real or simulated cloud and call [`run`]. The harness
//! reads open ports from the cloud by other means than the provider does, so that an error in the provider's
//! reading is found.

mod convergence;
mod openings;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;

pub use self::convergence::{converge, observe_and_plan, observe_and_plan_with};
use crate::{
    Compiled, Desired, FirewallGroup, FirewallProvider, GroupKey, IngressRule, InstanceId, PortRange,
    Protocol, Resource, ResourceSet, RuleSet, Unknown, Workload,
};

/// A cloud under test. One harness is one fresh, empty cloud with at least three instances.
pub trait Harness: Sync {
    /// The provider under test.
    type Provider: FirewallProvider;

    /// Returns a provider for one cluster; every call returns one without the state of earlier ones.
    fn provider(&self, cluster: &str) -> Self::Provider;

    /// Returns at least three instances that exist.
    fn instances(&self) -> Vec<InstanceId>;

    /// Returns a well-formed id that no instance has.
    fn missing_instance(&self) -> InstanceId;

    /// Reads from the cloud what it lets in to an instance through resources marked as `cluster`'s.
    fn open_rules(&self, cluster: &str, instance: &InstanceId) -> impl Future<Output = RuleSet> + Send;

    /// Returns everything in the cloud that is not marked as `cluster`'s, as text to compare before and
    /// after.
    fn foreign_state(&self, cluster: &str) -> impl Future<Output = String> + Send;

    /// Removes (`present: false`) or adds a rule of a resource that `cluster` owns, without its provider.
    fn tamper_with_rule(
        &self,
        cluster: &str,
        rule: IngressRule,
        present: bool,
    ) -> impl Future<Output = ()> + Send;
}

/// Runs every case; each starts from a cloud that the case before has left empty.
///
/// # Panics
/// At the first expectation that is not met.
pub async fn run<H: Harness>(harness: &H) {
    opens_exactly_the_desired_ports(harness).await;
    names_the_requirements_of_memberships(harness).await;
    moves_and_closes(harness).await;
    changes_sources_in_place(harness).await;
    openings::wait_for_no_closing(harness).await;
    repairs_drift(harness).await;
    shares_an_instance_between_groups(harness).await;
    leaves_other_clusters_alone(harness).await;
    converges_after_a_crash_between_any_two_steps(harness).await;
    reports_a_missing_instance_and_opens_the_rest(harness).await;
}

const CLUSTER: &str = "conformance-a";
const OTHER_CLUSTER: &str = "conformance-b";

/// Returns a group of a workload's pods with these rules on these instances.
///
/// # Panics
/// If a rule is not written as `tcp/80 0.0.0.0/0`.
#[must_use]
pub fn group(name: &str, rules: &[&str], members: &[&InstanceId]) -> (GroupKey, FirewallGroup) {
    let rules: RuleSet = rules.iter().map(|text| rule(text)).collect();
    let ports: BTreeSet<(Protocol, PortRange)> =
        rules.iter().map(|rule| (rule.protocol, rule.ports)).collect();
    let workload = Workload { kind: "Deployment".into(), namespace: "default".into(), name: name.into() };
    let members = members.iter().copied().cloned().collect();
    let key = GroupKey { workload: workload.into(), ports: ports.into(), variant: "".into() };
    (key, FirewallGroup { rules, members })
}

/// Reads `tcp/80-81 10.0.0.0/8`.
///
/// # Panics
/// If the text has another form.
#[must_use]
pub fn rule(text: &str) -> IngressRule {
    let (traffic, source) = text.split_once(' ').expect("a space before the source");
    let (protocol, ports) = traffic.split_once('/').expect("a slash after the protocol");
    IngressRule::new(
        protocol.parse().expect("a protocol"),
        ports.parse().expect("a port range"),
        source.parse().expect("a CIDR"),
    )
}

/// Returns the groups as a complete desired state.
#[must_use]
pub fn desired(groups: impl IntoIterator<Item = (GroupKey, FirewallGroup)>) -> Desired {
    Desired { groups: groups.into_iter().collect(), unknown: Unknown::default() }
}

async fn expect_open<H: Harness>(harness: &H, instance: &InstanceId, rules: &[&str], when: &str) {
    let expected: RuleSet = rules.iter().map(|text| rule(text)).collect();
    assert_eq!(harness.open_rules(CLUSTER, instance).await, expected, "{instance} {when}");
}

async fn clean_up<H: Harness>(harness: &H) {
    converge(&harness.provider(CLUSTER), &Desired::nothing()).await;
    for instance in harness.instances() {
        expect_open(harness, &instance, &[], "after cleaning up").await;
    }
}

async fn opens_exactly_the_desired_ports<H: Harness>(harness: &H) {
    let [a, b, ..] = &harness.instances()[..] else { panic!("three instances") };
    let rules =
        ["tcp/80 0.0.0.0/0", "tcp/80 ::/0", "udp/30000-30100 198.51.100.0/24", "sctp/3868 10.0.0.0/8"];
    converge(&harness.provider(CLUSTER), &desired([group("web", &rules, &[a])])).await;
    expect_open(harness, a, &rules, "that is a member").await;
    expect_open(harness, b, &[], "that is not a member").await;
    clean_up(harness).await;
}

/// The requirements of a membership are the resources that must exist for it to be open, and every feasible
/// membership has them.
async fn names_the_requirements_of_memberships<H: Harness>(harness: &H) {
    let [a, b, ..] = &harness.instances()[..] else { panic!("three instances") };
    let provider = harness.provider(CLUSTER);
    let gone = harness.missing_instance();
    let desired = desired([group("web", &["tcp/80 0.0.0.0/0", "tcp/80 ::/0"], &[a, b, &gone])]);
    let observed = provider.observe(&desired.members()).await.expect("observing works");
    let memberships = provider.compile(&desired, &observed.inventory).requirements;
    let members: Vec<&InstanceId> = memberships.keys().map(|(_, instance)| instance).collect();
    assert_eq!(members, BTreeSet::from([a, b]).into_iter().collect::<Vec<_>>());
    converge(&provider, &desired).await;
    let resources = provider.observe(&desired.members()).await.expect("observing works").resources;
    for (membership, requirements) in &memberships {
        let missing: Vec<_> =
            requirements.resources.iter().filter(|key| !resources.contains_key(key)).collect();
        assert!(
            !requirements.resources.is_empty() && missing.is_empty(),
            "{membership:?} requires {requirements:?}, of which {missing:?} are missing"
        );
        let reached = requirements.reachable_at.iter().map(|id| resources.reach(id).rules);
        let open: RuleSet = reached.flat_map(|rules| rules.iter().copied().collect::<Vec<_>>()).collect();
        let expected = &desired.groups[&membership.0].rules;
        assert!(open.intersection(expected) == open && !open.is_empty(), "{membership:?} has {open} open");
    }
    clean_up(harness).await;
}

async fn moves_and_closes<H: Harness>(harness: &H) {
    let [a, b, ..] = &harness.instances()[..] else { panic!("three instances") };
    let provider = harness.provider(CLUSTER);
    converge(&provider, &desired([group("web", &["tcp/80 0.0.0.0/0"], &[a])])).await;
    converge(&provider, &desired([group("web", &["tcp/80 0.0.0.0/0"], &[b])])).await;
    expect_open(harness, a, &[], "that the pod left").await;
    expect_open(harness, b, &["tcp/80 0.0.0.0/0"], "that the pod moved to").await;
    clean_up(harness).await;
}

async fn changes_sources_in_place<H: Harness>(harness: &H) {
    let [a, ..] = &harness.instances()[..] else { panic!("three instances") };
    let provider = harness.provider(CLUSTER);
    for sources in [["10.0.0.0/8", "192.0.2.0/24"], ["10.0.0.0/8", "198.51.100.0/24"]] {
        let rules = sources.map(|source| format!("tcp/443 {source}"));
        let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
        converge(&provider, &desired([group("web", &rules, &[a])])).await;
        expect_open(harness, a, &rules, "after its sources changed").await;
    }
    clean_up(harness).await;
}

async fn repairs_drift<H: Harness>(harness: &H) {
    let [a, ..] = &harness.instances()[..] else { panic!("three instances") };
    let provider = harness.provider(CLUSTER);
    let desired = desired([group("web", &["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"], &[a])]);
    converge(&provider, &desired).await;
    for (text, present) in [("tcp/80 0.0.0.0/0", false), ("tcp/8080 203.0.113.0/24", true)] {
        harness.tamper_with_rule(CLUSTER, rule(text), present).await;
        assert!(converge(&provider, &desired).await > 0, "drift of {text} was not noticed");
        expect_open(harness, a, &["tcp/80 0.0.0.0/0", "tcp/443 0.0.0.0/0"], "after drift").await;
    }
    clean_up(harness).await;
}

async fn shares_an_instance_between_groups<H: Harness>(harness: &H) {
    let [a, b, ..] = &harness.instances()[..] else { panic!("three instances") };
    let provider = harness.provider(CLUSTER);
    let (web, dns) = (["tcp/80 0.0.0.0/0"], ["udp/53 10.0.0.0/8"]);
    converge(&provider, &desired([group("web", &web, &[a, b]), group("dns", &dns, &[a])])).await;
    expect_open(harness, a, &["tcp/80 0.0.0.0/0", "udp/53 10.0.0.0/8"], "in two groups").await;
    expect_open(harness, b, &web, "in one group").await;
    converge(&provider, &desired([group("web", &web, &[b]), group("dns", &dns, &[a])])).await;
    expect_open(harness, a, &dns, "that left one of two groups").await;
    clean_up(harness).await;
}

async fn leaves_other_clusters_alone<H: Harness>(harness: &H) {
    let [a, ..] = &harness.instances()[..] else { panic!("three instances") };
    let same = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[a])]);
    converge(&harness.provider(OTHER_CLUSTER), &same()).await;
    let before = harness.foreign_state(CLUSTER).await;
    converge(&harness.provider(CLUSTER), &same()).await;
    clean_up(harness).await;
    assert_eq!(harness.foreign_state(CLUSTER).await, before, "resources of others have changed");
    converge(&harness.provider(OTHER_CLUSTER), &Desired::nothing()).await;
}

async fn converges_after_a_crash_between_any_two_steps<H: Harness>(harness: &H) {
    let [a, b, ..] = &harness.instances()[..] else { panic!("three instances") };
    let from = desired([group("web", &["tcp/80 0.0.0.0/0"], &[a])]);
    let to = desired([group("web", &["tcp/80 10.0.0.0/8"], &[b]), group("dns", &["udp/53 ::/0"], &[a])]);
    for survived in 0.. {
        converge(&harness.provider(CLUSTER), &from).await;
        let crashing = harness.provider(CLUSTER);
        let (plan, _) = observe_and_plan(&crashing, &to).await.expect("observing works");
        for step in plan.steps.iter().take(survived) {
            crashing.apply(&step.action).await.expect("the step works");
        }
        converge(&harness.provider(CLUSTER), &to).await;
        expect_open(harness, a, &["udp/53 ::/0"], "after a crash").await;
        expect_open(harness, b, &["tcp/80 10.0.0.0/8"], "after a crash").await;
        if survived == plan.steps.len() {
            break;
        }
    }
    clean_up(harness).await;
}

async fn reports_a_missing_instance_and_opens_the_rest<H: Harness>(harness: &H) {
    let [a, ..] = &harness.instances()[..] else { panic!("three instances") };
    let provider = harness.provider(CLUSTER);
    let gone = harness.missing_instance();
    let desired = desired([group("web", &["tcp/80 0.0.0.0/0"], &[a, &gone])]);
    let (_, infeasible) =
        observe_and_plan(&provider, &desired).await.expect("a missing instance fails nothing else");
    assert_eq!(infeasible, 1, "the missing instance is reported");
    converge(&provider, &desired).await;
    expect_open(harness, a, &["tcp/80 0.0.0.0/0"], "beside a missing one").await;
    clean_up(harness).await;
}

/// Returns what each instance admits in `set`, for tests that compare states.
#[must_use]
pub fn reach_by_instance<R: crate::Resource>(set: &ResourceSet<R>) -> BTreeMap<InstanceId, RuleSet> {
    let instances: BTreeSet<InstanceId> = set.values().flat_map(|resource| resource.instances(set)).collect();
    let reach = |instance: InstanceId| {
        let rules = set.reach(&instance).rules;
        (instance, rules)
    };
    instances.into_iter().map(reach).filter(|(_, rules)| !rules.is_empty()).collect()
}

/// Compiles each desired state of a history on top of the result of the one before, and asserts which
/// memberships are feasible where capacity is short: incumbents are kept, and no capacity is left unused.
/// `compile` takes the desired and the observed state. Groups must not ask for the same ports.
///
/// # Panics
/// If compiling again changes something, a newcomer displaces an incumbent, or capacity is left unused.
pub fn assert_incumbents_keep_capacity<R: Resource>(
    history: &[Desired],
    compile: impl Fn(&Desired, &ResourceSet<R>) -> Compiled<R>,
) {
    let mut observed = ResourceSet::<R>::new();
    let mut open: BTreeMap<(GroupKey, InstanceId), RuleSet> = BTreeMap::new();
    for desired in history {
        let compiled = compile(desired, &observed);
        let again = compile(desired, &compiled.resources);
        assert_eq!(
            again.infeasible, compiled.infeasible,
            "compiling again makes others infeasible: {desired:?}"
        );
        assert_eq!(again.resources, compiled.resources, "compiling again changes something: {desired:?}");

        let is_incumbent = |id: &(GroupKey, InstanceId)| {
            open.get(id).is_some_and(|rules| rules.covers(&desired.groups[&id.0].rules))
        };
        let incumbents = retain_memberships(desired, is_incumbent);
        let alone = compile(&incumbents, &observed).requirements;
        if memberships(&incumbents).iter().all(|id| alone.contains_key(id)) {
            for id in alone.keys() {
                assert!(
                    compiled.requirements.contains_key(id),
                    "{id:?} was displaced by a newcomer: {desired:?}"
                );
            }
        }

        let left_out: BTreeSet<_> =
            memberships(desired).into_iter().filter(|id| !compiled.requirements.contains_key(id)).collect();
        for one in &left_out {
            let more = retain_memberships(desired, |id| id == one || compiled.requirements.contains_key(id));
            let with = compile(&more, &observed).requirements.len();
            assert!(with <= compiled.requirements.len(), "{one:?} fits as well: {desired:?}");
        }
        open = compiled
            .requirements
            .into_keys()
            .map(|id| {
                let rules = desired.groups[&id.0].rules.clone();
                (id, rules)
            })
            .collect();
        observed = compiled.resources;
    }
}

fn memberships(desired: &Desired) -> BTreeSet<(GroupKey, InstanceId)> {
    let of = |(key, group): (&GroupKey, &FirewallGroup)| {
        group.members.iter().map(|member| (key.clone(), member.clone())).collect::<Vec<_>>()
    };
    desired.groups.iter().flat_map(of).collect()
}

/// Returns the desired state with only the memberships that `keep` accepts.
fn retain_memberships(whole: &Desired, keep: impl Fn(&(GroupKey, InstanceId)) -> bool) -> Desired {
    let mut part = whole.clone();
    for (key, group) in &mut part.groups {
        group.members.retain(|member| keep(&(key.clone(), member.clone())));
    }
    part.groups.retain(|_, group| !group.members.is_empty());
    part
}
