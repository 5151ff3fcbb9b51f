//! Prints how the time of rule arithmetic grows with the rules. `cargo bench -p firewall-core`

use std::hint::black_box;
use std::net::Ipv4Addr;
use std::time::Instant;

use firewall_core::{IngressRule, PortRange, Protocol, RuleSet};
use ipnet::{IpNet, Ipv4Net};

/// Returns the rules of so many sources on so many ports, none of them adjacent, and half of the sources in
/// wider ones.
fn product(sources: u32, ports: u16) -> Vec<IngressRule> {
    let port = |number: u16| PortRange::single(1000 + 2 * number).expect("a port");
    let source = |number: u32| {
        let (length, shift) = if number.is_multiple_of(2) { (24, 9) } else { (32, 9) };
        let address = Ipv4Addr::from((10 << 24) + ((number / 2) << shift) + number % 2 * 7);
        IpNet::V4(Ipv4Net::new(address, length).expect("a length"))
    };
    let shift = |number: u32| u16::try_from(number % 2).expect("0 or 1") * 500;
    let rule = |number, at| IngressRule::new(Protocol::Tcp, port(at + shift(number)), source(number));
    (0..sources).flat_map(|number| (0..ports).map(move |at| rule(number, at))).collect()
}

/// Returns rules whose ports are within those of the rule before, each for another address.
fn nested(count: u16) -> Vec<IngressRule> {
    let rule = |number: u16| {
        let ports = PortRange::new(1 + number, 65_535 - number).expect("a range");
        let address = Ipv4Addr::from((10 << 24) + 2 * u32::from(number));
        IngressRule::new(Protocol::Tcp, ports, IpNet::from(std::net::IpAddr::V4(address)))
    };
    (0..count).map(rule).collect()
}

fn measure(name: &str, rules: &[IngressRule]) {
    let (even, odd): (Vec<_>, Vec<_>) = rules.iter().enumerate().partition(|(at, _)| at % 3 != 0);
    let start = Instant::now();
    let set = |part: Vec<(usize, &IngressRule)>| part.into_iter().map(|(_, rule)| *rule).collect::<RuleSet>();
    let (one, two) = (set(even), set(odd));
    let canonical = start.elapsed();
    let start = Instant::now();
    let union = one.union(&two);
    let united = start.elapsed();
    let start = Instant::now();
    black_box((union.covers(&one), one.covers(&union), one.intersection(&two)));
    println!(
        "{name:>8} {:>6} rules: canonical {canonical:>10.2?}, union {united:>10.2?}, covers and intersection \
         {:>10.2?}",
        rules.len(),
        start.elapsed()
    );
}

fn main() {
    for scale in [1, 4, 16] {
        measure("product", &product(25 * scale, 50));
    }
    measure("product", &product(250, 100));
    for scale in [1, 4, 16] {
        measure("nested", &nested(250 * scale));
    }
}
