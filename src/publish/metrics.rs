//! Metrics: what somebody who watches many clusters has to know, for Prometheus.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::routing::get;
use firewall_core::WithheldReason;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use thiserror::Error;
use tokio::net::TcpListener;

use crate::k8s::problem::Problem;

/// Why metrics cannot be served.
#[derive(Debug, Error)]
#[error("cannot serve metrics at {address}: {source}; name another --metrics-address")]
pub struct MetricsError {
    address: SocketAddr,
    source: std::io::Error,
}

/// All metrics. Clones count together.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    problems: Family<ProblemLabels, Gauge>,
    unreadable: Family<Cloud, Gauge>,
    withheld: Family<Withheld, Gauge>,
    /// What `problems` holds: an object that is fine again counts as 0, instead of vanishing from graphs
    known: Arc<std::sync::Mutex<BTreeSet<ProblemLabels>>>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Cloud {
    cloud: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct Withheld {
    cloud: &'static str,
    why: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, Ord, PartialEq, PartialOrd)]
struct ProblemLabels {
    verdict: String,
    reason: String,
    kind: String,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("hostport_firewall");
        let problems = Family::default();
        let help =
            "Objects with something wrong, by verdict, reason and kind; their Events and the log say what";
        registry.register("problems", help, problems.clone());
        let unreadable = Family::default();
        let help = "1 while a cloud cannot be read, so that nothing is changed there; the log says why";
        registry.register("cloud_unreadable", help, unreadable.clone());
        let withheld = Family::default();
        let help =
            "Objects of a cloud that differ from what is wanted and stay so for now; the log says which";
        registry.register("withheld", help, withheld.clone());
        Self { registry: Arc::new(registry), problems, unreadable, withheld, known: Arc::default() }
    }
}

impl Metrics {
    /// These, and no others, are wrong now.
    pub fn problems(&self, notices: &BTreeSet<&Problem>) {
        let mut objects: BTreeMap<ProblemLabels, BTreeSet<_>> = BTreeMap::new();
        for notice in notices {
            let problem = ProblemLabels {
                verdict: notice.verdict.to_string(),
                reason: notice.reason.clone(),
                kind: notice.object.kind.to_string(),
            };
            objects.entry(problem).or_default().insert(&notice.object);
        }
        // A panic while it was held has left a set that is no less true than before.
        let mut known = self.known.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        known.extend(objects.keys().cloned());
        for problem in known.iter() {
            let count = objects.get(problem).map_or(0, BTreeSet::len);
            self.problems.get_or_create(problem).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// Whether a cloud could be read just now.
    pub fn readable(&self, cloud: &'static str, readable: bool) {
        self.unreadable.get_or_create(&Cloud { cloud }).set(i64::from(!readable));
    }

    /// So many of a cloud's objects, by [`WithheldReason::word`], and no others, stay as they are.
    pub fn withheld(&self, cloud: &'static str, counts: &BTreeMap<&'static str, usize>) {
        for why in WithheldReason::ALL {
            let count = counts.get(why).copied().unwrap_or_default();
            self.withheld
                .get_or_create(&Withheld { cloud, why })
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    /// All metrics as Prometheus reads them.
    fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String cannot fail.
        _ = encode(&mut text, &self.registry);
        text
    }
}

/// Serves metrics for as long as the returned future is polled; for ever and to nobody without an address.
///
/// # Errors
/// If the address cannot be listened on.
pub async fn serve(
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
        // It ends only with the future: what a connection does wrong ends that connection.
        _ = axum::serve(listener, Router::new().route("/metrics", page)).await;
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::objects::ObjectRef;
    use crate::k8s::problem::Verdict;

    fn notice(name: &str, message: &str) -> Problem {
        let object = ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: "shop".to_owned(),
            name: name.to_owned(),
            uid: String::new(),
        };
        let reason = "PortDenied".to_owned();
        Problem { object, verdict: Verdict::Refused, reason, message: message.to_owned() }
    }

    #[test]
    fn what_is_withheld_is_counted_by_why_until_it_is_not_any_more() {
        let metrics = Metrics::default();
        let held = || {
            let text = metrics.text();
            let line = text.lines().find(|line| line.contains("mass-close")).map(str::to_owned);
            line.expect("a line")
        };
        metrics.withheld(
            "aws",
            &BTreeMap::from([(WithheldReason::MassClose { closing: 9, open: 9 }.as_str(), 3)]),
        );
        assert_eq!(held(), "hostport_firewall_withheld{cloud=\"aws\",why=\"mass-close\"} 3");
        metrics.withheld("aws", &BTreeMap::new());
        assert!(held().ends_with(" 0"), "{}", held());
    }

    #[test]
    fn objects_with_a_problem_are_counted_once_and_until_they_are_fine() {
        let metrics = Metrics::default();
        let count = || {
            let text = metrics.text();
            let line = text.lines().find(|line| line.starts_with("hostport_firewall_problems{"));
            line.and_then(|line| line.rsplit_once(' '))
                .map(|(labels, count)| (labels.to_owned(), count.to_owned()))
        };
        assert_eq!(count(), None);
        let notices = [notice("a", "tcp/22"), notice("a", "tcp/6443"), notice("b", "tcp/22")];
        metrics.problems(&notices.iter().collect());
        let (labels, two) = count().expect("a series");
        assert_eq!(two, "2");
        for label in ["verdict=\"Refused\"", "reason=\"PortDenied\"", "kind=\"Pod\""] {
            assert!(labels.contains(label), "{labels}");
        }
        metrics.problems(&BTreeSet::new());
        assert_eq!(count(), Some((labels, "0".to_owned())));
    }

    #[tokio::test]
    async fn an_address_that_is_taken_is_told() {
        let taken = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = taken.local_addr().expect("its address");
        let error = serve(Some(address), Metrics::default()).await.err().expect("it is taken").to_string();
        assert!(error.contains(&address.to_string()) && error.contains("--metrics-address"), "{error}");
    }
}
