//! The whole loop on virtual time, from a seed: watches, demand, planning, execution, publishing and the Lease
//! of two replicas, against a model API server and a model cloud, with faults. After every event a checker
//! that shares nothing with the program holds every promise of the design against what is open.
//!
//! - `history` is the language: events, and when they happen. `generate` makes a history from a seed,
//!   `known_faults` has some by hand, `shrink` makes one that breaks a promise shorter.
//! - `world` runs a history: `api` is the model API server, `cloud` the model clouds, and the controller is the
//!   real one, behind `kube::Client`.
//! - `checker` evaluates what the objects ask for by itself, and compares it with what the cloud lets in.
//! - `calls` counts what each change of a cluster costs, `kills` kills the controller at every call, and `scale`
//!   has thousands of nodes: they need no seed.
//! - `mutants` are seeded bugs, each of which the checker has to find.

// The futures of the clouds' SDKs nest deeper than the default allows.
#![recursion_limit = "256"]

mod api;
mod calls;
mod checker;
mod clock;
mod cloud;
#[path = "../../providers/aws/tests/fake/mod.rs"]
mod fake_ec2;
mod generate;
mod history;
mod kills;
mod known_faults;
mod landscape;
mod mutants;
mod objects;
mod process;
mod random;
mod runs;
mod scale;
mod shrink;
mod threads;
mod world;
