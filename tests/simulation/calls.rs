//! The calls that each change of a cluster costs, beside the fewest that the cloud's API allows: counted behind the
//! real providers, and held to a table.

mod scenarios;
mod table;

use std::path::PathBuf;

use crate::cloud::Size;
use crate::history::{CloudKind, Setup};
use crate::threads::run_all;
use crate::world::{Calls, World, on_virtual_time};
use scenarios::{Scenario, scenarios};

/// The clouds of the table, each with its mode.
const CLOUDS: [CloudKind; 4] = [CloudKind::Ec2, CloudKind::Ec2Shared, CloudKind::Gce, CloudKind::GceTags];

/// The look-ups of the served APIs in an hour: of four groups and versions every two minutes.
const LOOK_UPS_PER_HOUR: usize = 120;

const RESYNCS_PER_HOUR: usize = 12;

/// The file that holds the table.
const TABLE: &str = "docs/performance.md";

/// Returns the calls of a scenario on a cloud, and what it breaks.
fn measure(scenario: &Scenario, cloud: CloudKind) -> (Calls, Vec<String>) {
    let setup = Setup { cloud, linger: scenario.linger, serves_all_kinds: true, ..Setup::default() };
    let size = Size::real(2 * scenario.nodes + 2);
    on_virtual_time(1, async {
        let mut world = World::empty(setup, size);
        world.begin(&scenario.before).await;
        let mark = world.mark();
        if scenario.is_cleanup {
            world.uninstall();
            world.clean_up().await.expect("nobody kills it").expect("everything is removed");
            assert_eq!(world.resources(), Vec::<String>::new(), "nothing is left");
        } else if scenario.quiet > 0 {
            world.wait(scenario.quiet).await;
        } else {
            world.happen(&scenario.events).await;
            world.settle_all().await;
        }
        let calls = world.calls_since(mark);
        let violations = world.outcome().violations;
        (calls, violations.iter().map(ToString::to_string).collect())
    })
}

/// Returns the calls of every scenario on every cloud, in order.
fn measure_all(scenarios: &[Scenario]) -> Vec<[Calls; 4]> {
    let measured = run_all(scenarios.len() * CLOUDS.len(), |position| {
        let (scenario, cloud) = (&scenarios[position / CLOUDS.len()], CLOUDS[position % CLOUDS.len()]);
        let (calls, violations) = measure(scenario, cloud);
        assert_eq!(violations, Vec::<String>::new(), "{}, {cloud:?}", scenario.name);
        calls
    });
    let mut measured = measured.into_iter();
    scenarios.iter().map(|_| CLOUDS.map(|_| measured.next().expect("one for each cloud"))).collect()
}

/// `SIMULATION_WRITE_TABLE` writes the table as it is now.
#[test]
fn calls_are_as_in_the_table() {
    let scenarios = scenarios();
    let measured = measure_all(&scenarios);
    for (scenario, calls) in scenarios.iter().zip(&measured) {
        for (cloud, calls) in CLOUDS.iter().zip(calls) {
            println!("{}, {cloud:?}: {calls:?}", scenario.name);
        }
    }
    let wrong = table::unexplained(&scenarios, &measured);
    let table = table::render(&scenarios, &measured);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(TABLE);
    let text = std::fs::read_to_string(&path).expect("the page is there");
    let wanted = table::replace(&text, &table).expect("the page has the marks");
    if std::env::var_os("SIMULATION_WRITE_TABLE").is_some() {
        std::fs::write(&path, &wanted).expect("the page can be written");
    } else {
        assert!(text == wanted, "{TABLE} is not what was counted, which is:\n\n{table}");
    }
    let lists =
        scenarios.iter().zip(&measured).filter(|(_, calls)| calls.iter().any(|calls| calls.lists > 0));
    let lists: Vec<&str> = lists.map(|(scenario, _)| scenario.name).collect();
    assert_eq!(lists, ["restart"], "nothing else lists anything");
    assert_eq!(wrong, Vec::<String>::new(), "a ratio over 1 has a reason, and no other has");
}

/// The cloud is read at each resync, and nothing else happens.
#[test]
fn idle_hour_writes_and_lists_nothing() {
    let scenarios = scenarios();
    let idle = scenarios.iter().find(|scenario| scenario.quiet > 0).expect("it is there");
    for cloud in CLOUDS {
        let (calls, _) = measure(idle, cloud);
        assert_eq!((calls.writes(), calls.lists), (0, 0), "{cloud:?}: {calls:?}");
        assert_eq!(calls.look_ups, LOOK_UPS_PER_HOUR, "{cloud:?}");
        assert_eq!(calls.reads.values().min(), Some(&RESYNCS_PER_HOUR), "{cloud:?}: {calls:?}");
    }
}
