//! Tests of linger.

use firewall_core::testing::conformance::{desired, group};

use firewall_core::Unknown;
use serde_json::json;

use super::*;
use crate::intents::settings::Settings;
use crate::k8s::index::{Index, Object, Watch};
use crate::k8s::objects::ObjectRef;

const LINGER: Duration = Duration::from_secs(30);

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn object(kind: &'static str, name: &str) -> ObjectRef {
    let (namespace, name, uid) = ("default".to_owned(), name.to_owned(), String::new());
    ObjectRef { api_version: "v1".into(), kind: kind.into(), namespace, name, uid }
}

/// Groups of a pod `web` on the node, which asks itself or by another object.
fn because_of(desired: Desired, intent: &ObjectRef) -> Grouped {
    let ids: Vec<_> = desired
        .groups
        .iter()
        .flat_map(|(key, group)| group.members.iter().map(|member| (key.clone(), member.clone())))
        .collect();
    let each = |object: &ObjectRef| {
        ids.iter().map(|id| (id.clone(), [object.clone()].into())).collect::<BTreeMap<_, _>>()
    };
    Grouped {
        objects: BTreeMap::new(),
        port_owners: each(&object("Pod", "web")),
        intents: each(intent),
        nodes: ids.iter().map(|(_, member)| (member.clone(), object("Node", "a"))).collect(),
        problems: BTreeSet::new(),
        desired,
    }
}

fn snapshot(index: &Index) -> Snapshot {
    Snapshot::take(index, &Settings::default(), Duration::ZERO)
}

/// Calls `extend`, after which all that is asked for is open.
fn extend_and_open(
    linger: &mut Linger,
    grouped: &Grouped,
    cluster: &Snapshot,
    now: Duration,
) -> (Desired, Option<Duration>) {
    let extended = linger.extend(grouped, cluster, now, None);
    for id in grouped.port_owners.keys() {
        linger.record_open(&id.0, &id.1, true);
    }
    extended
}

/// Calls `extend` for a cluster without the pod.
fn extend(linger: &mut Linger, desired: Desired, now: Duration) -> (Desired, Option<Duration>) {
    let grouped = because_of(desired, &object("Pod", "web"));
    extend_and_open(linger, &grouped, &snapshot(&Index::default()), now)
}

#[test]
fn edited_intent_ends_linger_at_once() {
    let id = InstanceId::new("i-0");
    let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
    let cluster = |pod: bool, ingress: Option<&str>| {
        let mut index = Index::default();
        let pod_on_a = json!({
            "metadata": { "name": "web" },
            "spec": { "nodeName": "a", "containers": [{ "name": "x", "ports": [{ "hostPort": 80 }] }] },
        });
        let named = json!({ "apiVersion": "v1", "metadata": { "name": "web" }, "spec": {
            "loadBalancerSourceRanges": [ingress.unwrap_or_default()],
        } });
        let pod_on_a = Object::Pod(serde_json::from_value(pod_on_a).expect("a pod"));
        let named = Object::Ingress(serde_json::from_value(named).expect("an Ingress"));
        index.reset(Watch::Pods, pod.then_some(pod_on_a).into_iter().collect());
        index.reset(Watch::Ingresses("x".into()), ingress.map(|_| named).into_iter().collect());
        snapshot(&index)
    };
    let table = [
        ("Pod", (true, None), Some("Pod default/web asks for it no longer")),
        ("Pod", (false, None), None),
        ("Ingress", (true, Some("10.0.0.0/8")), Some("Pod default/web asks for it no longer")),
        ("Ingress", (false, Some("10.0.0.0/8")), None),
        ("Ingress", (false, Some("192.0.2.0/24")), Some("Ingress default/web was edited")),
        ("Ingress", (false, None), Some("Ingress default/web was deleted")),
    ];
    for (intent, (pod, ingress), ending) in table {
        let mut linger = Linger::new(LINGER);
        let intent = object(intent, "web");
        extend_and_open(&mut linger, &because_of(web(), &intent), &cluster(true, Some("10.0.0.0/8")), at(0));
        let gone = because_of(Desired::nothing(), &intent);
        let (extended, _) = linger.extend(&gone, &cluster(pod, ingress), at(1), None);
        assert_eq!(!extended.groups.is_empty(), ending.is_none(), "{intent} {pod} {ingress:?}");
        let ending_now = linger.endings().values().next().map(String::as_str);
        assert_eq!(ending_now, ending, "{intent} {pod} {ingress:?}");
    }
}

