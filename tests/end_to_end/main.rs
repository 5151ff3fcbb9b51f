//! End to end, on real parts: the release binary, kube-apiserver and etcd with RBAC on, LocalStack's EC2, and the
//! simulated Compute Engine.
//!
//! Every case starts a world of its own. `./test` runs them; alone they need `HOSTPORT_FIREWALL_BIN`.

mod amazon;
mod bad_input;
mod cases;
mod cluster;
mod commands;
mod dns;
mod events;
mod exposures;
mod gates;
mod google;
mod google_cases;
mod guardrails;
mod kubectl;
mod machine;
mod malformed;
mod metrics;
#[path = "../../src/intents/tests/mistakes.rs"]
mod mistakes;
mod patience;
mod permissions;
mod process;
mod rollout;
mod services;
mod voyager;
mod workloads;
mod world;
