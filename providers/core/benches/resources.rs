//! Prints how the time for the reach of all instances grows with them. `cargo bench -p firewall-core`

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::Instant;

use firewall_core::testing::conformance::rule;
use firewall_core::testing::memory::{MemoryKey, MemoryResource};
use firewall_core::{InstanceId, Owner, Resource, ResourceSet};

/// Returns a group for each ten instances, and the attachment of every instance to four of them.
fn resources(instances: usize) -> ResourceSet<MemoryResource> {
    let group = |number: usize| MemoryKey::Group("c".into(), number.to_string());
    let resource = |key, rules: &[String], groups| MemoryResource {
        key,
        label: String::new(),
        owner: Owner::Ours,
        rules: rules.iter().map(|text| rule(text)).collect(),
        groups,
    };
    let groups = instances.div_ceil(10);
    let rules = |number: usize| [format!("tcp/{} 10.0.0.0/8", 1024 + 2 * (number % 10_000))];
    let all = (0..groups).map(|number| resource(group(number), &rules(number), BTreeSet::new()));
    let attachments = (0..instances).map(|number| {
        let key = MemoryKey::Attachment("c".into(), InstanceId::new(number.to_string()));
        resource(key, &[], (0..4).map(|step| group((number + step) % groups)).collect())
    });
    all.chain(attachments).collect()
}

fn main() {
    for scale in [1, 4, 16] {
        let instances = 1000 * scale;
        let start = Instant::now();
        let set = resources(instances);
        let built = start.elapsed();
        let start = Instant::now();
        for number in 0..instances {
            black_box(set.reach(&InstanceId::new(number.to_string())));
        }
        let reached = start.elapsed();
        let start = Instant::now();
        for resource in set.values() {
            black_box(resource.instances(&set));
        }
        println!(
            "{instances:>6} instances: built {built:>10.2?}, reach of all {reached:>10.2?}, instances of all \
             {:>10.2?}",
            start.elapsed()
        );
    }
}
