//! Events: reports problems and transitions, as log lines and as Kubernetes Events on the objects, each once.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use firewall_core::{Fence, Fenced};
use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::event_queue::{EventQueue, QueuedEvent};
use super::problem_counts::ProblemCounts;
use super::transitions::Transition;
use crate::k8s::objects::ObjectRef;
use crate::k8s::plain_text::escape_unprintable;
use crate::k8s::problem::Problem;

/// The longest text of an Event, in bytes; the API server refuses a longer one.
const MAX_NOTE_LENGTH: usize = 1024;

/// The end of a text that is too long for an Event.
const TRUNCATED: &str = "… (cut; in full in the controller's log)";

/// Most recorders that are held, each with its Event: 7 KB.
const MAX_RECORDERS: usize = 256;

/// The pause after an Event that could not be written. It doubles with each, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// Reports each problem once, and again only after it was gone meanwhile. Clones share the reported problems.
#[derive(Clone)]
pub(crate) struct EventPublisher(Arc<Mutex<PublishedEvents>>);

struct PublishedEvents {
    /// The Events that wait to be written; none where there is no cluster to write to
    queue: Option<EventQueue>,
    /// Wakes the task that writes them
    queued: Arc<Notify>,
    /// The current problems by the source that found them: two clouds can find the same
    by_source: BTreeMap<&'static str, BTreeSet<Problem>>,
    /// The number of reports so far
    revision: u64,
}

impl EventPublisher {
    /// Returns a publisher that only logs.
    #[must_use]
    pub(crate) fn to_log() -> Self {
        Self::new(None)
    }

    /// Returns a publisher that also writes Events on the objects, while the fence is open, reported by
    /// `instance` (the pod's name).
    #[must_use]
    pub(crate) fn to_cluster(client: Client, instance: &str, fence: Fence) -> Self {
        let reporter =
            Reporter { controller: "hostport-firewall".to_owned(), instance: Some(instance.to_owned()) };
        let publisher = Self::new(Some(EventQueue::default()));
        // Ports do not wait for Events.
        tokio::spawn(write_queued(publisher.clone(), client, reporter, fence));
        publisher
    }

    fn new(queue: Option<EventQueue>) -> Self {
        let queued = Arc::new(Notify::new());
        Self(Arc::new(Mutex::new(PublishedEvents { queue, queued, by_source: BTreeMap::new(), revision: 0 })))
    }

