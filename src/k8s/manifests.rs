//! Manifests: reads the objects that decide about host ports from YAML or JSON files instead of a cluster.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;
use thiserror::Error;

use super::file_watcher::FileWatcher;
use super::host_port_exposure::GROUP;
use super::index::shared_index::SharedIndex;
use super::index::{Index, Object, Watch};

/// The groups whose Ingresses are read from manifests; always all of them, because a set of files is complete
/// as it is.
const INGRESS_GROUPS: [&str; 3] = ["networking.k8s.io", "voyager.appscode.com", "extensions"];

/// The source of manifests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Manifests {
    /// Standard input, read once
    Stdin,
    /// A file, or a folder of which the `.yaml`, `.yml` and `.json` files are read
    Path(PathBuf),
}

impl std::str::FromStr for Manifests {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(if text == "-" { Self::Stdin } else { Self::Path(text.into()) })
    }
}

/// The reason for which manifests cannot be read. None of them is used then: pods missing from half a set of
/// files would look deleted.
#[derive(Debug, Error)]
pub enum ManifestError {
    /// The file or folder cannot be read.
    #[error("cannot read {path}: {source}")]
    Io {
        /// The file or folder
        path: String,
        /// The operating system's error
        source: std::io::Error,
    },
    /// The text is neither YAML nor JSON.
    #[error("{path} is not valid YAML or JSON: {message}")]
    Syntax {
        /// The file
        path: String,
        /// The position and the fault
        message: String,
    },
    /// An object does not have the fields of its kind.
    #[error("{path}: {object} cannot be read: {message}")]
    Object {
        /// The file
        path: String,
        /// Kind and name
        object: String,
        /// The field and the fault
        message: String,
    },
    /// The files cannot be watched.
    #[error("cannot watch {path} for changes: {message}")]
    Watch {
        /// The file or folder
        path: String,
        /// The operating system's error
        message: String,
    },
}

/// Reads all manifests into an index that is complete.
///
/// # Errors
/// If anything cannot be read; see [`ManifestError`].
pub fn read(manifests: &Manifests) -> Result<Index, ManifestError> {
    let mut objects: BTreeMap<Watch, Vec<Object>> = BTreeMap::new();
    let watches = Watch::ALWAYS.into_iter().chain([Watch::HostPortExposures]);
    let watches = watches.chain(INGRESS_GROUPS.map(|group| Watch::Ingresses(group.to_owned())));
    for watch in watches {
        objects.insert(watch, Vec::new());
    }
    for (path, text) in read_texts(manifests)? {
        for document in parse_documents(&path, &text)? {
            collect_objects(&path, document, &mut objects)?;
        }
    }
    let mut index = Index::expecting(objects.keys().cloned());
    for (watch, objects) in objects {
        index.reset(watch, objects);
    }
    Ok(index)
}

/// Reads all manifests. Returns the index, and a future that reads them again whenever they change, forever.
/// Files that cannot be read later make the index incomplete.
///
/// # Errors
/// If the files cannot be read or watched.
pub fn watch_manifests(
    manifests: &Manifests,
) -> Result<(SharedIndex, impl Future<Output = ()>), ManifestError> {
    // Watched before they are read, so that no change between the two is missed.
    let changes = match manifests {
        Manifests::Stdin => None,
        Manifests::Path(path) => Some(FileWatcher::new(path).map_err(|error| ManifestError::Watch {
            path: path.display().to_string(),
            message: error.to_string(),
        })),
    };
    let index = SharedIndex::new(read(manifests)?);
    let (changes, shared) = (changes.transpose()?, index.clone());
    let watching = async move {
        let Some(mut changes) = changes else { return std::future::pending().await };
        loop {
            changes.next().await;
            match read(manifests) {
                Ok(new) => shared.update(|index| index.replace(new)),
                Err(error) => {
                    tracing::warn!(
                        "{error}; the manifests read before stay in use, and no port is closed meanwhile"
                    );
                    shared.update(|index| index.mark_incomplete(Watch::Pods, error.to_string()));
                }
            }
        }
    };
    Ok((index, watching))
}

