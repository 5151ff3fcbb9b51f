//! Shrinks a history that breaks a promise: events are removed while it still does (delta debugging).

use crate::checker::Promise;
use crate::history::History;

/// The most runs that shrinking may take.
const RUNS: usize = 300;

/// Returns the shortest history found that still breaks the promise.
pub(crate) fn shrink(
    history: &History,
    promise: Promise,
    breaks: impl Fn(&History) -> Vec<Promise>,
) -> History {
    let mut shortest = history.clone();
    let mut runs = 0;
    let mut size = shortest.events.len().div_ceil(2);
    while size > 0 && runs < RUNS {
        let mut from = 0;
        let mut has_shrunk = false;
        while from < shortest.events.len() && runs < RUNS {
            let mut candidate = shortest.clone();
            candidate.events.drain(from..(from + size).min(candidate.events.len()));
            runs += 1;
            if breaks(&candidate).contains(&promise) {
                shortest = candidate;
                has_shrunk = true;
            } else {
                from += size;
            }
        }
        if size == 1 && !has_shrunk {
            break;
        }
        size = if size == 1 { 1 } else { size / 2 };
    }
    shortest
}
