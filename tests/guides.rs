//! The guides in docs/guides and the examples: their manifests open exactly the ports that each lists.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use hostport_firewall::intents::demand::collect_exposures;
use hostport_firewall::intents::settings::Settings;
use hostport_firewall::k8s::manifests::{Manifests, read};
use serde_json::Value;

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
    std::fs::write(folder.path().join("guide.yaml"), manifests).expect("the file can be written");
    list_opened_by(folder.path())
}

/// Returns the rules that the manifests of a folder open.
fn list_opened_by(folder: &Path) -> BTreeSet<String> {
    let index = read(&Manifests::Path(folder.to_owned())).expect("the manifests can be read");
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

/// Returns the folder of each example.
fn list_examples() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples");
    let entries = std::fs::read_dir(folder).expect("examples").map(|entry| entry.expect("an entry").path());
    let examples: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    assert_eq!(examples.len(), 4, "{examples:?}");
    examples
}

/// Returns the objects in one of an example's files.
fn read_objects(example: &Path, file: &str) -> Vec<Value> {
    let text = std::fs::read_to_string(example.join(file)).expect("a file of an example");
    serde_saphyr::from_multiple(&text).expect("YAML")
}

#[test]
fn example_opens_exactly_what_it_lists() {
    for example in list_examples() {
        let opens = std::fs::read_to_string(example.join("opens.txt")).expect("opens.txt");
        let expected: BTreeSet<String> = opens.lines().map(str::to_owned).collect();
        assert_eq!(list_opened_by(&example), expected, "{}", example.display());
    }
}

#[test]
fn pods_of_examples_match_their_templates() {
    let mut compared = 0;
    for example in list_examples() {
        let manifests = read_objects(&example, "manifests.yaml");
        let Some(template) = manifests.iter().find_map(|object| object["spec"].get("template")) else {
            continue;
        };
        let cluster = read_objects(&example, "cluster.yaml");
        for pod in cluster.iter().filter(|object| object["kind"] == "Pod") {
            assert_eq!(pod["spec"]["containers"], template["spec"]["containers"], "{}", example.display());
            let annotations = |object: &Value| object["metadata"].get("annotations").cloned();
            assert_eq!(annotations(pod), annotations(template), "{}", example.display());
            for (label, value) in template["metadata"]["labels"].as_object().expect("labels") {
                assert_eq!(&pod["metadata"]["labels"][label], value, "{}", example.display());
            }
            compared += 1;
        }
    }
    assert_eq!(compared, 3, "pods of templates");
}