/// Returns the path and content of each file.
fn read_texts(manifests: &Manifests) -> Result<Vec<(String, String)>, ManifestError> {
    let Manifests::Path(path) = manifests else {
        let mut text = String::new();
        let read = std::io::stdin().read_to_string(&mut text);
        return read
            .map(|_| vec![("standard input".to_owned(), text)])
            .map_err(|source| ManifestError::Io { path: "standard input".into(), source });
    };
    let io = |path: &Path| {
        let path = path.display().to_string();
        move |source| ManifestError::Io { path, source }
    };
    let mut files = vec![path.clone()];
    if path.is_dir() {
        let entries = std::fs::read_dir(path).map_err(io(path))?;
        files = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(io(path))?;
        files.retain(|file| {
            file.extension()
                .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|allowed| extension == *allowed))
        });
        files.sort();
    }
    let text = |file: PathBuf| match std::fs::read_to_string(&file) {
        Ok(text) => Ok((file.display().to_string(), text)),
        Err(source) => Err(io(&file)(source)),
    };
    files.into_iter().map(text).collect()
}

/// Returns the YAML documents of a text; JSON is YAML. Only `true` and `false` are booleans, as in
/// Kubernetes: a node may have the name `n`.
fn parse_documents(path: &str, text: &str) -> Result<Vec<Value>, ManifestError> {
    serde_saphyr::from_multiple_with_options(text, serde_saphyr::options! { strict_booleans: true })
        .map_err(|error| ManifestError::Syntax { path: path.to_owned(), message: error.to_string() })
}

/// Adds the objects of a document to those of their watches.
fn collect_objects(
    path: &str,
    document: Value,
    objects: &mut BTreeMap<Watch, Vec<Object>>,
) -> Result<(), ManifestError> {
    let text = |field: &str| document.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (kind, api_version) = (text("kind"), text("apiVersion"));
    let group = api_version.split_once('/').map_or("", |(group, _)| group).to_owned();
    // Ingresses of a group that Voyager does not read have no watch.
    let mut add = |watch: Watch, object: Object| {
        if let Some(objects) = objects.get_mut(&watch) {
            objects.push(object);
        }
    };
    match kind.as_str() {
        "Pod" if group.is_empty() => add(Watch::Pods, parse_object(path, &kind, document).map(Object::Pod)?),
        "Node" if group.is_empty() => {
            add(Watch::Nodes, parse_object(path, &kind, document).map(Object::Node)?);
        }
        "Namespace" if group.is_empty() => {
            add(Watch::Namespaces, parse_object(path, &kind, document).map(Object::Namespace)?);
        }
        "Service" if group.is_empty() => {
            add(Watch::Services, parse_object(path, &kind, document).map(Object::Service)?);
        }
        "EndpointSlice" if group == "discovery.k8s.io" => {
            add(Watch::EndpointSlices, parse_object(path, &kind, document).map(Object::EndpointSlice)?);
        }
        "HostPortExposure" if group == GROUP => {
            let exposure = parse_object(path, &kind, document).map(Box::new);
            add(Watch::HostPortExposures, exposure.map(Object::HostPortExposure)?);
        }
        "Ingress" => add(Watch::Ingresses(group), parse_object(path, &kind, document).map(Object::Ingress)?),
        _ if kind.ends_with("List") => {
            if let Value::Object(mut list) = document
                && let Some(Value::Array(items)) = list.remove("items")
            {
                let kind = kind.trim_end_matches("List");
                for item in items {
                    collect_objects(path, with_kind(item, kind, &api_version), objects)?;
                }
            }
        }
        _ => tracing::debug!(path, kind, api_version, "ignored: not a kind that decides about host ports"),
    }
    Ok(())
}

/// Adds kind and version to the item of a typed list (`PodList`), which leaves them out; items of a plain
/// `List` have them.
fn with_kind(mut item: Value, kind: &str, api_version: &str) -> Value {
    if let Value::Object(fields) = &mut item
        && !kind.is_empty()
    {
        fields.entry("kind").or_insert_with(|| kind.into());
        fields.entry("apiVersion").or_insert_with(|| api_version.into());
    }
    item
}

