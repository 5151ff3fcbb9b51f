//! Ingress rules: protocol, port range and source, and the arithmetic of sets of them.

mod canonical;
mod coverage;
pub(crate) mod ingress_rule;
pub(crate) mod port;
pub(crate) mod rule_set;
