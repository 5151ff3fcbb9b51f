//! Tests that an object is the same from Protocol Buffers as from JSON, and that garbage does no harm.
//!
//! The pairs in `testdata` are what a kube-apiserver answered to the same request in both encodings.

use proptest::prelude::*;

use super::*;
use crate::k8s::index::Object;
use crate::k8s::watcher::json;

/// The answers to one list: the kind, its JSON and its Protocol Buffers.
fn recorded() -> [(Kind, &'static [u8], &'static [u8]); 6] {
    macro_rules! pair {
        ($kind:expr, $name:literal) => {
            (
                Kind::new($kind),
                include_bytes!(concat!("testdata/", $name, ".json")),
                include_bytes!(concat!("testdata/", $name, ".pb")),
            )
        };
    }
    [
        pair!(Watch::Pods, "pods"),
        pair!(Watch::Nodes, "nodes"),
        pair!(Watch::Namespaces, "namespaces"),
        pair!(Watch::Services, "services"),
        pair!(Watch::EndpointSlices, "endpointslices"),
        pair!(Watch::Ingresses("networking.k8s.io".into()), "ingresses"),
    ]
}

fn delimited(body: &'static [u8]) -> Vec<Bytes> {
    let mut frames = super::super::frames::Frames::new(super::super::event::Encoding::Protobuf);
    frames.push(body);
    std::iter::from_fn(|| frames.next().expect("frames")).collect()
}

fn watched() -> (Vec<Event>, Vec<Event>) {
    let kind = Kind::new(Watch::Pods);
    let lines = include_str!("testdata/watch.json").lines();
    let from_json = lines.map(|line| json::decode_event(&kind, line.as_bytes()).expect("JSON")).collect();
    let frames = delimited(include_bytes!("testdata/watch.pb")).into_iter();
    (from_json, frames.map(|frame| decode_event(&kind, frame).expect("Protocol Buffers")).collect())
}

#[test]
fn recorded_lists_are_the_same_in_both_encodings() {
    for (kind, in_json, in_protobuf) in recorded() {
        let from_json = json::decode_page(&kind, in_json).expect("JSON");
        let from_protobuf = decode_page(&kind, &Bytes::from_static(in_protobuf)).expect("Protocol Buffers");
        let relevant = |page: &Page| {
            let is_relevant = |item: &&Received| matches!(item.content, Content::Relevant(_));
            page.items.iter().filter(is_relevant).count()
        };
        assert!(relevant(&from_json) > 0 && !from_json.resource_version.is_empty(), "{from_json:#?}");
        assert_eq!(from_json, from_protobuf, "{}", kind.watch);
    }
}

#[test]
fn recorded_objects_have_every_field_that_is_read() {
    let [(kind, _, pods), ..] = recorded();
    let page = decode_page(&kind, &Bytes::from_static(pods)).expect("pods");
    let whole = page.items.iter().find(|item| item.name.1 == "whole").expect("the pod");
    let Content::Relevant(object) = &whole.content else { panic!("{whole:#?}") };
    let Object::Pod(pod) = &**object else { panic!("{object:#?}") };
    assert!(pod.spec.host_network && pod.spec.node_name.is_some() && pod.status.phase.is_some());
    let (container, sidecar) = (&pod.spec.containers[0], &pod.spec.init_containers[0]);
    let port = &container.ports[0];
    assert!(port.name.is_some() && port.host_port.is_some() && port.host_ip.is_some(), "{port:#?}");
    assert_eq!(port.protocol.as_deref(), Some("UDP"));
    assert_eq!(sidecar.restart_policy.as_deref(), Some("Always"));
    assert_eq!(pod.spec.readiness_gates.len(), 1);
    assert!(pod.status.conditions.iter().any(|one| one.status == "False" && !one.reason.is_empty()));
    let metadata = &pod.metadata;
    assert!(metadata.deletion_timestamp.is_some() && metadata.labels.is_some(), "{metadata:#?}");
    assert_eq!(metadata.owner_references.as_ref().map(Vec::len), Some(1));
    let annotations = metadata.annotations.as_ref().expect("annotations");
    assert_eq!(annotations.keys().collect::<Vec<_>>(), ["hostport-firewall.dev/expose"]);
}

