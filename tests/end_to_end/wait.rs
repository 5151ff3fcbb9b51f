//! Waiting for what takes its time, with a limit.

use std::time::{Duration, Instant};

/// The longest time that anything may take, on a slow machine that does other things too.
const TIMEOUT: Duration = Duration::from_mins(2);

/// Polls until `look` returns a value, and returns it. If none comes, the case fails with the last error.
pub(crate) async fn wait_until<T>(what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> T {
    poll_every(Duration::from_millis(250), what, look).await
}

/// Does the same as [`wait_until`], with this pause between two looks.
pub(crate) async fn poll_every<T>(
    pause: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Result<T, String>,
) -> T {
    let end = Instant::now() + TIMEOUT;
    loop {
        match look().await {
            Ok(answer) => return answer,
            Err(found) => assert!(Instant::now() < end, "waited in vain: {what}\nfound: {found}"),
        }
        tokio::time::sleep(pause).await;
    }
}
