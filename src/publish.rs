//! Publishing: reports the outcomes of passes in statuses, readiness gates, DNS, Events and metrics.
//!
//! `published_state` joins the results of all clouds to `outcomes`, but for machines that are not among the
//! `served_machines`, as far as it is `touched`. From these, pure files compute what to publish: `status` (conditions of
//! `HostPortExposure`s), `readiness` (gates of pods), `dns_records` (with `addresses`), `transitions` (ports
//! opened and closed), `event_queue` and `problem_counts`. The others write: `publishers` hands a pass to
//! `publisher` (by `status_writer` and `dns_publisher`), `events` and `metrics`.

mod addresses;
pub(crate) mod cluster_now;
mod dns_publisher;
mod dns_records;
mod event_queue;
pub(crate) mod events;
pub(crate) mod metrics;
mod outcomes;
mod problem_counts;
mod published_state;
pub(crate) mod publisher;
pub(crate) mod publishers;
mod readiness;
mod served_machines;
mod status;
pub(crate) mod status_writer;
mod touched;
pub(crate) mod transitions;
