//! Events: reports problems and transitions, as log lines and as Kubernetes Events on the objects, each once.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::mpsc;

use super::problem_counts::ProblemCounts;
use super::transitions::Transition;
use crate::k8s::objects::ObjectRef;
use crate::k8s::problem::Problem;

/// The longest text of an Event, in bytes; the API server refuses a longer one.
const MAX_NOTE_LENGTH: usize = 1024;

/// The number of Events that can wait to be written: each costs the API server a write, and a `DaemonSet` can
/// open on thousands of nodes at once. More are dropped; the log has all problems.
const QUEUE: usize = 4096;

/// The end of a text that is too long for an Event.
const TRUNCATED: &str = "… (cut; in full in the controller's log)";

/// Reports each problem once, and again only after it was gone meanwhile. Clones share the reported problems.
#[derive(Clone)]
pub(crate) struct EventPublisher(Arc<Mutex<PublishedEvents>>);

struct PublishedEvents {
    /// The queue of the task that writes Events; none where there is no cluster to write to
    queue: Option<mpsc::Sender<QueuedEvent>>,
    /// The current problems by the source that found them: two clouds can find the same
    by_source: BTreeMap<&'static str, BTreeSet<Problem>>,
    /// The number of reports so far
    revision: u64,
}

/// An Event that waits to be written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum QueuedEvent {
    Problem(Problem),
    Transition(Transition),
}

impl EventPublisher {
    /// Returns a publisher that only logs.
    #[must_use]
    pub(crate) fn to_log() -> Self {
        Self::new(None)
    }

    /// Returns a publisher that also writes Events on the objects, reported by `instance` (the pod's name).
    #[must_use]
    pub(crate) fn to_cluster(client: Client, instance: &str) -> Self {
        let reporter =
            Reporter { controller: "hostport-firewall".to_owned(), instance: Some(instance.to_owned()) };
        let (queue, mut queued) = mpsc::channel::<QueuedEvent>(QUEUE);
        // Ports do not wait for Events.
        tokio::spawn(async move {
            // A recorder increments the count of an Event instead of writing another if object and reason are
            // the same, whatever the text: so each text has its own. Dropping the recorders costs at most a
            // repetition.
            let mut recorders: BTreeMap<QueuedEvent, Recorder> = BTreeMap::new();
            while let Some(event) = queued.recv().await {
                if recorders.len() >= QUEUE {
                    recorders.clear();
                }
                let recorder = || Recorder::new(client.clone(), reporter.clone());
                write(recorders.entry(event.clone()).or_insert_with(recorder), &event).await;
            }
        });
        Self::new(Some(queue))
    }

    fn new(queue: Option<mpsc::Sender<QueuedEvent>>) -> Self {
        Self(Arc::new(Mutex::new(PublishedEvents { queue, by_source: BTreeMap::new(), revision: 0 })))
    }

    /// Reports those of a source's current problems that no source has reported yet. Returns the counts of
    /// all current problems of all sources, for the metric.
    #[must_use]
    pub(crate) fn report(&self, source: &'static str, problems: BTreeSet<Problem>) -> ProblemCounts {
        let mut published = self.lock();
        let is_reported =
            |problem: &&Problem| published.by_source.values().any(|reported| reported.contains(*problem));
        let mut new: Vec<&Problem> = problems.iter().filter(|problem| !is_reported(problem)).collect();
        // Intents come before their pods, of which there can be thousands.
        new.sort_by_key(|problem| problem.object.kind == "Pod");
        for problem in &new {
            tracing::warn!(object = %problem.object, reason = problem.reason, "{}: {}", problem.verdict, problem.message);
        }
        published.enqueue(new.into_iter().cloned().map(QueuedEvent::Problem));
        published.by_source.insert(source, problems);
        published.revision += 1;
        let all: BTreeSet<&Problem> = published.by_source.values().flatten().collect();
        ProblemCounts::new(published.revision, all)
    }

    /// Announces transitions, each time they happen.
    pub(crate) fn announce(&self, transitions: Vec<Transition>) {
        self.lock().enqueue(transitions.into_iter().map(QueuedEvent::Transition));
    }

    fn lock(&self) -> MutexGuard<'_, PublishedEvents> {
        // A panic while it was held has left the problems that were reported before.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl PublishedEvents {
    /// Queues Events to be written; drops those for which the queue is too full.
    fn enqueue(&self, events: impl Iterator<Item = QueuedEvent>) {
        let Some(queue) = &self.queue else { return };
        let dropped = events.filter(|event| queue.try_send(event.clone()).is_err()).count();
        if dropped > 0 {
            tracing::warn!("{dropped} Events are dropped, because {QUEUE} are still to be written");
        }
    }
}

impl QueuedEvent {
    fn object(&self) -> &ObjectRef {
        match self {
            Self::Problem(problem) => &problem.object,
            Self::Transition(transition) => &transition.object,
        }
    }

    fn event(&self) -> Event {
        let (type_, reason) = match self {
            Self::Problem(problem) => (EventType::Warning, problem.verdict.to_string()),
            Self::Transition(transition) => (EventType::Normal, transition.change.to_string()),
        };
        let (note, action) = (Some(self.note()), "Reconcile".to_owned());
        Event { type_, reason, note, action, secondary: None }
    }

