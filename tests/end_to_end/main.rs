//! End to end, on real parts: the release binary, kube-apiserver and etcd with RBAC on, LocalStack's EC2, and
//! the simulated Compute Engine.
//!
//! Every case starts an environment of its own. `./test` runs them; alone they need `HOSTPORT_FIREWALL_BIN`.

// The environment of a case
mod aws;
mod cluster;
mod environment;
mod gce;
mod machine;
mod metrics;
#[path = "../../src/intents/tests/mistakes.rs"]
mod mistakes;
mod objects;
mod process;
mod wait;

// The cases
mod annotated_pods;
mod bad_input;
mod cloud_permissions;
mod commands;
mod dns;
mod events;
mod exposures;
mod gates;
mod guardrails;
mod kubectl;
mod malformed;
mod neighbours;
mod permissions;
mod recovery;
mod rollout;
mod scale;
mod services;
mod undeclared_ports;
mod voyager;
mod workloads;
