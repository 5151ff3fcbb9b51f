//! EC2: the real provider and the real SDK, whose requests the strict EC2 of the provider's own tests answers,
//! in process.

mod limits;
mod resources;

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use aws_smithy_runtime_api::client::http::{HttpConnector, HttpConnectorFuture, SharedHttpConnector};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use firewall_aws::{Aws, AwsConfig, Mode, SharedTargets};
use firewall_core::{ErrorKind, Fence, ProviderError};
use hostport_firewall::reconcile::cloud::CloudReconciler;
use hostport_firewall::reconcile::pass::Options;
use hostport_firewall::reconcile::reconciler::Reconciler;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};

use super::faults::{Call, Fate, Faults};
use super::{ModelCloud, SharedObserver, Size, Tampering};
use crate::checker::Cause;
use crate::fake_ec2::wire::{failure, success};
use crate::fake_ec2::{Failure, FakeEc2, Group, Params, VPC};
use crate::mutants::Mutant;
use crate::process::Process;
pub(crate) use limits::{Limits, Rate};

/// The tag that names what a group is for.
const GROUP_TAG: &str = "hostport-firewall.dev/group";

/// The time that a read takes.
const READ: Duration = Duration::from_millis(30);

/// The account. Clones share one state.
#[derive(Clone)]
pub(crate) struct Ec2 {
    account: FakeEc2,
    /// Rules go to groups that are there already, one for each machine
    is_shared: bool,
    machines: usize,
    /// The limits on calls, if there are any
    limits: Option<Arc<Mutex<Limits>>>,
    faults: Arc<Mutex<Faults>>,
    observer: Arc<OnceLock<SharedObserver>>,
}

impl Ec2 {
    /// Returns an account with all machines, each in the group of the cluster's nodes.
    pub(crate) fn new(seed: u64, is_shared: bool, size: Size) -> Self {
        let machines = size.machines;
        let account = FakeEc2::new(machines);
        account.state().has_full_pages = size.has_full_pages;
        for machine in (0..machines).filter(|_| is_shared) {
            let mut state = account.state();
            state.groups.insert(shared_group(machine), Group::new(VPC, &format!("node-{machine}"), &[]));
            state.groups_of(&instance(machine)).push(shared_group(machine));
        }
        let (faults, observer) = (Arc::new(Mutex::new(Faults::new(seed))), Arc::default());
        Self { account, is_shared, machines, limits: None, faults, observer }
    }

    /// Returns the account with EC2's limits on calls.
    pub(crate) fn with_limits(mut self, limits: &Arc<Mutex<Limits>>) -> Self {
        self.limits = Some(Arc::clone(limits));
        self
    }

    fn announce(&self, cause: Cause) {
        if let Some(observer) = self.observer.get() {
            observer.changed(&|| self.view(), cause);
        }
    }
}

/// Returns the id of the group that a machine has for the rules of others.
fn shared_group(machine: usize) -> String {
    format!("sg-a{machine}")
}

fn instance(machine: usize) -> String {
    format!("i-{:02x}", machine + 1)
}

impl ModelCloud for Ec2 {
    fn observe_with(&self, observer: SharedObserver) {
        _ = self.observer.set(observer);
    }

    fn reconciler(
        &self,
        process: &Process,
        cluster: &str,
        options: Options,
        fence: &Fence,
        mutant: Option<Mutant>,
    ) -> Box<dyn CloudReconciler> {
        let connector = Connector { cloud: self.clone(), process: process.clone(), mutant };
        let client = FakeEc2::client_over(SharedHttpConnector::new(connector));
        let mut config = AwsConfig::new(cluster);
        if self.is_shared {
            config.mode = Mode::Shared(SharedTargets {
                ids: (0..self.machines).map(shared_group).collect(),
                tag: None,
            });
        }
        let aws = Aws::from_client(&client, config).expect("a valid configuration");
        Box::new(Reconciler::new(aws.with_fence(fence.clone()), options))
    }

    fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_stale_reads(&self, reads: u32) {
        self.account.state().lag = reads;
        self.account.state().detach_lag = reads;
    }

    fn tamper(&self, machine: usize, how: Tampering) {
        self.tamper_with(&instance(machine), how);
        self.announce(Cause::Other);
    }

    fn replace_machine(&self, _: usize) -> bool {
        false
    }

    fn resources(&self) -> Vec<String> {
        self.describe_resources()
    }

    fn provider_id(&self, machine: usize) -> String {
        format!("aws:///eu-central-1a/{}", instance(machine))
    }
}

/// The connection of one process.
#[derive(Clone)]
struct Connector {
    cloud: Ec2,
    process: Process,
    mutant: Option<Mutant>,
}

impl std::fmt::Debug for Connector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connector")
    }
}

impl HttpConnector for Connector {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        let connector = self.clone();
        HttpConnectorFuture::new(async move { connector.send(request).await })
    }
}

impl Connector {
    async fn send(self, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        self.process.pause_if_dead().await;
        let params = Params::of_body(request.body().bytes().unwrap_or_default());
        let is_read = params.get("Action").starts_with("Describe");
        if let Some(observer) = self.cloud.observer.get() {
            observer.called(params.get("Action"), !is_read);
        }
        let response = if let Some(refused) = self.cloud.throttle(&params) {
            Ok(failure(&refused))
        } else if is_read {
            let kill = self.cloud.faults().next_kill(true);
            self.kill_if(kill == Some(true)).await;
            sleep(READ).await;
            let answer = self.read(&params, &request);
            self.kill_if(kill == Some(false)).await;
            answer
        } else {
            self.change(&params, request).await
        };
        self.process.pause_if_dead().await;
        response
    }

