//! The command `hostport-firewall`.

// The futures of the AWS SDK nest deeper than the default allows.
#![recursion_limit = "256"]

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use firewall_core::Fence;
use hostport_firewall::cli::log::log_to_stderr;
use hostport_firewall::cli::{CleanupArgs, Cli, Command, LogFormat, Output, PlanArgs, RunArgs};
use hostport_firewall::commands::report::Report;
use hostport_firewall::controller::clouds::connect;
use hostport_firewall::k8s::first_list::read_once;
use hostport_firewall::k8s::host_port_exposure;
use hostport_firewall::k8s::plain_text::escape_unprintable;
use hostport_firewall::reconcile::pass::Options;
use hostport_firewall::{commands, controller};
use mimalloc::MiMalloc;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::filter::LevelFilter;

// The C library's searches what it has freed: after the first pass over a big cluster, each later one takes longer.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

/// Any error: `main` prints its text, for the person who must act.
type AnyError = Box<dyn std::error::Error + Send + Sync>;

/// `plan` and a `cleanup` that only shows exit with this if there is something to do.
const CHANGES: u8 = 2;

// By default there is a thread for each core of the node, and each gets a heap of its own for what it allocates.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(usage) => {
            // A closed output leaves no reader.
            _ = usage.print();
            // clap's own 2 would read as "there are changes".
            return if usage.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Run(args) => Box::pin(run(args)).await,
        Command::Plan(args) => Box::pin(plan(args)).await,
        Command::Crd => definition(),
        Command::Cleanup(args) => Box::pin(clean(args)).await,
    };
    result.unwrap_or_else(|error| {
        // The log goes to the same place; if it is closed, there is no reader.
        let text = error.to_string();
        let lines: Vec<_> = text.lines().map(escape_unprintable).collect();
        _ = writeln!(std::io::stderr(), "error: {}", lines.join("\n"));
        ExitCode::FAILURE
    })
}

async fn run(args: RunArgs) -> Result<ExitCode, AnyError> {
    log_to_stderr(LevelFilter::INFO, args.log_format);
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stopping = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("stopping: calls under way are finished, no others begin");
        stopping.cancel();
    });
    controller::run(args.config(), stop.clone()).await?;
    // Without a signal, the lease was lost: the next start begins as a follower.
    Ok(if stop.is_cancelled() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn plan(args: PlanArgs) -> Result<ExitCode, AnyError> {
    log_to_stderr(LevelFilter::WARN, LogFormat::Text);
    let settings = args.settings().read()?;
    let index = read_once(args.source.manifests.as_ref()).await?;
    let clouds = connect(args.cloud.clouds(), &args.options(), &Fence::always_open()).await?;
    print(&commands::plan::plan(&index, &settings, clouds).await?, args.output)
}

async fn clean(args: CleanupArgs) -> Result<ExitCode, AnyError> {
    log_to_stderr(LevelFilter::INFO, LogFormat::Text);
    let clouds = connect(args.cloud.clouds(), &Options::default(), &Fence::always_open()).await?;
    if args.yes {
        commands::cleanup::clean_up(&clouds).await?;
        return Ok(ExitCode::SUCCESS);
    }
    let report = commands::cleanup::plan_cleanup(&clouds).await?;
    let code = print(&report, args.output)?;
    if !report.is_empty() {
        tracing::warn!("nothing was removed; add --yes to remove it");
    }
    Ok(code)
}

fn definition() -> Result<ExitCode, AnyError> {
    std::io::stdout().write_all(host_port_exposure::definition()?.as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn print(report: &Report, output: Output) -> Result<ExitCode, AnyError> {
    let text = match output {
        Output::Text => report.text(),
        Output::Json => serde_json::to_string_pretty(report)? + "\n",
    };
    std::io::stdout().write_all(text.as_bytes())?;
    Ok(if report.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(CHANGES) })
}