    /// Returns the text of the Event.
    fn note(&self) -> String {
        let mut note = match self {
            Self::Problem(problem) => format!("{}: {}", problem.reason, problem.message),
            Self::Transition(transition) => transition.message.clone(),
        };
        if note.len() > MAX_NOTE_LENGTH {
            note.truncate(note.floor_char_boundary(MAX_NOTE_LENGTH - TRUNCATED.len()));
            note += TRUNCATED;
        }
        note
    }
}

/// Writes an Event. One that cannot be written is logged and dropped: nothing depends on it.
async fn write(recorder: &Recorder, queued: &QueuedEvent) {
    let object = queued.object();
    let reference = ObjectReference {
        api_version: Some(object.api_version.to_string()),
        kind: Some(object.kind.to_string()),
        name: Some(object.name.clone()),
        namespace: Some(object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        uid: Some(object.uid.clone()).filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    };
    if let Err(error) = recorder.publish(&queued.event(), &reference).await {
        tracing::warn!(object = %object, "cannot write an Event: {error}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::objects::builders::object_ref;
    use crate::k8s::problem::Verdict;
    use crate::publish::transitions::PortChange;

    fn problem(kind: &'static str, name: &str, message: &str) -> Problem {
        let (reason, message) = ("PortDenied".to_owned(), message.to_owned());
        Problem { object: object_ref(kind, "shop", name), verdict: Verdict::Rejected, reason, message }
    }

    fn transition(name: &str, message: &str) -> Transition {
        Transition {
            object: object_ref("Pod", "shop", name),
            change: PortChange::Opened,
            message: message.to_owned(),
        }
    }

    /// Returns a publisher, and a function that returns the objects of the Events queued since its last call.
    fn publisher() -> (EventPublisher, impl FnMut() -> Vec<String>) {
        let (queue, mut queued) = mpsc::channel(QUEUE);
        let written = move || {
            let queued = std::iter::from_fn(|| queued.try_recv().ok());
            queued.map(|event: QueuedEvent| event.object().name.clone()).collect()
        };
        (EventPublisher::new(Some(queue)), written)
    }

    #[test]
    fn problem_is_reported_once_and_again_only_after_it_was_gone() {
        let (publisher, mut written) = publisher();
        let one = || BTreeSet::from([problem("Pod", "a", "22")]);
        for (source, problems, expected) in [
            ("aws", one(), vec!["a"]),
            ("aws", one(), vec![]),
            ("gce", one(), vec![]),
            ("aws", BTreeSet::new(), vec![]),
            ("aws", one(), vec![]),
            ("gce", BTreeSet::new(), vec![]),
            ("aws", BTreeSet::new(), vec![]),
            ("aws", one(), vec!["a"]),
            ("aws", BTreeSet::from([problem("Pod", "a", "another text")]), vec!["a"]),
        ] {
            _ = publisher.report(source, problems);
            assert_eq!(written(), expected, "{source}");
        }
    }

    #[test]
    fn transition_is_announced_each_time() {
        let (publisher, mut written) = publisher();
        for _ in 0..2 {
            publisher.announce(vec![transition("a", "80")]);
            assert_eq!(written(), ["a"]);
        }
    }

    #[test]
    fn intents_come_before_pods_and_excess_events_are_dropped() {
        let (publisher, mut written) = publisher();
        let pods = (0..QUEUE).map(|number| problem("Pod", &number.to_string(), "22"));
        _ = publisher.report("aws", pods.chain([problem("Service", "web", "22")]).collect());
        let written = written();
        assert_eq!((written.len(), written[0].as_str()), (QUEUE, "web"));
    }

    #[test]
    fn counts_cover_all_sources_and_increase_their_revision() {
        let publisher = EventPublisher::to_log();
        let reports = [("aws", "a"), ("gce", "a"), ("gce", "b")];
        let counts = reports.map(|(source, name)| {
            let counts = publisher.report(source, BTreeSet::from([problem("Pod", name, "22")]));
            (counts.revision, counts.objects.values().copied().collect::<Vec<_>>())
        });
        assert_eq!(counts, [(1, vec![1]), (2, vec![1]), (3, vec![2])]);
    }

    #[test]
    fn long_text_is_truncated_between_characters() {
        let note = |message: &str| QueuedEvent::Problem(problem("Pod", "a", message)).note();
        let long = note(&"é".repeat(2000));
        assert!(long.len() <= MAX_NOTE_LENGTH && long.ends_with(TRUNCATED), "{}", long.len());
        assert_eq!(note("22"), "PortDenied: 22");
    }

    #[test]
    fn transition_is_a_normal_event_and_problem_a_warning() {
        let opened = QueuedEvent::Transition(transition("a", "tcp/80 open")).event();
        assert!(matches!(opened.type_, EventType::Normal), "{}", opened.reason);
        assert_eq!((opened.reason.as_str(), opened.note.as_deref()), ("Opened", Some("tcp/80 open")));
        let rejected = QueuedEvent::Problem(problem("Pod", "a", "22")).event();
        assert!(matches!(rejected.type_, EventType::Warning), "{}", rejected.reason);
        assert_eq!(
            (rejected.reason.as_str(), rejected.note.as_deref()),
            ("Rejected", Some("PortDenied: 22"))
        );
    }
}