    async fn kill_if(&self, is_now: bool) {
        if is_now {
            self.process.kill();
        }
        self.process.pause_if_dead().await;
    }

    fn read(&self, params: &Params, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let mut faults = self.cloud.faults();
        if faults.is_unreadable {
            return Ok(failure(&Failure::new("Unavailable", "as the history asks")));
        }
        let action = params.get("Action");
        let mut omitted = None;
        if action == "DescribeInstances" {
            let due = faults.omitted.iter_mut().find(|(_, reads)| *reads > 0);
            if let Some((machine, reads)) = due {
                *reads -= 1;
                omitted = self.cloud.account.state().instances.remove_entry(&instance(*machine));
            }
        }
        if let Some(observer) = self.cloud.observer.get()
            && action == "DescribeSecurityGroups"
            && !params.has("NextToken")
        {
            observer.has_read(&self.process);
        }
        let response = self.cloud.account.respond(request);
        self.cloud.account.state().instances.extend(omitted);
        response
    }

    /// Sends one change: what has been sent takes effect, whatever becomes of the sender.
    async fn change(&self, params: &Params, request: HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let (text, action) = (self.describe(params), params.get("Action").to_owned());
        let (begun, half) = (Instant::now(), self.cloud.faults().duration(&text) / 2);
        sleep(half).await;
        self.process.pause_if_dead().await;
        let observer = self.cloud.observer.get().cloned();
        if let Some(observer) = &observer {
            observer.sent(&self.process, &text);
        }
        let (fate, kill) = {
            let mut faults = self.cloud.faults();
            let closes = self.closes(params);
            let call = Call { text: &text, closes, creates_group: action == "CreateSecurityGroup" };
            (faults.decide(call), faults.next_kill(false))
        };
        self.kill_if(kill == Some(true)).await;
        let is_skipped = self.mutant.is_some_and(|mutant| mutant.skips(&action));
        let (answer, answered) = oneshot::channel();
        let (cloud, process) = (self.cloud.clone(), self.process.clone());
        tokio::spawn(async move {
            sleep(half).await;
            let response = match fate {
                _ if is_skipped => Ok(success(&action, "<return>true</return>")),
                Fate::Succeeds => cloud.account.respond(&request),
                Fate::AnswerLost(_) => {
                    _ = cloud.account.respond(&request);
                    Err(ConnectorError::io("connection reset".into()))
                }
                Fate::Fails(error) => refusal(&action, &error),
            };
            let outcome = response.as_ref().map_or(0, |response| response.status().as_u16());
            if let Some(observer) = &observer {
                observer.ended(&process, &text, &outcome.to_string());
            }
            cloud.announce(Cause::of_call(begun));
            if kill == Some(false) {
                process.kill();
            }
            _ = answer.send(response);
        });
        answered.await.expect("the task ends by answering")
    }

    /// Returns true if the call only takes something away.
    fn closes(&self, params: &Params) -> bool {
        let action = params.get("Action");
        let state = self.cloud.account.state();
        let attached = state.interfaces.get(params.get("NetworkInterfaceId"));
        let is_part = attached.is_some_and(|interface| {
            params.list("SecurityGroupId").iter().all(|group| interface.groups.contains(group))
        });
        action.starts_with("Revoke") || action.starts_with("Delete") || is_part
    }

    /// Returns a call as text: the action, its object, and what the groups are for.
    fn describe(&self, params: &Params) -> String {
        let state = self.cloud.account.state();
        let tag = |group: &Group| group.tags.get(GROUP_TAG).cloned().unwrap_or_default();
        let label = |id: String| state.groups.get(&id).map_or_else(|| id.clone(), tag);
        let mut labels: Vec<String> = params.list("SecurityGroupId").into_iter().map(label).collect();
        let own = params.get("GroupId");
        if !own.is_empty() {
            labels.push(label(own.to_owned()));
        }
        let tags = params.members("TagSpecification.1.Tag");
        labels.extend(tags.iter().map(|at| params.get(&format!("{at}.Value")).to_owned()));
        format!("{} {} [{}]", params.get("Action"), params.get("NetworkInterfaceId"), labels.join(", "))
    }
}

/// Returns the answer by which EC2 refuses a call.
fn refusal(action: &str, error: &ProviderError) -> Result<HttpResponse, ConnectorError> {
    let code = match error.kind {
        ErrorKind::Throttled => "RequestLimitExceeded",
        ErrorKind::PermissionDenied => "UnauthorizedOperation",
        ErrorKind::QuotaReached if action == "CreateSecurityGroup" => "SecurityGroupLimitExceeded",
        ErrorKind::QuotaReached => "RulesPerSecurityGroupLimitExceeded",
        _ if error.message == "connection reset" => {
            return Err(ConnectorError::io("connection reset".into()));
        }
        _ => "Unavailable",
    };
    Ok(failure(&Failure::new(code, error.message.clone())))
}