/// Parses one object. The error names it by kind, namespace and name.
fn parse_object<K: serde::de::DeserializeOwned>(
    path: &str,
    kind: &str,
    document: Value,
) -> Result<K, ManifestError> {
    let field = |name: &str| document.pointer(&format!("/metadata/{name}")).and_then(Value::as_str);
    let object =
        format!("{kind} {}/{}", field("namespace").unwrap_or("default"), field("name").unwrap_or("?"));
    serde_json::from_value(document).map_err(|error| ManifestError::Object {
        path: path.to_owned(),
        object,
        message: error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    const POD: &str = "{apiVersion: v1, kind: Pod, metadata: {name: web, annotations: {hostport-firewall.dev/expose: \"80\"}}, \
                       spec: {nodeName: n}}";
    const NODE: &str = "{apiVersion: v1, kind: Node, metadata: {name: n}}";

    fn read_file(name: &str, text: &str) -> Result<Index, ManifestError> {
        let folder = TempDir::new().expect("a temporary folder");
        std::fs::write(folder.path().join(name), text).expect("the file can be written");
        read(&Manifests::Path(folder.path().to_owned()))
    }

    fn found(index: &Index) -> (usize, bool) {
        (index.pods().count(), index.node("n").is_some())
    }

    #[test]
    fn documents_lists_and_json_are_read_alike() {
        let cases = [
            ("a.yaml", format!("{POD}\n---\n{NODE}\n")),
            ("a.yml", format!("kind: List\napiVersion: v1\nitems:\n- {POD}\n- {NODE}\n")),
            (
                "a.json",
                r#"{"kind":"NodeList","apiVersion":"v1","items":[{"metadata":{"name":"n"}}]}"#.to_owned(),
            ),
        ];
        for (name, text) in cases {
            let index = read_file(name, &text).expect("it can be read");
            assert_eq!(found(&index), (usize::from(name != "a.json"), true), "{name}");
            assert!(index.is_synced(), "files are complete as they are");
        }
    }

    #[tokio::test]
    async fn change_right_after_reading_is_not_missed() {
        let dir = tempfile::tempdir().expect("a temporary folder");
        let path = dir.path().join("a.yaml");
        std::fs::write(&path, NODE).expect("it can be written");
        let manifests = Manifests::Path(path.clone());
        let (mut index, watching) = watch_manifests(&manifests).expect("it can be read");
        std::fs::write(&path, format!("{NODE}\n---\n{POD}")).expect("it can be written");
        let limit = std::time::Duration::from_secs(30);
        tokio::select! {
            () = watching => {}
            changed = tokio::time::timeout(limit, index.changed()) => changed.expect("it is read again"),
        }
        assert_eq!(found(&index.read()), (1, true));
    }

    #[test]
    fn irrelevant_kinds_and_files_are_ignored() {
        let text = format!("{POD}\n---\n{{apiVersion: v1, kind: Secret, metadata: {{name: s}}}}\n---\n");
        assert_eq!(found(&read_file("a.yaml", &text).expect("it can be read")), (1, false));
        assert_eq!(found(&read_file("notes.txt", "not a manifest: [").expect("not read at all")), (0, false));
    }

    #[test]
    fn read_error_names_file_and_object_and_nothing_is_used() {
        let syntax_error = read_file("a.yaml", "kind: [").expect_err("not YAML");
        assert!(
            matches!(&syntax_error, ManifestError::Syntax { path, .. } if path.ends_with("a.yaml")),
            "{syntax_error}"
        );
        let text = format!("{NODE}\n---\n{{kind: Pod, apiVersion: v1, metadata: {{name: web}}, spec: 7}}");
        let field_error = read_file("a.yaml", &text).expect_err("spec is no object").to_string();
        assert!(field_error.contains("a.yaml") && field_error.contains("Pod default/web"), "{field_error}");
        let missing = read(&Manifests::Path("/does/not/exist".into())).expect_err("no such file");
        assert!(matches!(missing, ManifestError::Io { .. }), "{missing}");
    }
}
