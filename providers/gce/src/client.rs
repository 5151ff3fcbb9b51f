//! Calls Compute Engine: retries, reads all pages, and waits for operations.

mod firewalls;
mod instances;

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use firewall_core::{Fence, Fenced};
use firewall_pacing::{CallFailure, Pacer, Retries};
use google_cloud_auth::credentials::Credentials;
use google_cloud_compute_v1::client::{Firewalls, Instances, Networks};
use google_cloud_compute_v1::model::Operation;
use google_cloud_gax::client_builder::Result as BuildResult;
use google_cloud_gax::error::Error;
use google_cloud_gax::exponential_backoff::{ExponentialBackoff, ExponentialBackoffBuilder};
use google_cloud_gax::polling_error_policy::{PollingErrorPolicy, PollingErrorPolicyExt};
use google_cloud_gax::polling_state::PollingState;
use google_cloud_gax::retry_policy::NeverRetry;
use google_cloud_gax::retry_result::RetryResult;
use google_cloud_lro::Poller;
use tokio::time::Instant;

use crate::api_calls::ApiCall;
use crate::config::GceConfig;
use crate::rate_limit::QuotaGroup;
use crate::wire::error::{CallError, is_transient};

/// Time limit of one attempt: Compute Engine responds within seconds or not at all.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

/// The time after which an operation is no longer waited for. Those on firewall rules take seconds.
const OPERATION_TIMEOUT: Duration = Duration::from_mins(2);

/// The longest time between two polls of an operation.
const MAX_POLL_DELAY: Duration = Duration::from_secs(5);

/// Most items that one page may hold.
const PAGE_SIZE: u32 = 500;

/// Most instances of a zone, or rules, that are listed by name; for more, all are listed. A name has up to 63
/// characters, and a URL should stay under 8,000.
const MAX_NAMES_IN_FILTER: usize = 100;

/// The client of Compute Engine's API.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    firewalls: Firewalls,
    instances: Instances,
    networks: Networks,
    project: String,
    rule_project: String,
    pacer: Arc<Pacer<QuotaGroup>>,
    /// The time for retries that the calls of one step share; if `None`, every call has its own
    retries: Option<Retries>,
    /// Asked before each call that changes something
    pub(crate) fence: Fence,
    /// Returns the time of day, by which Google counts calls
    pub(crate) clock: fn() -> SystemTime,
}

/// Builds one of the library's clients, with the settings that all have in common. The library's own retries
/// are off: they know nothing of the limits that all calls share.
macro_rules! build_client {
    ($service:ty, $config:expr, $credentials:expr) => {{
        let mut builder = <$service>::builder()
            .with_credentials($credentials.clone())
            .with_attempt_timeout(CALL_TIMEOUT)
            .with_retry_policy(NeverRetry)
            .with_polling_backoff_policy(polling_backoff());
        if let Some(endpoint) = &$config.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        builder.build().await
    }};
}

impl Client {
    /// Connects to Google's endpoint, or to the configured one.
    pub(crate) async fn new(config: &GceConfig, credentials: &Credentials) -> BuildResult<Self> {
        Ok(Self::from_clients(
            config,
            build_client!(Firewalls, config, credentials)?,
            build_client!(Instances, config, credentials)?,
            build_client!(Networks, config, credentials)?,
        ))
    }

    /// Returns the client over those of Google's library.
    pub(crate) fn from_clients(
        config: &GceConfig,
        firewalls: Firewalls,
        instances: Instances,
        networks: Networks,
    ) -> Self {
        Self {
            firewalls,
            instances,
            networks,
            project: config.project.clone(),
            rule_project: config.rule_project().to_owned(),
            pacer: Arc::new(Pacer::new(config.api_rate_percent)),
            retries: None,
            fence: Fence::always_open(),
            clock: SystemTime::now,
        }
    }

    /// Returns a client for one step of a plan, whose calls share the time for retries.
    pub(crate) fn for_step(&self) -> Self {
        Self { retries: Some(Retries::default()), ..self.clone() }
    }

    /// Calls Compute Engine: the only place in the crate where that happens. Every mutating call has a
    /// request id, so that a repeated call takes effect once.
    async fn call<T, F: Future<Output = Result<T, Error>>>(
        &self,
        call: ApiCall,
        object: &str,
        request: impl Fn() -> F,
    ) -> Result<T, CallError> {
        self.attempt(call, object, || async {
            request().await.map_err(|error| CallError::new(call, object, &error, (self.clock)()))
        })
        .await
    }

    /// Makes a mutating call, and waits until its operation has ended.
    async fn mutate<P: Poller<Operation, Operation> + Send>(
        &self,
        call: ApiCall,
        object: &str,
        request: impl Fn(PollTransient) -> P,
    ) -> Result<(), CallError> {
        let retries = self.retries();
        self.attempt(call, object, || async {
            let poller = request(PollTransient(retries.clone()));
            let now = || Instant::now().into_std();
            let ended = self.fence.guard(now, poller.until_done()).await;
            let operation = ended
                .map_err(|Fenced| CallError::fenced(call, object))?
                .map_err(|error| CallError::new(call, object, &error, (self.clock)()))?;
            let ended = operation.to_result();
            ended.map_err(|error| CallError::from_operation(call, object, &error, (self.clock)()))?;
            Ok(())
        })
        .await
    }

    async fn attempt<T, F: Future<Output = Result<T, CallError>>>(
        &self,
        call: ApiCall,
        object: &str,
        attempt: impl Fn() -> F,
    ) -> Result<T, CallError> {
        let retries = self.retries();
        // Boxed, because the library's futures are large and lie in many others.
        let answer = Box::pin(self.pacer.call(QuotaGroup::of(call), &retries, attempt)).await;
        answer.map_err(|failure| match failure {
            CallFailure::Failed(error) => error,
            CallFailure::Paused(pause) => CallError::not_sent_for(call, object, pause),
        })
    }

    fn retries(&self) -> Retries {
        self.retries.clone().unwrap_or_default()
    }
}

/// The policy for polls of an operation that fail: the next poll follows while the step's retries last.
#[derive(Clone, Debug)]
struct PollTransient(Retries);

impl PollTransient {
    /// Returns the policy with the limit on the time of the operation itself.
    fn limited(self) -> impl PollingErrorPolicy + 'static {
        self.with_time_limit(OPERATION_TIMEOUT)
    }
}

impl PollingErrorPolicy for PollTransient {
    fn on_error(&self, _: &PollingState, error: Error) -> RetryResult {
        if is_transient(&error) && self.0.allow(MAX_POLL_DELAY).is_some() {
            tracing::warn!(%error, "polling an operation of Compute Engine failed, retrying");
            RetryResult::Continue(error)
        } else {
            RetryResult::Permanent(error)
        }
    }
}

/// Returns delays for an operation, which takes a few seconds on firewall rules.
fn polling_backoff() -> ExponentialBackoff {
    ExponentialBackoffBuilder::new()
        .with_initial_delay(Duration::from_millis(100))
        .with_maximum_delay(MAX_POLL_DELAY)
        .with_scaling(2.0)
        .clamp()
}

/// Returns a new request id. Two calls with the same id are the same request.
fn new_request_id() -> String {
    uuid::Uuid::new_v4().to_string()
}

/// Returns the object; `None` if it does not exist.
fn none_if_not_found<T>(response: Result<T, CallError>) -> Result<Option<T>, CallError> {
    match response {
        Ok(object) => Ok(Some(object)),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error),
    }
}
