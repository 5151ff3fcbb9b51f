//! Calls to EC2: rate-limited, retried, paged and in batches. What a result means is decided by the caller.

mod groups;
mod instances;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use aws_sdk_ec2::config::retry::RetryConfig;
use aws_sdk_ec2::error::{ProvideErrorMetadata, SdkError};
use backon::ExponentialBuilder;
use firewall_core::{Fence, Fenced};
use firewall_pacing::{CallFailure, Pacer, Retries};
use futures::{StreamExt, TryStreamExt, stream};
use tokio::time::Instant;

use crate::api_calls::ApiCall;
use crate::config::AwsConfig;
use crate::rate_limit::Ec2Limit;
use crate::wire::error::{CallError, Failure};

/// The number of filter values in one request. EC2 takes up to 200 per request; the rest is margin for
/// filters that count double.
const MAX_FILTER_VALUES: usize = 150;

/// The most objects that one page may hold: 5 to 1000 are allowed.
const PAGE_SIZE: i32 = 1000;

/// The pages to read before giving up: a million objects.
const MAX_PAGES: usize = 1000;

/// The time to wait in a call for the last use of a group to end, which is a moment after the call that ended
/// it. A later pass tries again where this is not enough.
const DETACH_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection to EC2 in one account and Region.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    ec2: aws_sdk_ec2::Client,
    pacer: Arc<Pacer<Ec2Limit>>,
    /// The number of groups to ask for at once when looking for interfaces
    groups_per_filter: usize,
    /// The time for retries that the calls of one step share; if `None`, every call has its own
    retries: Option<Retries>,
    /// Asked before each call that changes something
    pub(crate) fence: Fence,
}

impl Client {
    /// Returns a client over the SDK's, without the SDK's own retries: they would multiply with the ones
    /// here.
    pub(crate) fn new(ec2: &aws_sdk_ec2::Client, config: &AwsConfig) -> Self {
        let sdk = ec2.config().to_builder().retry_config(RetryConfig::disabled()).build();
        let groups_per_filter = if config.one_group_per_filter { 1 } else { MAX_FILTER_VALUES };
        let ec2 = aws_sdk_ec2::Client::from_conf(sdk);
        let pacer = Arc::new(Pacer::new(config.api_rate_percent));
        Self { ec2, pacer, groups_per_filter, retries: None, fence: Fence::always_open() }
    }

    /// Returns a client for one step of a plan, whose calls share the time for retries: whatever fails, and
    /// whatever is waited for.
    pub(crate) fn for_step(&self) -> Self {
        Self { retries: Some(Retries::default()), ..self.clone() }
    }

    /// Returns the time that a call takes `times` times, if its bucket is full now.
    pub(crate) fn expected_duration(&self, call: ApiCall, times: u32) -> Duration {
        self.pacer.expected_duration(Ec2Limit::of(call), times)
    }

    /// Calls EC2 within the limit of calls that filter or page, or that change something.
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
        self.call_within(Ec2Limit::of(call), object, request).await
    }

    /// Calls EC2: the only place in the crate where that happens.
    ///
    /// A call whose answer was lost, and that is therefore repeated, may have taken effect: callers must take
    /// "exists already" and "does not exist" for success.
    async fn call_within<T, E, F>(
        &self,
        limit: Ec2Limit,
        object: &str,
        request: impl Fn() -> F + Send + Sync,
    ) -> Result<T, CallError>
    where
        T: Send,
        E: ProvideErrorMetadata + std::error::Error + Send + Sync + 'static,
        F: Future<Output = Result<T, SdkError<E>>> + Send,
    {
        let call = limit.call;
        let attempt = || async {
            let answer = if call.is_mutating() {
                let now = || Instant::now().into_std();
                self.fence.guard(now, request()).await.map_err(|Fenced| CallError::fenced(call, object))?
            } else {
                request().await
            };
            answer.map_err(|error| CallError::new(call, object, &error))
        };
        let retries = self.retries();
        // Boxed, because the SDK's futures are large and lie in many others.
        let answer = Box::pin(self.pacer.call(limit, &retries, attempt)).await;
        answer.map_err(|failure| match failure {
            CallFailure::Failed(error) => error,
            CallFailure::Paused(pause) => CallError::not_sent_for(call, object, pause),
        })
    }

    /// Returns the time in which calls may be tried again.
    pub(crate) fn retries(&self) -> Retries {
        self.retries.clone().unwrap_or_default()
    }
}

/// Returns the delays of waiting until EC2 knows a new group, for as long as the retries last. Source:
/// "Eventual consistency in the Amazon EC2 API" names no time; mostly it takes a second or two.
pub(crate) fn propagation_backoff() -> ExponentialBuilder {
    ExponentialBuilder::new()
        .with_min_delay(Duration::from_millis(500))
        .with_factor(1.5)
        .with_max_delay(Duration::from_secs(5))
        .without_max_times()
}

/// Returns the delays of waiting until a group is not used any more: [`DETACH_TIMEOUT`] in all.
pub(crate) fn detach_backoff() -> ExponentialBuilder {
    propagation_backoff().with_total_delay(Some(DETACH_TIMEOUT))
}

/// The batches to read at once. Their rate is the pacer's matter; this bounds the answers in memory.
const BATCHES_AT_ONCE: usize = 8;

/// Returns the objects of all batches of `values`, or an error.
async fn fetch_all_batches<'v, T, F>(
    values: &'v [String],
    size: usize,
    fetch_batch: impl Fn(&'v [String]) -> F,
) -> Result<Vec<T>, CallError>
where
    F: Future<Output = Result<Vec<T>, CallError>>,
{
    let batches: Vec<F> = values.chunks(size).map(fetch_batch).collect();
    stream::iter(batches).buffered(BATCHES_AT_ONCE).try_concat().await
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
    let failure = Failure::ServerError;
    Err(CallError { call, object: "a list".to_owned(), failure, message, retry_after: None })
}
