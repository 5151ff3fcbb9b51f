//! Proof that the simulator is faithful: Google's own Python client works with it as with the service.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use gce_simulator::{Cloud, Instance, Simulator};

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Google's Python client: set GOOGLE_CLIENT_PYTHON to what tests/google_client/install prints"]
async fn google_client_finds_what_it_expects() {
    let python = std::env::var_os("GOOGLE_CLIENT_PYTHON").expect("GOOGLE_CLIENT_PYTHON names a python");
    let cloud = Cloud::default();
    cloud.configure(|settings| settings.operation_delay = Duration::from_millis(300));
    cloud.add_network("demo", "main");
    for (number, zone) in [(0, "europe-west1-b"), (1, "europe-west1-b"), (2, "europe-west1-c")] {
        let (name, address) = (format!("node-{number}"), Ipv4Addr::new(10, 0, 0, 10 + number));
        cloud.add_instance(Instance::new("demo", zone, &name, "projects/demo/global/networks/main", address));
    }
    let simulator = Simulator::start(cloud).await.expect("a free port");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/google_client/life.py");
    let output = Command::new(python).arg(script).arg(simulator.url()).output().expect("python runs");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{out}{err}");
    assert_eq!(out.lines().count(), 4, "{out}");
    assert_eq!(simulator.cloud().violations(), [""; 0]);
}
