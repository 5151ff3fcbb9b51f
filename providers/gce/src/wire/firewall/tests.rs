//! Tests of reading and writing firewall rules.

use super::*;
use crate::testing;

fn config() -> GceConfig {
    GceConfig::new("prod", "p")
}

/// Returns a rule with several ports, targets and a priority of its own.
fn firewall_rule() -> FirewallRule {
    let rules = ["tcp/80 10.0.0.0/8", "udp/53-54 10.0.0.0/8", "sctp/9 10.0.0.0/8"];
    FirewallRule {
        name: format!("{}0123-0", crate::ownership::prefix("prod")),
        tags: BTreeSet::from(["web".to_owned()]),
        priority: 900,
        serves: BTreeSet::from(["Deployment default/web".to_owned()]),
        ..testing::firewall_rule(&rules, &["10.0.0.1/32", "10.0.0.2/32"])
    }
}

#[test]
fn rule_is_read_as_it_was_written() {
    assert_eq!(read(&write(&firewall_rule(), "prod"), &config()), firewall_rule());
}

#[test]
fn changed_rule_shows_its_foreign_parts() {
    let written = || write(&firewall_rule(), "prod");
    let all = |protocol: &str| [Allowed::new().set_ip_protocol(protocol)];
    let cases = [
        (written().set_source_tags(["x"]), "from instances tagged x"),
        (written().set_source_service_accounts(["x"]), "from instances of service account x"),
        (written().set_target_service_accounts(["x"]), "to instances of service account x"),
        (written().set_destination_ranges(["10.0.0.0/8"]), "to 10.0.0.0/8"),
        (written().set_allowed(all("tcp")), "all of protocol tcp"),
        (written().set_allowed(all("all")), "all of protocol all"),
    ];
    for (firewall, foreign_part) in cases {
        let read = read(&firewall, &config());
        assert_eq!(
            (read.owner, read.foreign_parts),
            (Owner::Ours, BTreeSet::from([foreign_part.to_owned()]))
        );
    }
    let single = written().set_destination_ranges(["10.0.0.1", "10.0.0.2/32"]);
    let numbers = [("6", "80"), ("17", "53-54"), ("132", "9")]
        .map(|(protocol, ports)| Allowed::new().set_ip_protocol(protocol).set_ports([ports]));
    assert_eq!(
        read(&single.set_allowed(numbers), &config()),
        firewall_rule(),
        "the same, written differently"
    );
}

#[test]
fn rule_without_the_mark_or_ingress_allow_is_foreign() {
    use google_cloud_compute_v1::model::firewall::Denied;
    let written = || write(&firewall_rule(), "prod");
    for firewall in [
        written().set_description("web"),
        written().set_direction(Direction::Egress),
        written().set_allowed(Vec::<Allowed>::new()).set_denied([Denied::new().set_ip_protocol("tcp")]),
        write(&firewall_rule(), "prod-2"),
    ] {
        assert_eq!(read(&firewall, &config()).owner, Owner::Foreign);
    }
}

#[test]
fn patch_has_only_changed_fields() {
    let from = firewall_rule();
    let to = FirewallRule { destinations: ["10.0.0.1/32".parse().unwrap()].into(), ..from.clone() };
    let expected = Firewall::new().set_name(&from.name).set_destination_ranges(["10.0.0.1/32"]);
    assert_eq!(patch(&from, &to), Some(expected));
    let expected = Firewall::new().set_name(&from.name).set_priority(900).set_disabled(false);
    assert_eq!(
        patch(&FirewallRule { is_enabled: false, priority: 1, ..from.clone() }, &from),
        Some(expected)
    );
}

#[test]
fn patch_never_empties_a_list() {
    let to = firewall_rule();
    let changed =
        FirewallRule { foreign_parts: BTreeSet::from(["from instances tagged x".to_owned()]), ..to.clone() };
    let (untagged, anywhere) = (
        FirewallRule { tags: BTreeSet::new(), ..to.clone() },
        FirewallRule { destinations: BTreeSet::new(), ..to.clone() },
    );
    for (from, to) in [(&changed, &to), (&to, &untagged), (&to, &anywhere)] {
        assert_eq!(patch(from, to), None);
    }
}
