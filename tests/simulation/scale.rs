//! Thousands of nodes on EC2, whose limits on calls bound how fast groups can be attached.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use firewall_aws::AwsConfig;
use tokio::time::{Instant, sleep};

use crate::checker::Cause;
use crate::cloud::ec2::{Ec2, Limits, Rate};
use crate::cloud::{ModelCloud, Observer, Size, View};
use crate::history::{CloudKind, Setup};
use crate::process::Process;
use crate::world::{World, on_virtual_time};

/// The call that attaches groups.
const ATTACH: &str = "ModifyNetworkInterfaceAttribute";

/// The number of nodes, where `SIMULATION_NODES` names no other.
const NODES: usize = 300;

/// The number of nodes from which on the burst of another limit does not matter: an interface is read before and after
/// each change, and the limit of reads by id allows ten in a second, which is as slow.
const MANY: usize = 1000;

/// Counts calls, and knows when the last one attached a group.
#[derive(Default)]
struct Meter(Mutex<Counts>);

#[derive(Clone, Copy, Default)]
struct Counts {
    reads: usize,
    writes: usize,
    attached: usize,
    last: Option<Instant>,
}

impl Meter {
    fn change(&self, change: impl FnOnce(&mut Counts)) -> Counts {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        change(&mut counts);
        *counts
    }
}

impl Observer for Meter {
    fn called(&self, _: &str, changes: bool) {
        self.change(|counts| if changes { counts.writes += 1 } else { counts.reads += 1 });
    }

    fn sent(&self, _: &Process, _: &str) {}

    fn ended(&self, _: &Process, call: &str, outcome: &str) {
        if call.starts_with(ATTACH) && outcome == "200" {
            self.change(|counts| {
                counts.attached += 1;
                counts.last = Some(Instant::now());
            });
        }
    }

    fn has_read(&self, _: &Process) {}

    fn changed(&self, _: &dyn Fn() -> View, _: Cause) {}
}

/// The bound is what the share of EC2's own limit on attaching allows: the burst at once, the rest at its rate.
#[test]
fn attaching_many_nodes_takes_what_the_limit_takes() {
    let nodes = std::env::var("SIMULATION_NODES").map_or(NODES, |text| text.parse().expect("a number"));
    let share = f64::from(AwsConfig::new("any").api_rate_percent) / 100.0;
    let bound = Rate::of(ATTACH, false).bound(nodes, share);
    let reads_bound = Rate::of("DescribeNetworkInterfaces", true).bound(2 * nodes, share);
    let (limits, meter) = (Arc::new(Mutex::new(Limits::default())), Arc::new(Meter::default()));
    let (took, resources) = on_virtual_time(1, async {
        let cloud = Ec2::new(1, false, Size::real(nodes)).with_limits(&limits);
        cloud.observe_with(Arc::clone(&meter) as _);
        let setup = Setup { cloud: CloudKind::Ec2, serves_all_kinds: true, ..Setup::default() };
        let mut world = World::empty_over(Box::new(cloud), setup);
        let start = Instant::now();
        world.start_with_pods(nodes);
        while meter.change(|_| ()).attached < nodes {
            assert!(start.elapsed().as_secs_f64() < 2.0 * bound + 60.0, "it is far too slow");
            sleep(Duration::from_secs(1)).await;
        }
        let last = meter.change(|_| ()).last.expect("something was attached");
        let resources = world.resources().len();
        world.end();
        ((last - start).as_secs_f64(), resources)
    });
    let Counts { reads, writes, .. } = meter.change(|_| ());
    let refused = limits.lock().unwrap_or_else(PoisonError::into_inner).refused;
    println!(
        "{nodes} nodes: {writes} changes and {reads} reads in {took:.1} s; the limit's share of {share} takes {bound:.1} s: \
         {:.3} times that, and the reads by id {reads_bound:.1} s; {refused} calls refused",
        took / bound
    );
    assert_eq!((resources, refused), (nodes + 1, 0), "one group, attached to every node; nothing is refused");
    let bound = if nodes < MANY { bound.max(reads_bound) } else { bound };
    assert!(took <= 1.05 * bound, "{took:.1} s, and the limit takes {bound:.1} s");
}
