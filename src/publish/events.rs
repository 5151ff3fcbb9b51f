//! Events: what somebody must know about an object, as a log line and a Kubernetes Event, said once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use super::metrics::Metrics;
use crate::k8s::problem::{Problem, Verdict};

/// Events carry at most 1,024 bytes of text; what is longer is refused by the API server.
const LONGEST_NOTE: usize = 1024;

/// How many Events can wait to be written: each costs the API server a write, and a `DaemonSet` can open on thousands of
/// nodes at once. More are left out; the log has all that is wrong.
const QUEUE: usize = 4096;

/// How a text that is too long for an Event ends.
const CUT: &str = "… (cut; in full in the controller's log)";

/// Says each notice once, and again only after it had gone. Clones speak with one voice.
#[derive(Clone)]
pub struct EventPublisher(Arc<Mutex<Said>>);

struct Said {
    /// Where Events wait to be written; none where there is no cluster to write to
    events: Option<mpsc::Sender<Problem>>,
    metrics: Metrics,
    /// What holds, by who found it: two clouds can find the same
    by_source: BTreeMap<&'static str, BTreeSet<Problem>>,
}

impl EventPublisher {
    /// Returns a publisher that only logs.
    #[must_use]
    pub fn to_log(metrics: Metrics) -> Self {
        Self::new(None, metrics)
    }

    /// Returns a publisher that also writes Events on the objects, reported by `instance` (the pod's name).
    #[must_use]
    pub fn to_cluster(client: Client, instance: &str, metrics: Metrics) -> Self {
        let reporter =
            Reporter { controller: "hostport-firewall".to_owned(), instance: Some(instance.to_owned()) };
        let (events, mut waiting) = mpsc::channel::<Problem>(QUEUE);
        // Ports do not wait for Events.
        tokio::spawn(async move {
            // A recorder counts an Event up instead of writing another if object and reason are the same, whatever the
            // text: so each notice has its own. Losing them costs a repetition.
            let mut recorders: BTreeMap<Problem, Recorder> = BTreeMap::new();
            while let Some(notice) = waiting.recv().await {
                if recorders.len() >= QUEUE {
                    recorders.clear();
                }
                let recorder = || Recorder::new(client.clone(), reporter.clone());
                publish(recorders.entry(notice.clone()).or_insert_with(recorder), &notice).await;
            }
        });
        Self::new(Some(events), metrics)
    }

    fn new(events: Option<mpsc::Sender<Problem>>, metrics: Metrics) -> Self {
        Self(Arc::new(Mutex::new(Said { events, metrics, by_source: BTreeMap::new() })))
    }

    /// Says what is new among all that `source` finds to hold now.
    pub fn say(&self, source: &'static str, now: BTreeSet<Problem>) {
        let mut said = self.lock();
        let known = |notice: &&Problem| said.by_source.values().any(|said| said.contains(*notice));
        let mut new: Vec<&Problem> = now.iter().filter(|notice| !known(notice)).collect();
        // What asks comes before its pods, of which there can be thousands.
        new.sort_by_key(|notice| notice.object.kind == "Pod");
        for notice in &new {
            tracing::warn!(object = %notice.object, reason = notice.reason, "{}: {}", notice.verdict, notice.message);
        }
        said.publish(new.into_iter().cloned());
        said.by_source.insert(source, now);
        let all: BTreeSet<&Problem> = said.by_source.values().flatten().collect();
        said.metrics.problems(&all);
    }

    /// Says what has just happened: each time it does.
    pub fn announce(&self, happened: Vec<Problem>) {
        self.lock().publish(happened.into_iter());
    }

    fn lock(&self) -> MutexGuard<'_, Said> {
        // A panic while it was held has left what was said before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Said {
    fn publish(&self, notices: impl Iterator<Item = Problem>) {
        let Some(events) = &self.events else { return };
        let left_out = notices.filter(|notice| events.try_send(notice.clone()).is_err()).count();
        if left_out > 0 {
            tracing::warn!("{left_out} Events are left out, because {QUEUE} are still to be written");
        }
    }
}

