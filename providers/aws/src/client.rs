//! Calls to EC2: rate-limited, retried, paged and in batches. What a result means is decided by the caller.

mod groups;
mod instances;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use backon::{BackoffBuilder, ExponentialBuilder, Retryable};
use firewall_core::{Fence, Fenced};
use tokio::time::Instant;

use crate::api_calls::ApiCall;
use crate::rate_limit::RateLimits;
use crate::wire::error::{CallError, Failure};

/// The number of filter values in one request. EC2 takes up to 200 per request; the rest is margin for
/// filters that count double.
const MAX_FILTER_VALUES: usize = 150;

/// The most objects that one page may hold: 5 to 1000 are allowed.
const PAGE_SIZE: i32 = 1000;

/// The pages to read before giving up: a million objects.
const MAX_PAGES: usize = 1000;

/// The time to wait until EC2 knows a new group everywhere. Source: "Eventual consistency in the Amazon EC2
/// API" names no time; tools that create groups allow about half a minute.
const PROPAGATION_TIMEOUT: Duration = Duration::from_secs(30);

/// The time to wait in a call for the last use of a group to end, which is a moment after the call that ended
/// it. A pass lasts as long as its slowest step: a later one tries again where this is not enough.
const DETACH_TIMEOUT: Duration = Duration::from_secs(5);

/// The retries of a call after a failure of EC2 or of the network. A pass lasts as long as its slowest step,
/// so a call that keeps failing is left to a later one. Throttling is no failure of the call's own, and is
/// waited for.
const MAX_RETRIES: u32 = 3;

/// The time after which a failed call is not retried, whatever the number of retries.
const RETRY_TIMEOUT: Duration = Duration::from_secs(15);

/// The connection to EC2 in one account and Region.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    ec2: aws_sdk_ec2::Client,
    rate_limits: Arc<RateLimits>,
    /// The number of groups to ask for at once when looking for interfaces
    groups_per_filter: usize,
    /// Asked before each call that changes something
    pub(crate) fence: Fence,
}

impl Client {
    /// Returns a client over the SDK's, without the SDK's own retries: they would multiply with the ones
    /// here.
    pub(crate) fn new(ec2: &aws_sdk_ec2::Client, one_group_per_filter: bool) -> Self {
        let config = ec2.config().to_builder().retry_config(RetryConfig::disabled()).build();
        let groups_per_filter = if one_group_per_filter { 1 } else { MAX_FILTER_VALUES };
        let ec2 = aws_sdk_ec2::Client::from_conf(config);
        let fence = Fence::always_open();
        Self { ec2, rate_limits: Arc::new(RateLimits::new()), groups_per_filter, fence }
    }

    /// Calls EC2: the only place in the crate where that happens.
    ///
    /// Throttling and failures of the network are retried here, with growing delays: throttling for minutes,
    /// because all calls of the action wait for the same bucket; failures a few times. A call whose answer
    /// was lost may have taken effect: callers must take "exists already" and "does not exist" for success.
    async fn call<T, E, F>(
        &self,
        call: ApiCall,
        object: &str,
        request: impl Fn() -> F + Send + Sync,
    ) -> Result<T, CallError>
    where
        T: Send,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>> + Send,
    {
        let attempt = || async {
            self.rate_limits.wait(call).await;
            // The SDK's futures are large, and nest deeply.
            let request = Box::pin(request());
            let answer = if call.is_mutating() {
                let now = || Instant::now().into_std();
                self.fence.guard(now, request).await.map_err(|Fenced| CallError::fenced(call, object))?
            } else {
                request.await
            };
            answer.map_err(|error| CallError::new(call, object, &error))
        };
        let (start, mut failures) = (Instant::now(), 0);
        attempt
            .retry(transient_backoff())
            .when(CallError::is_transient)
            .adjust(|error, delay| {
                if error.is_throttled() {
                    return delay;
                }
                failures += 1;
                delay.filter(|_| failures <= MAX_RETRIES && start.elapsed() < RETRY_TIMEOUT)
            })
            .notify(|error, delay| tracing::warn!(%error, ?delay, "EC2 call failed, retrying"))
            .await
    }
}

/// Returns the delays after throttling and failures: half a second, doubling to half a minute, ten times,
/// each with up to as much again at random; three to six minutes in all.
fn transient_backoff() -> impl BackoffBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_factor(2.0)
        .with_max_delay(Duration::from_secs(30))
        .with_max_times(10)
        .with_jitter()
}

/// Returns the delays of waiting until EC2 knows a new group: [`PROPAGATION_TIMEOUT`] in all.
pub(crate) fn propagation_backoff() -> ExponentialBuilder {
    polling_backoff(PROPAGATION_TIMEOUT)
}

/// Returns the delays of waiting until a group is not used any more: [`DETACH_TIMEOUT`] in all.
pub(crate) fn detach_backoff() -> ExponentialBuilder {
    polling_backoff(DETACH_TIMEOUT)
}

/// Returns delays of half a second, growing to five, until `timeout` has passed.
fn polling_backoff(timeout: Duration) -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_factor(1.5)
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
        .with_total_delay(Some(timeout))
}

/// One page, and the token of the next.
type Page<T> = (Vec<T>, Option<String>);

/// Returns the objects of all pages, or an error: never some pages only.
async fn fetch_all_pages<T, F>(
    call: ApiCall,
    fetch_page: impl Fn(Option<String>) -> F,
) -> Result<Vec<T>, CallError>
where
    F: Future<Output = Result<Page<T>, CallError>>,
{
    let (mut all, mut token) = (Vec::new(), None);
    for _ in 0..MAX_PAGES {
        let (page, next) = fetch_page(token).await?;
        all.extend(page);
        token = next.filter(|token| !token.is_empty());
        if token.is_none() {
            return Ok(all);
        }
    }
    let message = format!("more than {MAX_PAGES} pages");
    Err(CallError { call, object: "a list".to_owned(), failure: Failure::ServerError, message })
}
