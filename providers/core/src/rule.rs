//! Ingress rules: protocol, port range and source, and the arithmetic of sets of them.

pub(crate) mod ingress_rule;
pub(crate) mod port;
pub(crate) mod rule_set;
