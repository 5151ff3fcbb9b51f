//! Tags, and instances that change meanwhile.

use std::collections::BTreeSet;

use firewall_core::testing::conformance::{converge, desired, group};
use firewall_core::{Desired, FirewallProvider};
use firewall_gce::Mode;
use gce_simulator::{Fault, FaultKind};

use crate::simulated::{PROJECT, Simulated, ZONE, id, name};
use crate::{CLUSTER, WEB, attempt, steps, web};

#[tokio::test]
async fn tags_that_somebody_changes_in_between_are_kept() {
    for conflict_in_operation in [false, true] {
        let simulated = Simulated::start(Mode::Tags, 1).await;
        simulated
            .cloud()
            .configure(|settings| settings.fingerprint_conflict_in_operation = conflict_in_operation);
        let gce = simulated.connect(CLUSTER).await;
        let tags = || simulated.cloud().tags(PROJECT, ZONE, &name(0));
        // Between the reading and the writing of every try but the last, a tag comes.
        let comes = |tag: &str| {
            let method = "compute.instances.get".to_owned();
            simulated.cloud().inject(Fault { method, times: 1, kind: FaultKind::AddTag(tag.to_owned()) });
        };
        comes("first");
        comes("second");
        converge(&gce, &web(&[0])).await;
        let own: BTreeSet<String> = simulated.owned(CLUSTER).into_keys().collect();
        let others = ["first", "node", "second"].map(ToOwned::to_owned).into();
        assert_eq!((own.len(), tags()), (1, &own | &others));
        let requests = simulated.cloud().requests().into_iter();
        let tries = requests.filter(|request| request.method == "compute.instances.setTags");
        let accepted = if conflict_in_operation { [200; 3] } else { [412, 412, 200] };
        assert_eq!(tries.map(|request| request.status).collect::<Vec<_>>(), accepted);

        comes("third");
        converge(&gce, &Desired::nothing()).await;
        assert_eq!(tags(), &others | &["third".to_owned()].into());
    }
}

#[tokio::test]
async fn a_new_group_takes_no_tag_from_one_that_has_it() {
    let simulated = Simulated::start(Mode::Tags, 1).await;
    let others = (0..63).map(|tag| format!("other-{tag}")).collect();
    simulated.cloud().set_tags(PROJECT, ZONE, &name(0), others);
    let gce = simulated.connect(CLUSTER).await;
    let zeta = group("zeta", WEB, &[&id(0)]);
    converge(&gce, &desired([zeta.clone()])).await;
    let before = simulated.cloud().tags(PROJECT, ZONE, &name(0));
    let both = desired([group("alpha", &["udp/53 0.0.0.0/0"], &[&id(0)]), zeta]);
    assert_eq!(steps(&gce, &both).await, []);
    assert_eq!(before.len(), 64);
}

#[tokio::test]
async fn a_change_of_mode_leaves_nothing_of_the_other() {
    let mut simulated = Simulated::start(Mode::Tags, 2).await;
    converge(&simulated.connect(CLUSTER).await, &web(&[0, 1])).await;
    for mode in [Mode::Destination, Mode::Tags] {
        simulated.config.mode = mode;
        converge(&simulated.connect(CLUSTER).await, &web(&[0])).await;
        let names = simulated.owned(CLUSTER).into_keys().collect();
        assert_eq!(simulated.open(&id(0), &names).len(), 1);
        assert!(simulated.open(&id(1), &names).is_empty());
        let tags = simulated.cloud().tags(PROJECT, ZONE, &name(0)).len();
        assert_eq!(tags, if mode == Mode::Tags { 2 } else { 1 });
    }
}

#[tokio::test]
async fn tags_that_a_former_mode_could_not_remove_are_removed_later() {
    let mut simulated = Simulated::start(Mode::Tags, 2).await;
    converge(&simulated.connect(CLUSTER).await, &web(&[0, 1])).await;
    simulated.config.mode = Mode::Destination;
    simulated.cloud().deny("*", "compute.instances.setTags");
    let gce = simulated.connect(CLUSTER).await;
    let errors = attempt(&gce, &web(&[0])).await;
    assert!(!errors.is_empty(), "the tags cannot be removed");
    simulated.cloud().grant_all();
    converge(&gce, &web(&[0])).await;
    converge(&gce, &Desired::nothing()).await;
    for number in 0..2 {
        assert_eq!(simulated.cloud().tags(PROJECT, ZONE, &name(number)), ["node".to_owned()].into());
    }
}

#[tokio::test]
async fn an_instance_that_is_deleted_meanwhile_holds_nothing_up() {
    for mode in [Mode::Destination, Mode::Tags] {
        let simulated = Simulated::start(mode, 2).await;
        let gce = simulated.connect(CLUSTER).await;
        let steps = steps(&gce, &web(&[0, 1])).await;
        simulated.cloud().remove_instance(PROJECT, ZONE, &name(1));
        for step in &steps {
            _ = gce.apply(&step.action).await;
        }
        converge(&gce, &web(&[0, 1])).await;
        let names = simulated.owned(CLUSTER).into_keys().collect();
        assert_eq!(simulated.open(&id(0), &names).len(), 1);
        let text = format!("{:?}", simulated.owned(CLUSTER));
        assert!(!text.contains("10.0.0.11"), "the address may be another instance's next: {text}");
    }
}
