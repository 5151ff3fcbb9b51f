//! Malformed annotations, some four hundred kinds: none opens anything, and each names the pod and the
//! mistake.

use super::mistakes::{mistakes, shows};
use super::*;

#[test]
fn malformed_annotation_opens_nothing_and_is_reported() {
    let kinds = mistakes();
    assert!(kinds.len() >= 380, "{}", kinds.len());
    for (name, text, mistake) in kinds {
        let mut annotations = json!({ "hostport-firewall.dev/expose": "http" });
        annotations[name] = json!(text);
        let ports = json!([named_host_port("http", 80)]);
        let found = collect([pod("web", &annotations, &ports)]);
        assert!(found.exposures.is_empty(), "{mistake:?} opens {:?}", found.exposures);
        let problem = rejection(&found);
        let by_name = problem.starts_with("UnknownAnnotation Pod shop/web: ");
        assert!(by_name || problem.starts_with("InvalidAnnotation Pod shop/web: "), "{text:?}: {problem}");
        assert!(problem.contains(name) && shows(&problem, name, mistake), "{name} {text:?}: {problem}");
    }
}
