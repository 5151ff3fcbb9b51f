//! Calls to EC2: paced, retried, paged and in batches. What they mean is decided elsewhere.

mod groups;
mod interfaces;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use tokio::time::Instant;

use crate::action::Ec2Action;
use crate::pace::Pace;
use crate::wire::error::{CallError, Cause};

/// EC2 takes up to 200 values per filter and request; the rest is margin for filters that count double.
const FILTER_VALUES: usize = 150;

/// The most that one page may hold: 5 to 1000 are allowed.
const PAGE: i32 = 1000;

/// Pages to read before giving up: a million objects.
const PAGES: usize = 1000;

/// How long to wait for EC2 to agree with itself. Source: "Eventual consistency in the Amazon EC2 API"
/// names no time; tools that create groups allow about half a minute.
pub(crate) const PROPAGATION: Duration = Duration::from_secs(30);

/// How long to wait in a call for the last use of a group to end, which is a moment after the call that ended it. A pass
/// lasts as long as its slowest step: what takes longer is tried again by a later one.
const DETACHING: Duration = Duration::from_secs(5);

/// How often a call is repeated after a failure of EC2 or of the network, and until when: a pass lasts as long as its slowest
/// step, so what goes on failing is left to a later one. Throttling is no failure of the call's own, and is waited for.
const REPETITIONS: u32 = 3;
const PATIENCE: Duration = Duration::from_secs(15);

/// The connection to EC2 in one account and Region.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    ec2: aws_sdk_ec2::Client,
    pace: Arc<Pace>,
    /// How many groups to ask for at once when looking for interfaces
    groups_per_filter: usize,
}

impl Client {
    /// Requirements over a client of the SDK, less its own retries: they would multiply with the ones here.
    pub(crate) fn new(ec2: &aws_sdk_ec2::Client, one_group_per_filter: bool) -> Self {
        let config = ec2.config().to_builder().retry_config(RetryConfig::disabled()).build();
        let groups_per_filter = if one_group_per_filter { 1 } else { FILTER_VALUES };
        Self { ec2: aws_sdk_ec2::Client::from_conf(config), pace: Arc::new(Pace::new()), groups_per_filter }
    }

    /// Calls EC2: the only place in the crate where that happens.
    ///
    /// Throttling and failures of the network are retried here, with growing delays: throttling for minutes, because all
    /// calls of the action wait for the same bucket; failures a few times. A call whose answer was lost may have taken
    /// effect: callers must take "already there" and "already gone" for success.
    async fn call<T, E, F>(
        &self,
        action: Ec2Action,
        object: &str,
        request: impl Fn() -> F + Send + Sync,
    ) -> Result<T, CallError>
    where
        T: Send,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>> + Send,
    {
        let attempt = || async {
            self.pace.wait(action).await;
            request().await.map_err(|error| CallError::new(action, object, &error))
        };
        let (start, mut failures) = (Instant::now(), 0);
        attempt
            .retry(passing_trouble())
            .when(CallError::is_passing)
            .adjust(|error, delay| {
                if error.is_throttled() {
                    return delay;
                }
                failures += 1;
                delay.filter(|_| failures <= REPETITIONS && start.elapsed() < PATIENCE)
            })
            .notify(|error, delay| tracing::warn!(%error, ?delay, "EC2 call failed for now, trying again"))
            .await
    }
}

/// Half a second, doubling to half a minute, ten times, each with up to as much again at random: three to six
/// minutes in all.
fn passing_trouble() -> impl BackoffBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_factor(2.0)
        .with_max_delay(Duration::from_secs(30))
        .with_max_times(10)
        .with_jitter()
}

/// Half a second, growing to five, until [`PROPAGATION`] has passed.
pub(crate) fn settling() -> ExponentialBuilder {
    waiting(PROPAGATION)
}

/// The same, until [`DETACHING`] has passed.
pub(crate) fn detaching() -> ExponentialBuilder {
    waiting(DETACHING)
}

fn waiting(longest: Duration) -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_factor(1.5)
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_total_delay(Some(longest))
}

/// One page, and the token of the next.
type Page<T> = (Vec<T>, Option<String>);

/// All pages, or none.
async fn paged<T, F>(action: Ec2Action, fetch: impl Fn(Option<String>) -> F) -> Result<Vec<T>, CallError>
where
    F: Future<Output = Result<Page<T>, CallError>>,
{
    let (mut all, mut token) = (Vec::new(), None);
    for _ in 0..PAGES {
        let (page, next) = fetch(token).await?;
        all.extend(page);
        token = next.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(all);
        }
    }
    let message = format!("more than {PAGES} pages");
    Err(CallError { action, object: "a list".to_owned(), cause: Cause::Server, message })
}
