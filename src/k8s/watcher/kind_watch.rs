//! The watch of one kind: carries out what its session asks for, and feeds the index.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kube::Client;
use tokio::time::{Instant, sleep};

use super::answer::{Answer, Events};
use super::event::{Content, Event, Page};
use super::kind::Kind;
use super::listing::Listing;
use super::progress::Progress;
use super::session::{End, Request, Session};
use crate::k8s::index::shared_index::SharedIndex;

/// The number of objects of a page, unless that makes it too long.
const PAGE: u32 = 500;

/// Watches one kind forever.
pub(super) async fn watch_kind(client: Client, kind: Kind, index: &SharedIndex, progress: &Progress) {
    let mut session = Session::default();
    let watch = KindWatch { client, kind, index, progress, began: Instant::now() };
    loop {
        let (delay, request) = session.next();
        sleep(delay).await;
        let end = match &request {
            Request::StreamingList => watch.stream(&mut session).await,
            Request::PagedList => watch.list(&mut session).await,
            Request::Watch(version) => watch.resume(&mut session, version).await,
        };
        let name = &watch.kind.watch;
        if let Some(gap) = session.ended(&request, &end, watch.now()) {
            tracing::warn!(watch = %name, "it may be incomplete until it is read again: {gap}");
            watch.index.update(|index| index.mark_incomplete(name.clone(), gap));
        } else {
            tracing::debug!(watch = %name, ?request, ?end, "continued");
        }
    }
}

/// A listing while pages are read, and the version up to which changes have been added to it.
type Merged = Mutex<(Listing, String)>;

struct KindWatch<'a> {
    client: Client,
    kind: Kind,
    index: &'a SharedIndex,
    progress: &'a Progress,
    began: Instant,
}

