//! The command `gce-simulator`.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use gce_simulator::{Cloud, Instance, Simulator};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, stdin};
use tokio::signal::unix::{SignalKind, signal};

/// Simulates the part of the Compute Engine API that hostport-firewall touches.
#[derive(Parser)]
#[command(version, max_term_width = 110, after_help = EXAMPLES)]
struct Cli {
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Networks and instances to begin with, as JSON
    #[arg(long, value_name = "FILE")]
    seed: Option<PathBuf>,
    /// The project that the metadata server names
    #[arg(long, value_name = "PROJECT")]
    project: Option<String>,
    /// End when standard input ends, so that nothing outlives the program that holds the pipe
    #[arg(long)]
    until_stdin_closes: bool,
}

const EXAMPLES: &str = "Examples:
  gce-simulator --project demo
  gce-simulator --listen 127.0.0.1:0 --seed seed.json

  # seed.json
  { \"networks\": [[\"demo\", \"main\"]],
    \"instances\": [{ \"project\": \"demo\", \"zone\": \"europe-west1-b\", \"name\": \"node-0\",
      \"interfaces\": [{ \"network\": \"projects/demo/global/networks/main\", \"ipv4\": \"10.0.0.10\" }] }] }

  # The API, and the metadata server that Google's client libraries ask for credentials
  curl -H 'Authorization: Bearer x' http://127.0.0.1:8090/compute/v1/projects/demo/global/firewalls
  export GCE_METADATA_HOST=127.0.0.1:8090";

/// The content of the file that `--seed` names
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Seed {
    #[serde(default)]
    networks: Vec<(String, String)>,
    #[serde(default)]
    instances: Vec<Instance>,
}

#[tokio::main]
async fn main() -> ExitCode {
    match run(Cli::parse()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // If standard error is closed, the error cannot be reported.
            _ = writeln!(std::io::stderr(), "error: {error}");
            ExitCode::FAILURE
        }
    }
}

async fn run(cli: Cli) -> Result<(), Box<dyn std::error::Error>> {
    let cloud = Cloud::default();
    cloud.configure(|settings| settings.project_id.clone_from(&cli.project));
    if let Some(path) = &cli.seed {
        let text = std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
        let seed: Seed =
            serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
        for (project, name) in &seed.networks {
            cloud.add_network(project, name);
        }
        for instance in seed.instances {
            cloud.add_instance(instance);
        }
    }
    let simulator = Simulator::listen(cloud, cli.listen).await?;
    let mut out = std::io::stdout();
    writeln!(out, "Ready. {}", simulator.url())?;
    out.flush()?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        result = tokio::signal::ctrl_c() => result?,
        () = wait_for_stdin_to_close(), if cli.until_stdin_closes => {}
    }
    Ok(())
}

async fn wait_for_stdin_to_close() {
    let (mut input, mut ignored) = (stdin(), [0; 256]);
    while matches!(input.read(&mut ignored).await, Ok(count) if count > 0) {}
}