#[test]
fn recorded_watches_are_the_same_in_both_encodings() {
    let (from_json, from_protobuf) = watched();
    let names: Vec<&str> = from_json
        .iter()
        .map(|event| match event {
            Event::Exists { received: Received { content: Content::Relevant(_), .. }, .. } => "relevant",
            Event::Exists { .. } => "irrelevant",
            Event::Deleted { .. } => "deleted",
            Event::Bookmark { ends_list: true, .. } => "end of list",
            Event::Bookmark { .. } => "bookmark",
            Event::Refused(_) => "refused",
        })
        .collect();
    for name in ["relevant", "irrelevant", "deleted", "end of list", "bookmark"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert_eq!(from_json, from_protobuf);
}

#[test]
fn recorded_errors_are_the_same_in_both_encodings() {
    let in_json = include_bytes!("testdata/expired.json");
    let expected = json::decode_refusal(in_json).expect("JSON");
    assert!(expected.is_expired() && expected.next.is_some(), "{expected:#?}");
    let in_protobuf = Bytes::from_static(include_bytes!("testdata/expired.pb"));
    let found = decode_refusal(&in_protobuf).expect("Protocol Buffers");
    assert_eq!((found.code, found.next.is_some()), (expected.code, true));
}

#[test]
fn object_that_cannot_be_decoded_hides_no_other() {
    let item = |name: &str, spec: &[u8]| {
        let metadata = [&[10, 4][..], name.as_bytes()].concat();
        let field = |tag: u8, value: &[u8]| [&[tag, u8::try_from(value.len()).unwrap()], value].concat();
        field(18, &[field(10, &metadata), field(18, spec)].concat())
    };
    // A container whose length goes beyond its end; a host network.
    let list = [item("bad!", &[18, 99]), item("good", &[88, 1])].concat();
    let envelope = [MAGIC, &[18, u8::try_from(list.len()).unwrap()], &list].concat();
    let page = decode_page(&Kind::new(Watch::Pods), &envelope.into()).expect("a list");
    let [bad, good] = &page.items[..] else { panic!("{page:#?}") };
    let Content::Unreadable(problem) = &bad.content else { panic!("{bad:#?}") };
    assert_eq!((problem.object.name.as_str(), good.name.1.as_str()), ("bad!", "good"));
    assert!(problem.message.contains("cannot be read"), "{problem:?}");
}

/// Decodes bytes in each way. Errors are fine.
fn decode_all(bytes: &[u8]) {
    for (kind, ..) in recorded() {
        let owned = Bytes::copy_from_slice(bytes);
        _ = decode_event(&kind, owned.clone());
        _ = decode_page(&kind, &owned);
        _ = decode_object(&kind, owned, &Named::default());
        _ = json::decode_event(&kind, bytes);
        _ = json::decode_page(&kind, bytes);
    }
    _ = decode_refusal(&Bytes::copy_from_slice(bytes));
    _ = json::decode_refusal(bytes);
}

proptest! {
    #[test]
    fn random_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        decode_all(&bytes);
        decode_all(&[MAGIC, &bytes].concat());
    }

    #[test]
    fn damaged_answers_do_no_harm(
        which in 0_usize..6,
        cut in any::<usize>(),
        damage in prop::collection::vec((any::<usize>(), any::<u8>()), 0..8),
    ) {
        let (kind, in_json, in_protobuf) = recorded()[which].clone();
        for whole in [in_json, in_protobuf] {
            let at = |part: usize| part % whole.len();
            let mut bytes = whole.to_vec();
            for (part, byte) in &damage {
                bytes[at(*part)] = *byte;
            }
            bytes.truncate(at(cut) + 1);
            _ = decode_page(&kind, &bytes.clone().into());
            _ = json::decode_page(&kind, &bytes);
        }
    }
}
