//! Metrics for Prometheus: problems, passes, clouds that cannot be observed, and withheld changes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use firewall_core::WithheldReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::net::TcpListener;

use super::problem_counts::{ProblemCounts, ProblemLabels};
use crate::reconcile::pass::WakeReason;

/// The reason for which metrics cannot be served.
#[derive(Debug, Error)]
#[error("cannot serve metrics at {address}: {source}; name another --metrics-address")]
pub struct MetricsError {
    address: SocketAddr,
    source: std::io::Error,
}

/// All metrics. Clones share their values.
#[derive(Clone)]
pub(crate) struct Metrics {
    registry: Arc<Registry>,
    problem_objects: Family<ProblemLabels, Gauge>,
    observe_failing: Family<CloudLabels, Gauge>,
    withheld_resources: Family<ReasonLabels, Gauge>,
    passes: Family<ReasonLabels, Counter>,
    lease: Family<StateLabels, Gauge>,
    reported: Arc<Mutex<ReportedProblems>>,
}

/// The series of `problem_objects`.
#[derive(Default)]
struct ReportedProblems {
    /// The revision of the counts that were set last
    revision: u64,
    /// All labels so far: objects without a problem any more count as 0, instead of vanishing from graphs
    labels: BTreeSet<ProblemLabels>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct CloudLabels {
    cloud: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct ReasonLabels {
    cloud: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct StateLabels {
    state: &'static str,
}

/// The state of this replica in the election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseState {
    /// It holds the Lease.
    Leading,
    /// It waits for the Lease.
    Waiting,
    /// It waits for the Lease of another cluster name, perhaps for ever.
    OtherCluster,
}

impl LeaseState {
    const ALL: [Self; 3] = [Self::Leading, Self::Waiting, Self::OtherCluster];

    const fn as_str(self) -> &'static str {
        match self {
            Self::Leading => "leading",
            Self::Waiting => "waiting",
            Self::OtherCluster => "held-by-another-cluster",
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hostport_firewall");
        let problem_objects = Family::default();
        let help =
            "Objects with a problem, by verdict, reason and kind; their Events and the log have the details";
        registry.register("problem_objects", help, problem_objects.clone());
        let observe_failing = Family::default();
        let help =
            "1 while a cloud cannot be observed, so that nothing is changed there; the log has the error";
        registry.register("observe_failing", help, observe_failing.clone());
        let withheld_resources = Family::default();
        let help = "Resources of a cloud that differ from the desired state and are deliberately left so for now, \
                    by reason; the log names them";
        registry.register("withheld_resources", help, withheld_resources.clone());
        let passes = Family::default();
        let help = "Passes of a cloud that have begun, by reason";
        registry.register("passes", help, passes.clone());
        let lease = Family::default();
        let help = "1 for the state of this replica in the election, 0 for the others";
        registry.register("lease_state", help, lease.clone());
        Self {
            registry: Arc::new(registry),
            problem_objects,
            observe_failing,
            withheld_resources,
            passes,
            lease,
            reported: Arc::default(),
        }
    }
}

impl Metrics {
    /// Sets the numbers of objects with a problem, unless newer ones have been set: two clouds report at the
    /// same time.
    pub(crate) fn set_problems(&self, counts: &ProblemCounts) {
        // A panic while it was held has left labels that are still valid.
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if counts.revision < reported.revision {
            return;
        }
        reported.revision = counts.revision;
        reported.labels.extend(counts.objects.keys().cloned());
        for labels in &reported.labels {
            let count = counts.objects.get(labels).copied().unwrap_or_default();
            self.problem_objects.get_or_create(labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Sets whether a cloud could not be observed by its last pass.
    pub(crate) fn set_observe_failing(&self, cloud: &'static str, is_failing: bool) {
        self.observe_failing.get_or_create(&CloudLabels { cloud }).set(i64::from(is_failing));
    }

    /// Sets the numbers of a cloud's withheld resources, by [`WithheldReason::as_str`]; a reason without one
    /// is 0.
    pub(crate) fn set_withheld(&self, cloud: &'static str, counts: &BTreeMap<&'static str, usize>) {
        for reason in WithheldReason::ALL {
            let count = counts.get(reason).copied().unwrap_or_default();
            self.withheld_resources
                .get_or_create(&ReasonLabels { cloud, reason })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Counts a pass of a cloud that begins.
    pub(crate) fn count_pass(&self, cloud: &'static str, reason: WakeReason) {
        self.passes.get_or_create(&ReasonLabels { cloud, reason: reason.as_str() }).inc();
    }

    /// Sets the state of this replica in the election.
    pub(crate) fn set_lease(&self, state: LeaseState) {
        for other in LeaseState::ALL {
            let labels = StateLabels { state: other.as_str() };
            self.lease.get_or_create(&labels).set(i64::from(other == state));
        }
    }

    /// Returns all metrics in Prometheus' text format.
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        _ = encode(&mut text, &self.registry);
        text
    }
}

/// Returns a future that serves metrics for as long as it is polled. Without an address it serves none, and
/// never ends.
///
/// # Errors
/// If the address cannot be listened on.
pub(crate) async fn serve(
    address: Option<SocketAddr>,
    metrics: Metrics,
) -> Result<impl Future<Output = ()>, MetricsError> {
    let listener = match address {
        None => None,
        Some(address) => {
            let bound = TcpListener::bind(address).await;
            Some(bound.map_err(|source| MetricsError { address, source })?)
        }
    };
    Ok(async move {
        let Some(listener) = listener else { return std::future::pending().await };
        let format = "application/openmetrics-text; version=1.0.0; charset=utf-8";
        let page = get(move || std::future::ready(([(CONTENT_TYPE, format)], metrics.text())));
        // It ends only with the future: an error of a connection ends that connection alone.
        _ = axum::serve(listener, Router::new().route("/metrics", page)).await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::objects::builders::object_ref;
    use crate::k8s::problem::{Problem, Verdict};

    fn problem(name: &str, message: &str) -> Problem {
        let object = object_ref("Pod", "shop", name);
        let reason = "PortDenied".to_owned();
        Problem { object, verdict: Verdict::Rejected, reason, message: message.to_owned() }
    }

    #[test]
    fn passes_are_counted_by_cloud_and_reason() {
        let metrics = Metrics::default();
        for reason in [WakeReason::Started, WakeReason::Resync, WakeReason::Resync] {
            metrics.count_pass("aws", reason);
        }
        let text = metrics.text();
        for (reason, count) in [("started", 1), ("resync", 2)] {
            let line = format!("hostport_firewall_passes_total{{cloud=\"aws\",reason=\"{reason}\"}} {count}");
            assert!(text.lines().any(|shown| shown == line), "{line} is not in {text}");
        }
    }

    #[test]
    fn withheld_resources_are_counted_by_reason_until_released() {
        let metrics = Metrics::default();
        let held = || {
            let text = metrics.text();
            let line = text.lines().find(|line| line.contains("mass-close")).map(str::to_owned);
            line.expect("a line")
        };
        metrics.set_withheld(
            "aws",
            &BTreeMap::from([(
                WithheldReason::MassClose { namespace: None, closing: 9, open: 9 }.as_str(),
                3,
            )]),
        );
        assert_eq!(held(), "hostport_firewall_withheld_resources{cloud=\"aws\",reason=\"mass-close\"} 3");
        metrics.set_withheld("aws", &BTreeMap::new());
        assert!(held().ends_with(" 0"), "{}", held());
    }

    #[test]
    fn problem_objects_are_counted_once_until_fixed() {
        let metrics = Metrics::default();
        let count = || {
            let text = metrics.text();
            let line = text.lines().find(|line| line.starts_with("hostport_firewall_problem_objects{"));
            line.and_then(|line| line.rsplit_once(' '))
                .map(|(labels, count)| (labels.to_owned(), count.to_owned()))
        };
        assert_eq!(count(), None);
        let problems = [problem("a", "tcp/22"), problem("a", "tcp/6443"), problem("b", "tcp/22")];
        metrics.set_problems(&ProblemCounts::new(2, &problems));
        let (labels, two) = count().expect("a series");
        assert_eq!(two, "2");
        for label in ["verdict=\"Rejected\"", "reason=\"PortDenied\"", "kind=\"Pod\""] {
            assert!(labels.contains(label), "{labels}");
        }
        metrics.set_problems(&ProblemCounts::new(1, &[]));
        assert_eq!(count(), Some((labels.clone(), "2".to_owned())), "older counts are ignored");
        metrics.set_problems(&ProblemCounts::new(3, &[]));
        assert_eq!(count(), Some((labels, "0".to_owned())));
    }

    #[tokio::test]
    async fn address_in_use_is_an_error() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = taken.local_addr().expect("its address");
        let error = serve(Some(address), Metrics::default()).await.err().expect("it is taken").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--metrics-address"), "{error}");
    }
}