    /// Reports those of a source's current problems that no source has reported yet. Returns the counts of
    /// all current problems of all sources, for the metric.
    #[must_use]
    pub(crate) fn report(&self, source: &'static str, problems: BTreeSet<Problem>) -> ProblemCounts {
        let mut published = self.lock();
        let is_reported =
            |problem: &&Problem| published.by_source.values().any(|reported| reported.contains(*problem));
        let new: Vec<&Problem> = problems.iter().filter(|problem| !is_reported(problem)).collect();
        for problem in &new {
            tracing::warn!(object = %problem.object, reason = problem.reason, "{}: {}", problem.verdict, problem.message);
        }
        published.enqueue(new.into_iter().cloned().map(QueuedEvent::of_problem));
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
    /// Queues Events to be written.
    fn enqueue(&mut self, events: impl Iterator<Item = QueuedEvent>) {
        let Some(queue) = &mut self.queue else { return };
        events.for_each(|event| queue.push(event));
        self.queued.notify_one();
    }

    fn take_next(&mut self) -> Option<QueuedEvent> {
        self.queue.as_mut()?.pop()
    }
}

/// Writes Events one after the other. One that cannot be written waits again, and so do all others for a
/// while; one that the API server refuses is dropped.
async fn write_queued(publisher: EventPublisher, client: Client, reporter: Reporter, fence: Fence) {
    // A recorder increments the count of an Event instead of writing another if object and reason are the
    // same, whatever the text: so each text has its own. Dropping the recorders costs at most a repetition.
    let mut recorders: BTreeMap<(ObjectRef, String), Recorder> = BTreeMap::new();
    let queued = Arc::clone(&publisher.lock().queued);
    let mut pause = FIRST_PAUSE;
    loop {
        let next = publisher.lock().take_next();
        let Some(event) = next else {
            queued.notified().await;
            continue;
        };
        if recorders.len() >= MAX_RECORDERS {
            recorders.clear();
        }
        let recorder = || Recorder::new(client.clone(), reporter.clone());
        let key = (event.object().clone(), event.text());
        let writing = write(recorders.entry(key).or_insert_with(recorder), &event);
        let Ok(outcome) = fence.guard(|| Instant::now().into_std(), writing).await else {
            tracing::warn!("no more Events are written: {Fenced}");
            return;
        };
        let Err(error) = outcome else {
            pause = FIRST_PAUSE;
            continue;
        };
        if is_final(&error) {
            tracing::warn!(object = %event.object(), "cannot write an Event: {error}");
            continue;
        }
        tracing::warn!(object = %event.object(), "cannot write an Event, and tries again: {error}");
        publisher.lock().enqueue(std::iter::once(event));
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Returns true if writing the same Event again would fail again.
fn is_final(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if (400..500).contains(&status.code) && status.code != 429)
}

/// Returns the Event as the API takes it.
fn event_of(queued: &QueuedEvent) -> Event {
    let type_ = match queued {
        QueuedEvent::Problems(_) => EventType::Warning,
        QueuedEvent::Transition(_) => EventType::Normal,
    };
    let mut note = queued.text();
    if let Cow::Owned(escaped) = escape_unprintable(&note) {
        note = escaped;
    }
    if note.len() > MAX_NOTE_LENGTH {
        note.truncate(note.floor_char_boundary(MAX_NOTE_LENGTH - TRUNCATED.len()));
        note += TRUNCATED;
    }
    Event {
        type_,
        reason: queued.reason(),
        note: Some(note),
        action: "Reconcile".to_owned(),
        secondary: None,
    }
}

async fn write(recorder: &Recorder, queued: &QueuedEvent) -> kube::Result<()> {
    let object = queued.object();
    let reference = ObjectReference {
        api_version: Some(object.api_version.to_string()),
        kind: Some(object.kind.to_string()),
        name: Some(object.name.clone()),
        namespace: Some(object.namespace.clone()).filter(|namespace| !namespace.is_empty()),
        uid: Some(object.uid.clone()).filter(|uid| !uid.is_empty()),
        ..ObjectReference::default()
    };
    recorder.publish(&event_of(queued), &reference).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::k8s::objects::builders::object_ref;
    use crate::k8s::problem::Verdict;
    use crate::publish::transitions::{PortChange, Set};

    fn problem(kind: &'static str, name: &str, message: &str) -> Problem {
        let (reason, message) = ("PortDenied".to_owned(), message.to_owned());
        Problem { object: object_ref(kind, "shop", name), verdict: Verdict::Rejected, reason, message }
    }

    fn transition(name: &str) -> Transition {
        Transition {
            object: object_ref("Pod", "shop", name),
            change: PortChange::Opened,
            ports: Set::default(),
            nodes: [("a".to_owned(), ())].into_iter().collect(),
            resources: Set::default(),
            intents: Set::default(),
            facts: Set::default(),
        }
    }

    /// Returns a publisher, and a function that returns the objects of the Events queued since its last call.
    fn publisher() -> (EventPublisher, impl FnMut() -> Vec<String>) {
        let publisher = EventPublisher::new(Some(EventQueue::default()));
        let queue = publisher.clone();
        let take_all = move || {
            let queued = std::iter::from_fn(|| queue.lock().take_next());
            queued.map(|event| event.object().name.clone()).collect()
        };
        (publisher, take_all)
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
            publisher.announce(vec![transition("a")]);
            assert_eq!(written(), ["a"]);
        }
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
        let note = |message: &str| {
            event_of(&QueuedEvent::of_problem(problem("Pod", "a", message))).note.unwrap_or_default()
        };
        let long = note(&"é".repeat(2000));
        assert!(long.len() <= MAX_NOTE_LENGTH && long.ends_with(TRUNCATED), "{}", long.len());
        assert_eq!(note("22"), "PortDenied: 22");
    }

    #[test]
    fn untrusted_text_adds_no_line_to_an_event() {
        let forged = problem("Pod", "a", "no\nNormal  Opened \u{202e}x\u{1b}[2J");
        let note = event_of(&QueuedEvent::of_problem(forged)).note.expect("a note");
        assert_eq!(note, "PortDenied: no\\nNormal  Opened \\u{202e}x\\u{1b}[2J");
    }

    #[test]
    fn transition_is_a_normal_event_and_problem_a_warning() {
        let opened = event_of(&QueuedEvent::Transition(transition("a")));
        assert!(matches!(opened.type_, EventType::Normal), "{}", opened.reason);
        assert_eq!(opened.reason, "Opened");
        let rejected = event_of(&QueuedEvent::of_problem(problem("Pod", "a", "22")));
        assert!(matches!(rejected.type_, EventType::Warning), "{}", rejected.reason);
        assert_eq!(
            (rejected.reason.as_str(), rejected.note.as_deref()),
            ("Rejected", Some("PortDenied: 22"))
        );
    }
}
