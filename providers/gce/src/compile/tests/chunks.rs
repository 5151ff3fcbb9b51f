//! Sources beyond one rule's limit.

use firewall_core::{InFlight, Limits, Plan, PlanInput, Policy, Resource, Unknown, check, plan};

use super::*;

/// Returns the configuration with three ranges per rule.
fn small(config: GceConfig) -> GceConfig {
    GceConfig { ranges_per_rule: 3, ..config }
}

/// Returns a group whose sources have these numbers, on the first instance.
fn wanted(sources: &BTreeSet<u8>) -> Desired {
    let rules: Vec<String> = sources.iter().map(|number| format!("tcp/80 192.0.{number}.1/32")).collect();
    let rules: Vec<&str> = rules.iter().map(String::as_str).collect();
    desired([group("web", &rules, &[&instance(0)])])
}

/// Returns the inventory of a cloud with these resources.
fn observed(resources: &ResourceSet<GceResource>) -> Inventory {
    let mut inventory = inventory(1);
    for rule in resources.values().filter_map(GceResource::as_rule) {
        let (base, shard) = ownership::split_shard_name(&rule.name).expect("a shard");
        inventory.shards.entry(base.to_owned()).or_default().insert(shard, rule.destinations.clone());
        let sources = inventory.sources.entry(base.to_owned()).or_default();
        sources.extend(rule.rules.iter().map(|rule| rule.source));
    }
    if let Some(facts) = inventory.instances.get_mut(&instance(0))
        && let Some(GceResource::Tags(tags)) = resources.get(&GceKey::Tags(instance(0)))
    {
        facts.own_tags = tags.tags.clone();
    }
    inventory
}

fn plan_between(from: &ResourceSet<GceResource>, to: &ResourceSet<GceResource>) -> Plan<GceResource> {
    let input = PlanInput {
        desired: to,
        observed: from,
        unknown: &Unknown::default(),
        policy: Policy::Sync,
        limits: Limits { mass_close_released: true, ..Limits::default() },
        released: &BTreeSet::new(),
        endings: &BTreeMap::new(),
        backoff: &BTreeSet::new(),
        in_flight: &InFlight::none(),
    };
    let plan = plan(&input);
    assert_eq!(check(&input, &plan), []);
    plan
}

/// Returns the ids under which the first instance is reachable.
fn targets(config: &GceConfig) -> InstanceId {
    match config.mode {
        Mode::Tags => instance(0),
        Mode::Destination => InstanceId::new(format!("10.0.0.0/32@{NETWORK}")),
    }
}

#[test]
fn source_that_joins_or_leaves_changes_one_rule() {
    for config in [small(config()), small(tags_config())] {
        let all: BTreeSet<u8> = (10..22).collect();
        let before = compile(&wanted(&all), &inventory(1), &config).resources;
        for changed in [0, 10, 15, 21, 255] {
            let mut sources = all.clone();
            if !sources.remove(&changed) {
                sources.insert(changed);
            }
            let after = compile(&wanted(&sources), &observed(&before), &config).resources;
            let is_rule = |key: &&GceKey| matches!(key, GceKey::Rule(_));
            let keys: BTreeSet<&GceKey> = before.keys().chain(after.keys()).filter(is_rule).collect();
            let differs = |key: &&&GceKey| {
                let (one, two) = (before.get(key), after.get(key));
                one.zip(two).is_none_or(|(one, two)| !one.has_same_spec(two))
            };
            assert_eq!(keys.iter().filter(differs).count(), 1, "{changed}");
        }
    }
}

proptest! {
    #[test]
    fn source_that_moves_is_open_throughout(
        history in prop::collection::vec(prop::collection::btree_set(0..20_u8, 1..20), 1..6),
        first_limit in 1..6_usize,
        uses_tags: bool,
    ) {
        let config = small(if uses_tags { tags_config() } else { config() });
        // The first state has another limit, so that sources have to move.
        let first = GceConfig { ranges_per_rule: first_limit, ..config.clone() };
        let mut state = compile(&wanted(&history[0]), &inventory(1), &first).resources;
        for sources in &history {
            let after = compile(&wanted(sources), &observed(&state), &config).resources;
            let target = targets(&config);
            let stays = state.reach(&target).rules.intersection(&after.reach(&target).rules);
            for step in plan_between(&state, &after).steps {
                step.action.apply_to(&mut state);
                let open = state.reach(&target).rules;
                prop_assert!(open.covers(&stays), "{step:?} leaves {open} of {stays}");
            }
            let again = compile(&wanted(sources), &observed(&state), &config).resources;
            prop_assert_eq!(plan_between(&state, &again).steps, vec![]);
        }
    }
}
