//! The session of one kind: what is asked for next, when, and since when the kind counts as incomplete.
//!
//! A streaming list becomes the watch. Where the API server has none, pages are listed, then watched. A watch
//! that ends is resumed from the last version, and listed anew only if that is no longer kept. Times are
//! since the session began.

use std::time::Duration;

use super::event::Refusal;

/// The longest wait between two attempts.
const MAX_DELAY: Duration = Duration::from_secs(30);

/// The wait after the first failure, and before a watch that has lasted for less than [`STEADY`] is resumed.
const MIN_DELAY: Duration = Duration::from_millis(500);

/// The time after which a watch counts as one that works.
const STEADY: Duration = Duration::from_secs(5);

/// The time within which a broken watch is resumed without being a gap in what is known.
const GRACE: Duration = Duration::from_secs(10);

/// The time after which everything is listed again where only lists are answered.
const RELIST: Duration = Duration::from_mins(2);

/// The time without an event or a bookmark after which a watch counts as dead. The API server sends a
/// bookmark every minute.
const SILENCE: Duration = Duration::from_secs(75);

/// The time without the next part of a list after which it counts as dead.
const LIST_SILENCE: Duration = Duration::from_secs(30);

/// The time for which a resumed watch must run before the kind counts as complete again: the server sends at
/// once what has changed meanwhile.
const SETTLING: Duration = Duration::from_secs(2);

/// A request to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Request {
    /// All objects as events, then all changes
    StreamingList,
    /// All objects in pages
    PagedList,
    /// All changes since a version
    Watch(String),
}

/// The end of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// All pages have been read
    Listed,
    /// There was no answer, or it broke off
    Broken(String),
    /// Nothing came for too long, or nothing but answers that ask to come again
    Silent,
    /// The server answered with an error
    Refused(Refusal),
    /// The answer was not understood
    Garbled(String),
}

/// The state of one kind's watch.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// True once the server has answered that it has no streaming lists
    lacks_streaming: bool,
    /// True if pages are to be tried next, though streaming lists may work later
    lists_pages: bool,
    /// The version that a watch can go on from; none before everything has been listed
    resource_version: Option<String>,
    /// The number of attempts in a row that came to nothing
    failures: u32,
    delay: Duration,
    /// The time from which the present watch has run
    opened_at: Option<Duration>,
    /// The time from which it may be that changes have not come
    broken_since: Option<Duration>,
    /// True if the kind counts as incomplete because of that
    is_gap: bool,
}

impl Session {
    /// Returns the next request, and how long to wait before it.
    pub(super) fn next(&self) -> (Duration, Request) {
        let request = match &self.resource_version {
            Some(version) => Request::Watch(version.clone()),
            None if self.lacks_streaming || self.lists_pages => Request::PagedList,
            None => Request::StreamingList,
        };
        (self.delay, request)
    }

    /// Records that the server has begun to answer a watch.
    pub(super) fn opened(&mut self, now: Duration) {
        self.opened_at = Some(now);
    }

    /// Records that everything has been listed. That alone does not show that watching works.
    pub(super) fn listed(&mut self, resource_version: String, now: Duration) {
        self.resource_version = Some(resource_version);
        self.opened_at = self.opened_at.map(|_| now);
        (self.broken_since, self.is_gap, self.lists_pages) = (None, false, false);
    }

    /// Records an event or a bookmark that has come after the list.
    pub(super) fn advanced(&mut self, resource_version: String) {
        if !resource_version.is_empty() {
            self.resource_version = Some(resource_version);
        }
        self.failures = 0;
        if !self.is_gap {
            self.broken_since = None;
        }
    }

    /// Returns how long to wait for the next part of an answer.
    pub(super) fn patience(&self, now: Duration) -> Duration {
        if self.resource_version.is_none() {
            LIST_SILENCE
        } else if self.is_gap {
            self.settles_at().saturating_sub(now)
        } else {
            SILENCE
        }
    }

    /// Returns true once if the kind, which counted as incomplete, is complete again because its watch has
    /// been resumed.
    pub(super) fn settles(&mut self, now: Duration) -> bool {
        let settles = self.is_gap && self.resource_version.is_some() && now >= self.settles_at();
        if settles {
            (self.is_gap, self.broken_since) = (false, None);
        }
        settles
    }

    /// Records the end of a request. Returns the reason for which the kind is incomplete from now on.
    pub(super) fn ended(&mut self, request: &Request, end: &End, now: Duration) -> Option<String> {
        let lasted = self.opened_at.take().map_or(Duration::ZERO, |opened_at| now.saturating_sub(opened_at));
        let is_steady = self.resource_version.is_some() && lasted >= STEADY;
        match end {
            // The next attempt shows at once whether watching works.
            End::Listed => {
                self.delay = Duration::ZERO;
                return None;
            }
            // It ended as every watch does in the end, and is resumed.
            End::Broken(_) | End::Silent if is_steady => {
                (self.failures, self.delay, self.broken_since) = (0, Duration::ZERO, Some(now));
                return None;
            }
            _ if *request == Request::StreamingList && self.falls_back(end) => return None,
            _ => {}
        }
        self.failures = self.failures.saturating_add(1);
        self.delay = (MIN_DELAY * 2_u32.pow((self.failures - 1).min(10))).min(MAX_DELAY);
        let broken_for = now.saturating_sub(*self.broken_since.get_or_insert(now));
        self.forget_version(request, end, broken_for);
        let may_pass = match end {
            End::Refused(refusal) => refusal.code == 429 || refusal.code >= 500,
            _ => true,
        };
        let is_gap = self.resource_version.is_none() || !may_pass || broken_for >= GRACE;
        self.is_gap |= is_gap;
        is_gap.then(|| cause(end))
    }

    /// Decides whether pages are listed at once because a streaming list came to nothing.
    fn falls_back(&mut self, end: &End) -> bool {
        if self.resource_version.is_some() {
            return false;
        }
        match end {
            // It is not known there, or not allowed in this form.
            End::Refused(Refusal { code: 400 | 405 | 406 | 415 | 422, .. }) => self.lacks_streaming = true,
            // One that is busy must not be made to work more.
            End::Refused(Refusal { code: 429, .. }) | End::Listed | End::Broken(_) => return false,
            End::Refused(_) | End::Garbled(_) | End::Silent => self.lists_pages = true,
        }
        self.delay = Duration::ZERO;
        true
    }

    /// Gives up the version where it cannot be resumed from, or where what was listed has grown old.
    fn forget_version(&mut self, request: &Request, end: &End, broken_for: Duration) {
        let is_lost = match end {
            End::Refused(refusal) => refusal.is_expired() || broken_for >= RELIST,
            End::Garbled(_) => true,
            End::Listed | End::Broken(_) | End::Silent => false,
        };
        if is_lost {
            self.resource_version = None;
        }
        if *request == Request::PagedList {
            self.lists_pages = false;
        }
    }

    fn settles_at(&self) -> Duration {
        self.opened_at.unwrap_or_default() + SETTLING
    }
}

fn cause(end: &End) -> String {
    match end {
        End::Listed => String::new(),
        End::Broken(cause) | End::Garbled(cause) => cause.clone(),
        End::Silent => "the API server sent nothing for too long, or nothing but 429 and 503".to_owned(),
        End::Refused(refusal) => refusal.to_string(),
    }
}

#[cfg(test)]
mod tests;
