//! The shape of the code: which folder may import what, what keeps every file readable, and what the docs
//! must have.

mod commands;
mod documented;
mod in_code;
mod in_docs;
mod layers;
mod lexer;
mod links;
mod prose;
mod reachable;
mod source;
mod tidy;
