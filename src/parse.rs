//! Parsers and formatters of small values: text to value, strict and bounded. Pure.

pub(crate) mod family;
pub mod hostname;
pub(crate) mod label_selector;
pub(crate) mod list;
pub mod ports;
pub(crate) mod source_ranges;
