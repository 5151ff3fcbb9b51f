//! WithheldReason for what comes about in its own time, but not for ever.

use std::time::{Duration, Instant};

/// How long anything may take, on a slow machine that does other things too.
const PATIENCE: Duration = Duration::from_mins(2);

/// Looks again and again until there is an answer; if none comes, the case fails with what was found last.
pub(crate) async fn until<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    looking_every(Duration::from_millis(250), what, look).await
}

/// The same, with another time between two looks.
pub(crate) async fn looking_every<T>(
    pause: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(answer) => return answer,
            Err(found) => assert!(Instant::now() < end, "waited in vain: {what}\nfound: {found}"),
        }
        tokio::time::sleep(pause).await;
    }
}
