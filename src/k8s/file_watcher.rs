//! Files that are read again when they change.

use std::path::Path;
use std::time::Duration;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// How long files must have been quiet before they are read again: editors write in several steps.
const QUIET: Duration = Duration::from_millis(200);

/// Tells of changes of a file, or of the files in a folder.
pub(crate) struct FileWatcher {
    _watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
}

impl FileWatcher {
    /// Tells of changes from now on.
    ///
    /// # Errors
    /// If the operating system cannot.
    pub(crate) fn of(path: &Path) -> Result<Self, notify::Error> {
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Reading the file is an event too: heeding it would read it again for ever.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // A full channel already says that something changed.
                _ = sender.try_send(());
            }
        })?;
        // An editor replaces a file by renaming, and the kubelet a ConfigMap by a link: only the folder sees that.
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self { _watcher: watcher, changes })
    }

    /// Waits for a change, and until it is over.
    pub(crate) async fn next(&mut self) {
        // It fails only once the watcher is gone, and `self` holds it.
        _ = self.changes.recv().await;
        tokio::time::sleep(QUIET).await;
        while self.changes.try_recv().is_ok() {}
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    #[tokio::test]
    async fn a_change_is_told_and_reading_is_none() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.yaml");
        fs::write(&path, "a").expect("it is written");
        let mut changes = FileWatcher::of(&path).expect("it is followed");
        for _ in 0..3 {
            fs::read(&path).expect("it is read");
        }
        assert!(timeout(Duration::from_secs(1), changes.next()).await.is_err(), "nothing has changed");
        fs::write(&path, "b").expect("it is written");
        timeout(Duration::from_secs(30), changes.next()).await.expect("it has changed");
    }

    /// The kubelet keeps the files of a `ConfigMap` in a folder beside, and puts a link to another in its place.
    #[tokio::test]
    async fn a_config_map_that_the_kubelet_replaces_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let version = |name: &str| {
            let version = folder.path().join(name);
            fs::create_dir(&version).expect("a folder");
            fs::write(version.join("file.yaml"), name).expect("it is written");
            let next = folder.path().join("..data_tmp");
            symlink(name, &next).expect("a link");
            fs::rename(next, folder.path().join("..data")).expect("it is renamed");
        };
        version("..first");
        let path = folder.path().join("file.yaml");
        symlink("..data/file.yaml", &path).expect("a link");
        let mut changes = FileWatcher::of(&path).expect("it is followed");
        version("..second");
        timeout(Duration::from_secs(30), changes.next()).await.expect("it has changed");
        assert_eq!(fs::read_to_string(path).expect("it is read"), "..second");
    }
}
