//! Watches files, so that they are read again when they change.

use std::path::Path;
use std::time::Duration;

use notify::{Event, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// The time to wait after a change before files are read again: editors write in several steps.
const DEBOUNCE: Duration = Duration::from_millis(200);

/// Reports changes of a file, or of the files in a folder.
pub(crate) struct FileWatcher {
    _watcher: RecommendedWatcher,
    changes: mpsc::Receiver<()>,
}

impl FileWatcher {
    /// Watches from now on.
    ///
    /// # Errors
    /// If the operating system cannot watch the path.
    pub(crate) fn new(path: &Path) -> Result<Self, notify::Error> {
        let (sender, changes) = mpsc::channel(1);
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Reading the file is an event too: reacting to it would read the file again and again.
            if !event.is_ok_and(|event| event.kind.is_access()) {
                // A full channel already holds a change to report.
                _ = sender.try_send(());
            }
        })?;
        // An editor replaces a file by renaming, and the kubelet a ConfigMap by a link: only events of the
        // folder show that.
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(Path::new(".")) };
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        watcher.watch(folder, RecursiveMode::NonRecursive)?;
        Ok(Self { _watcher: watcher, changes })
    }

    /// Waits for the next change, and until its last step is probably written.
    pub(crate) async fn next(&mut self) {
        // It fails only once the watcher is dropped, and `self` holds it.
        _ = self.changes.recv().await;
        tokio::time::sleep(DEBOUNCE).await;
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
    async fn writing_is_a_change_and_reading_is_not() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("file.yaml");
        fs::write(&path, "a").expect("it is written");
        let mut changes = FileWatcher::new(&path).expect("it is watched");
        for _ in 0..3 {
            fs::read(&path).expect("it is read");
        }
        assert!(timeout(Duration::from_secs(1), changes.next()).await.is_err(), "nothing has changed");
        fs::write(&path, "b").expect("it is written");
        timeout(Duration::from_secs(30), changes.next()).await.expect("it has changed");
    }

    /// The kubelet keeps the files of a `ConfigMap` in a folder beside it, and replaces the link to that
    /// folder.
    #[tokio::test]
    async fn config_map_replaced_by_the_kubelet_is_a_change() {
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
        let mut changes = FileWatcher::new(&path).expect("it is watched");
        version("..second");
        timeout(Duration::from_secs(30), changes.next()).await.expect("it has changed");
        assert_eq!(fs::read_to_string(path).expect("it is read"), "..second");
    }
}
