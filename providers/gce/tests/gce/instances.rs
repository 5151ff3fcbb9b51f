//! Network tags, and instances that change during a pass.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{converge, desired, group};
use firewall_core::{Desired, FirewallProvider, GONE_AFTER};
use firewall_gce::Mode;
use gce_simulator::FaultKind;

use crate::simulated::{PROJECT, Simulated, ZONE, id, name};
use crate::{CLUSTER, WEB, apply_once, pass, plan_steps, web};

#[tokio::test]
async fn concurrently_added_tags_are_kept() {
    for conflict_in_operation in [false, true] {
        let simulated = Simulated::start(Mode::Tags, 1).await;
        simulated
            .cloud()
            .configure(|settings| settings.fingerprint_conflict_in_operation = conflict_in_operation);
        let gce = simulated.connect(CLUSTER).await;
        // A tag is added between the read and the write of every attempt but the last.
        let add_tag_after_read =
            |tag: &str| simulated.inject("compute.instances.get", 1, FaultKind::AddTag(tag.to_owned()));
        add_tag_after_read("first");
        add_tag_after_read("second");
        converge(&gce, &web(&[0])).await;
        let own: BTreeSet<String> = simulated.owned(CLUSTER).into_keys().collect();
        let others = ["first", "node", "second"].map(ToOwned::to_owned).into();
        assert_eq!((own.len(), simulated.tags(0)), (1, &own | &others));
        let requests = simulated.cloud().requests().into_iter();
        let attempts = requests.filter(|request| request.method == "compute.instances.setTags");
        let statuses = if conflict_in_operation { [200; 3] } else { [412, 412, 200] };
        assert_eq!(attempts.map(|request| request.status).collect::<Vec<_>>(), statuses);

        add_tag_after_read("third");
        converge(&gce, &Desired::nothing()).await;
        assert_eq!(simulated.tags(0), &others | &["third".to_owned()].into());
    }
}

#[tokio::test]
async fn new_group_takes_no_tag_capacity_from_an_established_one() {
    let simulated = Simulated::start(Mode::Tags, 1).await;
    let others = (0..63).map(|tag| format!("other-{tag}")).collect();
    simulated.cloud().set_tags(PROJECT, ZONE, &name(0), others);
    let gce = simulated.connect(CLUSTER).await;
    let zeta = group("zeta", WEB, &[&id(0)]);
    converge(&gce, &desired([zeta.clone()])).await;
    let before = simulated.tags(0);
    let both = desired([group("alpha", &["udp/53 0.0.0.0/0"], &[&id(0)]), zeta]);
    assert_eq!(plan_steps(&gce, &both).await, []);
    assert_eq!(before.len(), 64);
}

#[tokio::test]
async fn mode_change_opens_before_it_removes_the_former_mode() {
    let mut simulated = Simulated::start(Mode::Tags, 2).await;
    converge(&simulated.connect(CLUSTER).await, &web(&[0, 1])).await;
    for mode in [Mode::Destination, Mode::Tags] {
        simulated.config.mode = mode;
        let gce = simulated.connect(CLUSTER).await;
        simulated.cloud().configure(|settings| settings.firewalls_per_project = 1);
        for _ in 0..2 {
            assert!(!apply_once(&gce, &web(&[0])).await.is_empty(), "no rule can be created");
            assert_eq!(simulated.open_rules(CLUSTER, &id(0)).len(), 1, "the former mode's stays");
        }
        simulated.cloud().configure(|settings| settings.firewalls_per_project = 2);
        assert_eq!(apply_once(&gce, &web(&[0])).await, []);
        assert_eq!(simulated.open_rules(CLUSTER, &id(0)).len(), 1);
        converge(&gce, &web(&[0])).await;
        assert_eq!(simulated.owned(CLUSTER).len(), 1);
        assert_eq!(simulated.open_rules(CLUSTER, &id(0)).len(), 1);
        assert!(simulated.open_rules(CLUSTER, &id(1)).is_empty());
        assert_eq!(simulated.tags(0).len(), if mode == Mode::Tags { 2 } else { 1 });
    }
}

#[tokio::test]
async fn tags_left_by_a_former_mode_are_removed_later() {
    let mut simulated = Simulated::start(Mode::Tags, 2).await;
    converge(&simulated.connect(CLUSTER).await, &web(&[0, 1])).await;
    simulated.config.mode = Mode::Destination;
    simulated.cloud().deny("*", "compute.instances.setTags");
    let gce = simulated.connect(CLUSTER).await;
    let errors = apply_once(&gce, &web(&[0])).await;
    assert!(!errors.is_empty(), "the tags cannot be removed");
    simulated.cloud().grant_all();
    converge(&gce, &web(&[0])).await;
    converge(&gce, &Desired::nothing()).await;
    for number in 0..2 {
        assert_eq!(simulated.tags(number), ["node".to_owned()].into());
    }
}

#[tokio::test]
async fn instance_deleted_before_apply_delays_no_other() {
    for mode in [Mode::Destination, Mode::Tags] {
        let simulated = Simulated::start(mode, 2).await;
        let gce = simulated.connect(CLUSTER).await;
        let steps = plan_steps(&gce, &web(&[0, 1])).await;
        simulated.cloud().remove_instance(PROJECT, ZONE, &name(1));
        for step in &steps {
            _ = gce.apply(&step.action).await;
        }
        plan_steps(&gce, &web(&[0, 1])).await;
        pass(GONE_AFTER).await;
        converge(&gce, &web(&[0, 1])).await;
        assert_eq!(simulated.open_rules(CLUSTER, &id(0)).len(), 1);
        let text = format!("{:?}", simulated.owned(CLUSTER));
        assert!(!text.contains("10.0.0.11"), "another instance may get the address next: {text}");
    }
}
