//! Publishing: reports the outcomes of passes in statuses, readiness gates, DNS, Events and metrics.
//!
//! [`outcomes`] joins the clouds' outcomes; `published_state` assembles them. From these, pure files compute the
//! desired contents: `status` (conditions of `HostPortExposure`s), `readiness` (gates of pods), `dns_records` (with
//! `addresses`), `transitions` (ports opened and closed) and `problem_counts`. The others write: [`publisher`] by
//! `status_writer` and `dns_publisher`, [`events`] and [`metrics`].

mod addresses;
mod dns_publisher;
mod dns_records;
pub(crate) mod events;
pub(crate) mod metrics;
mod outcomes;
mod problem_counts;
pub(crate) mod published_state;
pub(crate) mod publisher;
mod readiness;
mod reasons;
mod status;
pub(crate) mod status_writer;
pub(crate) mod transitions;
