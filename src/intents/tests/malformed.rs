//! Malformed annotations, some four hundred kinds: none opens anything, and each names the pod and the mistake.

use super::mistakes::{mistakes, shows};
use super::*;

#[test]
fn no_malformed_annotation_opens_anything_and_each_names_the_pod_and_the_mistake() {
    let kinds = mistakes();
    assert!(kinds.len() >= 380, "{}", kinds.len());
    for (name, text, mistake) in kinds {
        let mut annotations = json!({ "hostport-firewall.dev/expose": "http" });
        annotations[name] = json!(text);
        let ports = json!([named_host_port("http", 80)]);
        let found = found([pod("web", &annotations, &ports)]);
        assert!(found.exposures.is_empty(), "{mistake:?} opens {:?}", found.exposures);
        let told = refused(&found);
        let by_name = told.starts_with("UnknownAnnotation Pod shop/web: ");
        assert!(by_name || told.starts_with("InvalidAnnotation Pod shop/web: "), "{text:?}: {told}");
        assert!(told.contains(name) && shows(&told, name, mistake), "{name} {text:?}: {told}");
    }
}