#[test]
fn nothing_lingers_on_a_machine_with_another_address() {
    let id = InstanceId::new("i-0");
    let cluster = |address: &str| {
        let node = json!({
            "metadata": { "name": "a" },
            "spec": { "providerID": "memory://i-0" },
            "status": { "addresses": [{ "type": "InternalIP", "address": address }] },
        });
        let mut index = Index::default();
        index.reset(Watch::Nodes, vec![Object::Node(serde_json::from_value(node).expect("a node"))]);
        snapshot(&index)
    };
    for (address, lingers) in [("10.0.0.1", true), ("10.0.0.2", false)] {
        let mut linger = Linger::new(LINGER);
        let web = desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
        let asked = because_of(web, &object("Pod", "web"));
        extend_and_open(&mut linger, &asked, &cluster("10.0.0.1"), at(0));
        let gone = because_of(Desired::nothing(), &object("Pod", "web"));
        let (extended, _) = linger.extend(&gone, &cluster(address), at(1), None);
        assert_eq!(!extended.groups.is_empty(), lingers, "{address}");
    }
}

#[test]
fn membership_lingers_for_the_duration() {
    let id = InstanceId::new("i-0");
    let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
    let mut linger = Linger::new(LINGER);
    assert_eq!(extend(&mut linger, web(), at(0)), (web(), None));
    assert_eq!(extend(&mut linger, Desired::nothing(), at(10)), (web(), Some(at(30))));
    assert_eq!(extend(&mut linger, Desired::nothing(), at(39)), (web(), Some(at(1))));
    assert_eq!(extend(&mut linger, Desired::nothing(), at(40)), (Desired::nothing(), None));
}

#[test]
fn membership_that_is_not_open_as_asked_for_does_not_linger() {
    let id = InstanceId::new("i-0");
    let cluster = snapshot(&Index::default());
    let narrow = group("web", &["tcp/80 10.0.0.0/8"], &[&id]);
    let wide = group("web", &["tcp/80 10.0.0.0/8", "tcp/80 192.0.2.0/24"], &[&id]);
    let table = [
        ("opened", [(&narrow, true), (&narrow, true)], true),
        ("never opened", [(&narrow, false), (&narrow, false)], false),
        ("closed again", [(&narrow, true), (&narrow, false)], false),
    ];
    for (name, passes, lingers) in table {
        let mut linger = Linger::new(LINGER);
        for ((key, group), is_open) in passes {
            let asked = because_of(desired([(key.clone(), group.clone())]), &object("Pod", "web"));
            linger.extend(&asked, &cluster, at(0), None);
            linger.record_open(key, &id, is_open);
        }
        let (extended, _) = extend(&mut linger, Desired::nothing(), at(1));
        assert_eq!(!extended.groups.is_empty(), lingers, "{name}");
    }
    // What was widened since, and is not known to be open.
    let mut linger = Linger::new(LINGER);
    extend(&mut linger, desired([narrow]), at(0));
    let asked = because_of(desired([wide]), &object("Pod", "web"));
    linger.extend(&asked, &cluster, at(1), None);
    assert_eq!(extend(&mut linger, Desired::nothing(), at(2)), (Desired::nothing(), None));
}

#[test]
fn memberships_on_other_instances_stay_as_they_are() {
    let ids = [InstanceId::new("i-0"), InstanceId::new("i-1")];
    let web = |members: &[&InstanceId]| desired([group("web", &["tcp/80 0.0.0.0/0"], members)]);
    let mut linger = Linger::new(LINGER);
    extend(&mut linger, web(&[&ids[0], &ids[1]]), at(0));
    let only = BTreeSet::from([ids[0].clone()]);
    let nothing = because_of(Desired::nothing(), &object("Pod", "web"));
    let cluster = snapshot(&Index::default());
    let extended = linger.extend(&nothing, &cluster, at(1), Some(&only));
    assert_eq!(extended, (web(&[&ids[0]]), Some(LINGER)), "the other is not looked at");
    assert_eq!(extend(&mut linger, web(&[&ids[1]]), at(2)).0, web(&[&ids[0], &ids[1]]));
}

#[test]
fn returning_membership_restarts_its_linger() {
    let id = InstanceId::new("i-0");
    let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
    let mut linger = Linger::new(LINGER);
    extend(&mut linger, web(), at(0));
    extend(&mut linger, Desired::nothing(), at(10));
    assert_eq!(extend(&mut linger, web(), at(20)), (web(), None));
    assert_eq!(extend(&mut linger, Desired::nothing(), at(50)), (web(), Some(LINGER)));
}

#[test]
fn lingering_member_follows_the_new_rules() {
    let ids = [InstanceId::new("i-0"), InstanceId::new("i-1")];
    let (key, before) = group("web", &["tcp/80 0.0.0.0/0"], &[&ids[0], &ids[1]]);
    let (_, after) = group("web", &["tcp/80 10.0.0.0/8"], &[&ids[0]]);
    let mut linger = Linger::new(LINGER);
    extend(&mut linger, desired([(key.clone(), before)]), at(0));
    let (extended, _) = extend(&mut linger, desired([(key.clone(), after.clone())]), at(1));
    assert_eq!(extended.groups[&key].rules, after.rules);
    assert_eq!(extended.groups[&key].members.len(), 2);
}

