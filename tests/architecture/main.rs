//! The shape of the code: which folder may import what, and what keeps every file readable.

mod layers;
mod source;
