//! Child processes of a case, none of which outlives it.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// Returns the repository's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the path of the binary under test, which `./test` built for release.
pub(crate) fn binary() -> PathBuf {
    let path = std::env::var_os("HOSTPORT_FIREWALL_BIN")
        .expect("HOSTPORT_FIREWALL_BIN must name the release binary; ./test sets it");
    root().join(path)
}

/// Returns a TCP port of 127.0.0.1 that is free now, and that no connection is given in the meantime.
pub(crate) fn find_free_port() -> u16 {
    let output =
        Command::new(root().join("tests/find-free-port")).output().expect("tests/find-free-port runs");
    String::from_utf8_lossy(&output.stdout).trim().parse().expect("it prints a port")
}

/// A child process that is killed when dropped.
pub(crate) struct Process(Child);

impl Process {
    /// Starts it with its output in `log`, its standard input held open.
    pub(crate) fn start(command: &mut Command, log: &Path) -> Self {
        let file = || File::options().create(true).append(true).open(log).expect("the log can be written");
        let child = command.stdin(Stdio::piped()).stdout(file()).stderr(file()).spawn();
        Self(child.unwrap_or_else(|error| panic!("{command:?}: {error}")))
    }

    /// Kills it without warning, as the kernel does when memory runs out.
    pub(crate) fn kill(mut self) {
        self.0.kill().expect("it runs");
        self.0.wait().expect("it ends");
    }

    /// Asks it to end (SIGTERM), and returns true if it ended with success.
    pub(crate) fn terminate(mut self) -> bool {
        let pid = self.0.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        self.0.wait().expect("it ends").success()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// A running kube-apiserver and its etcd.
pub(crate) struct ControlPlane {
    _child: Process,
    dir: TempDir,
}

impl ControlPlane {
    /// Starts it and waits until it is ready.
    pub(crate) fn start() -> Self {
        let dir = TempDir::with_prefix("control-plane-").expect("a temporary folder");
        let mut command = Command::new(root().join("tests/control-plane/start"));
        let mut child = command
            .arg(dir.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("tests/control-plane/start runs");
        let mut line = String::new();
        let output = child.stdout.take().expect("it was piped");
        BufReader::new(output).read_line(&mut line).expect("it can be read");
        assert_eq!(line.trim(), "ready", "the control plane did not start");
        Self { _child: Process(child), dir }
    }

    /// Returns the path of the administrator's kubeconfig.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("admin.kubeconfig")
    }
}