/// An Event that cannot be written is logged and forgotten: it is a courtesy, not a duty.
async fn publish(recorder: &Recorder, notice: &Problem) {
    let object = &notice.object;
    let type_ = match notice.verdict {
        Verdict::Opened | Verdict::Closed => EventType::Normal,
        Verdict::Refused | Verdict::Failed => EventType::Warning,
    };
    let event = Event {
        type_,
        reason: notice.verdict.to_string(),
        note: Some(note(notice)),
        action: "Reconcile".to_owned(),
        secondary: None,
    };
    let reference = ObjectReference {
        api_version: Some(object.api_version.to_string()),
        kind: Some(object.kind.to_string()),
        name: Some(object.name.clone()),
        namespace: Some(object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        uid: Some(object.uid.clone()).filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    };
    if let Err(error) = recorder.publish(&event, &reference).await {
        tracing::warn!(object = %object, "cannot write an Event: {error}");
    }
}

/// The text of an Event.
fn note(notice: &Problem) -> String {
    let mut note = match notice.verdict {
        Verdict::Opened | Verdict::Closed => notice.message.clone(),
        Verdict::Refused | Verdict::Failed => format!("{}: {}", notice.reason, notice.message),
    };
    if note.len() > LONGEST_NOTE {
        note.truncate(note.floor_char_boundary(LONGEST_NOTE - CUT.len()));
        note += CUT;
    }
    note
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::objects::ObjectRef;

    fn notice(kind: &'static str, name: &str, message: &str) -> Problem {
        let (namespace, name, uid) = ("shop".to_owned(), name.to_owned(), String::new());
        let object = ObjectRef { api_version: "v1".into(), kind: kind.into(), namespace, name, uid };
        let (reason, message) = ("PortDenied".to_owned(), message.to_owned());
        Problem { object, verdict: Verdict::Refused, reason, message }
    }

    /// A publisher, and what it hands on to be written.
    fn notices() -> (EventPublisher, impl FnMut() -> Vec<String>) {
        let (events, mut waiting) = mpsc::channel(QUEUE);
        let written = move || {
            let waiting = std::iter::from_fn(|| waiting.try_recv().ok());
            waiting.map(|notice: Problem| notice.object.name).collect()
        };
        (EventPublisher::new(Some(events), Metrics::default()), written)
    }

    #[test]
    fn what_holds_is_said_once_and_again_only_after_it_had_gone() {
        let (notices, mut written) = notices();
        let one = || BTreeSet::from([notice("Pod", "a", "22")]);
        for (source, now, expected) in [
            ("aws", one(), vec!["a"]),
            ("aws", one(), vec![]),
            ("gce", one(), vec![]),
            ("aws", BTreeSet::new(), vec![]),
            ("aws", one(), vec![]),
            ("gce", BTreeSet::new(), vec![]),
            ("aws", BTreeSet::new(), vec![]),
            ("aws", one(), vec!["a"]),
            ("aws", BTreeSet::from([notice("Pod", "a", "another text")]), vec!["a"]),
        ] {
            notices.say(source, now);
            assert_eq!(written(), expected, "{source}");
        }
    }

    #[test]
    fn what_happens_is_said_each_time() {
        let (notices, mut written) = notices();
        for _ in 0..2 {
            notices.announce(vec![notice("Pod", "a", "80")]);
            assert_eq!(written(), ["a"]);
        }
    }

    #[test]
    fn what_asks_comes_before_its_pods_and_what_finds_no_room_is_left_out() {
        let (notices, mut written) = notices();
        let pods = (0..QUEUE).map(|number| notice("Pod", &number.to_string(), "22"));
        notices.say("aws", pods.chain([notice("Service", "web", "22")]).collect());
        let written = written();
        assert_eq!((written.len(), written[0].as_str()), (QUEUE, "web"));
    }

    #[test]
    fn a_text_that_is_too_long_for_an_event_is_cut_between_characters() {
        let long = note(&notice("Pod", "a", &"é".repeat(2000)));
        assert!(long.len() <= LONGEST_NOTE && long.ends_with(CUT), "{}", long.len());
        assert_eq!(note(&notice("Pod", "a", "22")), "PortDenied: 22");
    }
}
