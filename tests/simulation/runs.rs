//! The tests: seeds, the same run from the same seed, and the checker's own proof.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{available_parallelism, scope};

use crate::checker::Promise;
use crate::generate::{Withheld, generate};
use crate::history::{CloudKind, Event, History, Setup};
use crate::known_faults::withheld;
use crate::mutants::Mutant;
use crate::shrink::shrink;
use crate::threads::run_all;
use crate::world::{Outcome, run};

/// The seeds that `./test` runs.
const SEEDS: u64 = 2_000;

/// Panics with the seed, the shrunk history and what it breaks.
fn fail(history: &History, outcome: &Outcome, mutant: Option<Mutant>) -> ! {
    let promise = outcome.violations[0].promise;
    let shrunk = shrink(history, promise, |candidate| run(candidate, mutant).broken());
    let outcome = run(&shrunk, mutant);
    let violations: Vec<String> = outcome.violations.iter().map(ToString::to_string).collect();
    panic!(
        "a promise is broken. {shrunk}\n{}\n\nwhat happened:\n{}",
        violations.join("\n"),
        outcome.trace.join("\n")
    );
}

fn seeds() -> (u64, u64) {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
    (number("SIMULATION_FIRST_SEED").unwrap_or(1), number("SIMULATION_SEEDS").unwrap_or(SEEDS))
}

/// Returns the cloud that all histories are to have, if one is asked for.
fn cloud() -> Option<CloudKind> {
    match std::env::var("SIMULATION_CLOUD").ok()?.as_str() {
        "memory" => Some(CloudKind::Memory),
        "ec2" => Some(CloudKind::Ec2),
        "ec2-shared" => Some(CloudKind::Ec2Shared),
        "gce" => Some(CloudKind::Gce),
        "gce-tags" => Some(CloudKind::GceTags),
        other => panic!("SIMULATION_CLOUD is memory, ec2, ec2-shared, gce or gce-tags, not {other}"),
    }
}

#[test]
fn random_histories_break_no_promise() {
    let (first, count) = seeds();
    let (next, events, checks) = (AtomicU64::new(first), AtomicU64::new(0), AtomicU64::new(0));
    let threads = available_parallelism().map_or(2, usize::from);
    let (withheld, cloud) = (withheld(), cloud());
    let began = std::time::Instant::now();
    scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= first + count {
                        return;
                    }
                    let history = generate(seed, withheld, cloud);
                    let outcome = run(&history, None);
                    if !outcome.violations.is_empty() {
                        // The others need not go on.
                        next.store(first + count, Ordering::Relaxed);
                        fail(&history, &outcome, None);
                    }
                    events.fetch_add(u64::try_from(history.events.len()).unwrap_or(0), Ordering::Relaxed);
                    checks.fetch_add(outcome.checks, Ordering::Relaxed);
                }
            });
        }
    });
    let seconds = began.elapsed().as_secs_f64();
    println!("{count} seeds, {events:?} events, {checks:?} comparisons in {seconds:.1} s");
}

#[test]
fn same_seed_gives_the_same_run() {
    let clouds =
        [CloudKind::Memory, CloudKind::Ec2, CloudKind::Ec2Shared, CloudKind::Gce, CloudKind::GceTags];
    run_all(clouds.len() * 10, |position| {
        let seed = u64::try_from(position).expect("few runs") + 1;
        let history = generate(seed, withheld(), Some(clouds[position % clouds.len()]));
        let (one, other) = (run(&history, None), run(&history, None));
        assert_eq!(one.trace, other.trace, "seed {seed}");
        assert!(one.trace.len() > 10, "something happens: {:?}", one.trace);
    });
}

#[test]
fn checker_finds_every_seeded_bug() {
    let mut found = BTreeMap::new();
    for mutant in Mutant::ALL {
        let seed = (1..=40).find(|seed| {
            let mut history = generate(*seed, withheld(), Some(mutant.cloud()));
            if mutant.needs_lease() {
                history.setup = Setup { replicas: 2, has_lease: true, ..history.setup };
            }
            run(&history, Some(mutant)).broken().contains(&mutant.breaks())
        });
        found.insert(format!("{mutant:?}"), seed);
    }
    let missed: Vec<&String> =
        found.iter().filter(|(_, seed)| seed.is_none()).map(|(name, _)| name).collect();
    assert!(missed.is_empty(), "not found: {missed:?}; found: {found:?}");
}

#[test]
fn failing_history_is_shrunk_to_what_matters() {
    let history = generate(1, withheld(), None);
    let mut long = history.clone();
    long.events.push((200_000, Event::PodGone { workload: 0, node: 0 }));
    let breaks = |history: &History| run(history, Some(Mutant::OpensToAnywhere)).broken();
    let promise = Promise::NeverMore;
    assert!(breaks(&long).contains(&promise), "{long}");
    let shrunk = shrink(&long, promise, breaks);
    assert!(shrunk.events.len() <= 3, "a node, an intent and a pod are enough: {shrunk}");
}

/// Nothing is withheld from a program that withstands everything.
#[test]
fn every_event_is_made_from_some_seed() {
    let all = Withheld {
        nodes_vanish: false,
        machines_are_omitted: false,
        intents_get_unreadable: false,
        calls_fail: false,
        calls_are_slow: false,
        machines_are_replaced: false,
        lease_is_slow: false,
        lease_conflicts: false,
        sources_need_rules: false,
    };
    let names: std::collections::BTreeSet<String> = (1..=400)
        .flat_map(|seed| generate(seed, all, None).events)
        .map(|(_, event)| format!("{event:?}").split(' ').next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(names.len(), 35, "{names:?}");
}