#[test]
fn zero_duration_disables_linger() {
    let id = InstanceId::new("i-0");
    let mut linger = Linger::new(Duration::ZERO);
    extend(&mut linger, desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]), at(0));
    assert_eq!(extend(&mut linger, Desired::nothing(), at(1)), (Desired::nothing(), None));
}

#[test]
fn membership_stays_while_everything_is_unknown() {
    let id = InstanceId::new("i-0");
    let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
    let partial =
        |desired: Desired| Desired { unknown: Unknown::everything(["pods: 403".into()]), ..desired };
    let mut linger = Linger::new(LINGER);
    extend(&mut linger, web(), at(0));
    assert_eq!(extend(&mut linger, partial(Desired::nothing()), at(10)), (partial(web()), Some(LINGER)));
    assert_eq!(extend(&mut linger, partial(Desired::nothing()), at(99)), (partial(web()), None));
    assert_eq!(extend(&mut linger, Desired::nothing(), at(100)), (Desired::nothing(), None));
}

#[test]
fn membership_in_doubt_neither_lingers_nor_ends() {
    let id = InstanceId::new("i-0");
    let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
    let mut linger = Linger::new(Duration::ZERO);
    extend(&mut linger, web(), at(0));
    let mut in_doubt = Desired::nothing();
    in_doubt.unknown.add_at(
        &id,
        &web().groups.values().next().expect("a group").rules,
        "node a is not known",
    );
    for seconds in [1, 99] {
        assert_eq!(extend(&mut linger, in_doubt.clone(), at(seconds)), (in_doubt.clone(), None));
        assert!(linger.endings().is_empty());
    }
    assert_eq!(extend(&mut linger, Desired::nothing(), at(100)), (Desired::nothing(), None));
    let ending = linger.endings().values().next().map(String::as_str);
    assert_eq!(ending, Some("Pod default/web was deleted or has finished"));
}

#[test]
fn membership_in_doubt_lingers_once() {
    let id = InstanceId::new("i-0");
    let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
    let doubtful = |mut desired: Desired| {
        let rules = web().groups.into_values().next().expect("a group").rules;
        desired.unknown.add_at(&id, &rules, "node a is not known");
        desired
    };
    let mut linger = Linger::new(LINGER);
    extend(&mut linger, web(), at(0));
    assert_eq!(extend(&mut linger, doubtful(Desired::nothing()), at(10)), (doubtful(web()), Some(LINGER)));
    for seconds in [40, 300] {
        let left = extend(&mut linger, doubtful(Desired::nothing()), at(seconds));
        assert_eq!(left, (doubtful(Desired::nothing()), None), "{seconds}");
    }
}

#[test]
fn memberships_expire_one_by_one() {
    let ids = [InstanceId::new("i-0"), InstanceId::new("i-1")];
    let web = |members: &[&InstanceId]| desired([group("web", &["tcp/80 0.0.0.0/0"], members)]);
    let both = || web(&[&ids[0], &ids[1]]);
    let mut linger = Linger::new(LINGER);
    extend(&mut linger, both(), at(0));
    assert_eq!(extend(&mut linger, web(&[&ids[1]]), at(10)), (both(), Some(at(30))));
    assert_eq!(extend(&mut linger, Desired::nothing(), at(20)), (both(), Some(at(20))));
    assert_eq!(extend(&mut linger, Desired::nothing(), at(40)), (web(&[&ids[1]]), Some(at(10))));
    assert_eq!(extend(&mut linger, Desired::nothing(), at(50)), (Desired::nothing(), None));
}

#[test]
fn edit_that_changes_no_ports_does_not_end_linger() {
    let id = InstanceId::new("i-0");
    let web = || desired([group("web", &["tcp/80 0.0.0.0/0"], &[&id])]);
    let cluster = |ranges: &[&str]| {
        let named = json!({ "apiVersion": "v1", "metadata": { "name": "web" }, "spec": {
            "loadBalancerSourceRanges": ranges,
        } });
        let named = Object::Ingress(serde_json::from_value(named).expect("an Ingress"));
        let mut index = Index::default();
        index.reset(Watch::Ingresses("x".into()), vec![named]);
        snapshot(&index)
    };
    let mut linger = Linger::new(LINGER);
    let intent = object("Ingress", "web");
    extend_and_open(&mut linger, &because_of(web(), &intent), &cluster(&["10.0.0.0/8"]), at(0));
    // A pass about other instances, or none, sees the edit.
    let nothing = because_of(Desired::nothing(), &intent);
    let edited = cluster(&["10.0.0.0/8", "10.0.0.0/8"]);
    linger.extend(&nothing, &edited, at(1), Some(&BTreeSet::new()));
    let (extended, _) = linger.extend(&nothing, &edited, at(2), None);
    assert_eq!(extended, web());
}
