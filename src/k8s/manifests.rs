//! Manifests: reads the objects that decide about host ports from YAML or JSON files instead of a cluster.
//!
//! Files are complete as they are, so that what is not in them looks deleted. Therefore none of them is used
//! where any is not what it should be: an export that failed leaves an empty file, half a document, or a
//! `Status`.

mod error;
mod objects;

use std::io::Read;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::file_watcher::FileWatcher;
use super::index::shared_index::SharedIndex;
use super::index::{Index, Watch};
use error::{STANDARD_INPUT, to_message};
use objects::Objects;

pub use error::ManifestError;

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

/// Reads all manifests into an index that is complete.
///
/// # Errors
/// If anything cannot be read, or is no knowledge of a cluster; see [`ManifestError`].
pub fn read(manifests: &Manifests) -> Result<Index, ManifestError> {
    let objects = collect(&read_texts(manifests)?)?;
    if let Some(passed_over) = objects.describe_passed_over() {
        tracing::warn!("{passed_over}");
    }
    let mut index = Index::expecting(objects.by_watch.keys().cloned());
    for (watch, objects) in objects.by_watch {
        index.reset(watch, objects);
    }
    if index.lists_no_node() { Err(ManifestError::NoNode) } else { Ok(index) }
}

/// Collects the objects of all texts, each with the path of its file.
fn collect(texts: &[(String, String)]) -> Result<Objects, ManifestError> {
    let mut objects = Objects::default();
    for (path, text) in texts {
        let mut is_empty = true;
        for (position, document) in parse_documents(path, text)?.into_iter().enumerate() {
            // A document of comments alone, as charts render them
            if document.is_null() {
                continue;
            }
            is_empty = false;
            objects.add(path, &format!("document {}", position + 1), document)?;
        }
        if is_empty {
            return Err(ManifestError::NoObject { path: path.clone() });
        }
    }
    Ok(objects)
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
            .map(|_| vec![(STANDARD_INPUT.to_owned(), text)])
            .map_err(|source| ManifestError::Io { path: STANDARD_INPUT.to_owned(), source });
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
        if files.is_empty() {
            return Err(ManifestError::NoFile { path: path.display().to_string() });
        }
    }
    let text = |file: PathBuf| match std::fs::read_to_string(&file) {
        Ok(text) => Ok((file.display().to_string(), text)),
        Err(source) => Err(io(&file)(source)),
    };
    files.into_iter().map(text).collect()
}

/// Returns the YAML documents of a text; JSON is YAML, and parsed as JSON if it can be, which is faster. Only
/// `true` and `false` are booleans, as in Kubernetes: a node may have the name `n`.
fn parse_documents(path: &str, text: &str) -> Result<Vec<Value>, ManifestError> {
    if text.trim_start().starts_with('{') {
        let documents = serde_json::Deserializer::from_str(text).into_iter();
        if let Ok(documents) = documents.collect() {
            return Ok(documents);
        }
    }
    // A whole cluster has more nodes than the parser allows by default. Its limits on depth and on the
    // expansion of aliases stay.
    let options = serde_saphyr::options! {
        strict_booleans: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: 1_000_000_000,
            max_nodes: 1_000_000_000,
            max_documents: 1_000_000,
            max_total_scalar_bytes: 1 << 32,
        },
    };
    serde_saphyr::from_multiple_with_options(text, options)
        .map_err(|error| ManifestError::Syntax { path: path.to_owned(), message: to_message(&error) })
}

#[cfg(test)]
mod tests;
