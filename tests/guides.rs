//! The guides in docs/guides: their manifests open exactly the ports that each guide lists.

use std::collections::BTreeSet;
use std::path::Path;

use hostport_firewall::intents::collect::collect_exposures;
use hostport_firewall::intents::settings::Settings;
use hostport_firewall::k8s::manifests::{Manifests, read};

/// Returns the text of the fenced block with this mark, or `None`. There may be only one.
fn find_block<'a>(text: &'a str, mark: &str) -> Option<&'a str> {
    let fence = format!("```{mark}\n");
    let (_, from) = text.split_once(&fence)?;
    assert!(!from.contains(&fence), "two blocks {mark}");
    Some(from.split_once("```").expect("the end of a block").0)
}

/// Returns the rules that the manifests open, in the guides' form: node, protocol and ports, source.
fn list_opened(manifests: &str) -> BTreeSet<String> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("guide.yaml");
    std::fs::write(&path, manifests).expect("the file can be written");
    let index = read(&Manifests::Path(path)).expect("the manifests can be read");
    let found = collect_exposures(&index, &Settings { external_dns: true, ..Settings::default() });
    assert!(found.problems.is_empty(), "{:#?}", found.problems);
    let rules = found.exposures.iter().flat_map(|exposure| {
        let node = exposure.node.name.clone();
        exposure
            .rules
            .iter()
            .map(move |rule| format!("{node} {}/{} {}", rule.protocol, rule.ports, rule.source))
    });
    rules.collect()
}

#[test]
fn guide_opens_exactly_what_it_lists() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/guides");
    let mut guides = 0;
    for entry in std::fs::read_dir(folder).expect("docs/guides") {
        let path = entry.expect("a file").path();
        let text = std::fs::read_to_string(&path).expect("a guide");
        let Some(manifests) = find_block(&text, "yaml plan") else { continue };
        let opens = find_block(&text, "text opens").expect("what they open");
        let expected: BTreeSet<String> = opens.lines().map(str::to_owned).collect();
        assert_eq!(list_opened(manifests), expected, "{}", path.display());
        guides += 1;
    }
    assert_eq!(guides, 6, "guides to a workload");
}