impl KindWatch<'_> {
    fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Reads a streaming list, then follows the changes.
    async fn stream(&self, session: &mut Session) -> End {
        self.progress.begin(&self.kind.watch);
        match Answer::to(&self.client, self.kind.streaming_list()).await {
            Ok(answer) => self.follow(session, answer.events(), Some(Listing::default())).await,
            Err(end) => end,
        }
    }

    /// Follows the changes since a version.
    async fn resume(&self, session: &mut Session, resource_version: &str) -> End {
        match Answer::to(&self.client, self.kind.changes_since(resource_version)).await {
            Ok(answer) => self.follow(session, answer.events(), None).await,
            Err(end) => end,
        }
    }

    /// Follows events until they end: into the listing while there is one, then into the index.
    async fn follow(&self, session: &mut Session, mut events: Events, mut listing: Option<Listing>) -> End {
        session.opened(self.now());
        loop {
            let batch = match events.next(&self.kind, session.patience(self.now())).await {
                Ok(batch) => batch,
                Err(End::Silent) if self.settles(session) => continue,
                Err(end) => return end,
            };
            if let Err(end) = self.take(session, &mut listing, batch) {
                return end;
            }
            self.settles(session);
            // The other kinds are watched by the same task.
            tokio::task::consume_budget().await;
        }
    }

    /// Takes in events that have come together.
    fn take(
        &self,
        session: &mut Session,
        listing: &mut Option<Listing>,
        batch: Vec<Event>,
    ) -> Result<(), End> {
        if listing.is_some() {
            self.progress.add(&self.kind.watch, batch.len());
        }
        let mut changes = Vec::new();
        for event in batch {
            let version = event.resource_version().map(ToOwned::to_owned);
            match event {
                Event::Refused(refusal) => {
                    self.apply(changes);
                    return Err(End::Refused(refusal));
                }
                Event::Bookmark { ends_list: true, .. } if listing.is_some() => {
                    self.finish(listing.take().unwrap_or_default());
                    session.listed(version.unwrap_or_default(), self.now());
                }
                event => {
                    if let Some(listing) = listing {
                        listing.add_event(event);
                    } else {
                        session.advanced(version.unwrap_or_default());
                        changes.push(event);
                    }
                }
            }
        }
        self.apply(changes);
        Ok(())
    }

    /// Returns true if the kind is complete again, and says so to the index.
    fn settles(&self, session: &mut Session) -> bool {
        let settles = session.settles(self.now());
        if settles {
            tracing::info!(watch = %self.kind.watch, "the watch is resumed");
            self.index.update(|index| index.mark_resumed(&self.kind.watch));
        }
        settles
    }

    /// Reads all pages. What changes meanwhile is watched: pages can be of different versions, where reading
    /// takes longer than the server keeps one.
    async fn list(&self, session: &mut Session) -> End {
        self.progress.begin(&self.kind.watch);
        match self.merge_pages().await {
            Ok((listing, resource_version)) => {
                self.finish(listing);
                session.listed(resource_version, self.now());
                End::Listed
            }
            Err(end) => end,
        }
    }

    async fn merge_pages(&self) -> Result<(Listing, String), End> {
        let mut limit = PAGE;
        let first = self.page(&mut limit, None).await?;
        let merged = Mutex::new((Listing::default(), first.resource_version.clone()));
        let more = self.add_page(&merged, first);
        if let Some(next) = more {
            tokio::select! {
                read = self.add_pages(&merged, next, limit) => read?,
                never = self.add_changes(&merged) => match never {},
            }
        }
        Ok(merged.into_inner().unwrap_or_else(PoisonError::into_inner))
    }

    async fn add_pages(&self, merged: &Merged, first: String, mut limit: u32) -> Result<(), End> {
        let mut next = Some(first);
        while let Some(token) = next {
            let page = match self.page(&mut limit, Some(token)).await {
                // The server offers to go on in a newer version.
                Err(End::Refused(refusal)) if refusal.is_expired() && refusal.next.is_some() => {
                    self.page(&mut limit, refusal.next).await?
                }
                page => page?,
            };
            next = self.add_page(merged, page);
        }
        Ok(())
    }

    /// Adds a page, and returns the token of the next.
    fn add_page(&self, merged: &Merged, page: Page) -> Option<String> {
        self.progress.add(&self.kind.watch, page.items.len());
        let (listing, _) = &mut *lock(merged);
        for received in page.items {
            listing.add_listed(received);
        }
        page.next
    }

    /// Reads one page, with fewer objects than asked for if it would be too long.
    async fn page(&self, limit: &mut u32, token: Option<String>) -> Result<Page, End> {
        loop {
            let answer = Answer::to(&self.client, self.kind.page(*limit, token.clone())).await?;
            match answer.page(&self.kind).await? {
                Some(page) => return Ok(page),
                None if *limit == 1 => return Err(End::Garbled("one object is longer than any page".into())),
                None => *limit = (*limit / 8).max(1),
            }
        }
    }

    /// Adds the changes since the first page, for as long as pages are read. Where they cannot be watched,
    /// the watch that follows the list finds out.
    async fn add_changes(&self, merged: &Merged) -> std::convert::Infallible {
        const RETRY: Duration = Duration::from_secs(5);
        loop {
            let version = lock(merged).1.clone();
            if let Ok(answer) = Answer::to(&self.client, self.kind.changes_since(&version)).await {
                let mut events = answer.events();
                while let Ok(batch) = events.next(&self.kind, Duration::from_secs(75)).await {
                    let (listing, version) = &mut *lock(merged);
                    for event in batch {
                        if let Some(newer) = event.resource_version() {
                            newer.clone_into(version);
                        }
                        listing.add_change(event);
                    }
                }
            }
            sleep(RETRY).await;
        }
    }

    /// Replaces the kind's objects by a complete list.
    fn finish(&self, listing: Listing) {
        let watch = &self.kind.watch;
        let (objects, unreadable) = listing.finish();
        tracing::debug!(%watch, objects = objects.len(), "listed");
        self.index.update(|index| {
            let mut changed = index.reset(watch.clone(), objects);
            for (name, problem) in unreadable {
                changed |= index.mark_unreadable(watch, name, problem);
            }
            changed
        });
    }

    /// Changes the index by events that have come together.
    fn apply(&self, events: Vec<Event>) {
        if events.is_empty() {
            return;
        }
        let watch = &self.kind.watch;
        self.index.update(|index| {
            let mut changed = false;
            for event in events {
                changed |= match event {
                    Event::Exists { received, .. } => match received.content {
                        Content::Relevant(object) => index.apply(watch, *object),
                        Content::Unreadable(problem) => index.mark_unreadable(watch, received.name, *problem),
                        Content::Irrelevant => index.delete(watch, &received.name),
                    },
                    Event::Deleted { name, .. } => index.delete(watch, &name),
                    Event::Bookmark { .. } | Event::Refused(_) => false,
                };
            }
            changed
        });
    }
}

fn lock(merged: &Merged) -> MutexGuard<'_, (Listing, String)> {
    merged.lock().unwrap_or_else(PoisonError::into_inner)
}
