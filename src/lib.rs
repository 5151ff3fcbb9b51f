//! The controller: from the Kubernetes API, or manifest files, to a cloud whose firewall follows it.
//!
//! The folders are the pipeline: [`k8s`] feeds the index; [`parse`], [`guardrails`] and [`intents`] turn it into exposures;
//! [`desired`] into firewall groups; [`reconcile`] has a provider compile them, plans, checks and executes; [`publish`] tells
//! people and cluster; [`controller`] runs all of it for ever, and [`commands`] once. ARCHITECTURE.md has the whole.

// The futures of the clouds' SDKs nest deeper than the default allows.
#![recursion_limit = "256"]

pub mod cli;
pub mod commands;
pub mod controller;
pub mod desired;
pub mod guardrails;
pub mod intents;
pub mod k8s;
pub mod parse;
pub mod publish;
pub mod reconcile;
