//! A strict EC2 in memory behind the real SDK: it answers the query protocol, and does what the emulators do
//! not. It pages (two objects per page), refuses the requests that EC2 refuses, keeps quotas, delays
//! propagation, throttles and checks permissions.

#![allow(dead_code, reason = "every test binary uses a part of it")]

mod groups;
mod instances;
pub(crate) mod wire;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use aws_sdk_ec2::config::{BehaviorVersion, Credentials, Region};
use aws_smithy_runtime_api::client::http::{
    HttpConnector, HttpConnectorFuture, SharedHttpConnector, http_client_fn,
};
use aws_smithy_runtime_api::client::orchestrator::{HttpRequest, HttpResponse};
use aws_smithy_runtime_api::client::result::ConnectorError;
use firewall_aws::ApiCall;

pub(crate) use groups::{Group, Rule};
pub(crate) use instances::{Instance, Interface};
pub(crate) use wire::{Failure, Params};

/// The VPC of most tests; it is not a default VPC.
pub(crate) const VPC: &str = "vpc-1";

/// A default VPC, where revoking a missing rule is no error.
pub(crate) const DEFAULT_VPC: &str = "vpc-default";

/// The nodes' own group, tagged for the cluster.
pub(crate) const NODES: &str = "sg-0000";

/// The fault of one call.
pub(crate) enum Fault {
    /// It succeeds.
    None,
    /// EC2 answers with this error code and does nothing.
    Code(&'static str),
    /// It takes effect, and the answer is lost.
    AnswerLost,
    /// It takes effect, and right after it another writer makes this change.
    Then(Box<dyn FnOnce(&mut State) + Send>),
}

impl Fault {
    /// Returns a change that another writer makes right after the call.
    pub(crate) fn then(change: impl FnOnce(&mut State) + Send + 'static) -> Self {
        Self::Then(Box::new(change))
    }

    /// Returns `count` calls that EC2 answers with this error code.
    pub(crate) fn codes(code: &'static str, count: usize) -> impl Iterator<Item = Self> {
        (0..count).map(move |_| Self::Code(code))
    }
}

/// Everything in the account.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) groups: BTreeMap<String, Group>,
    pub(crate) instances: BTreeMap<String, Instance>,
    pub(crate) interfaces: BTreeMap<String, Interface>,
    /// The actions that are permitted; all if the set is empty
    pub(crate) granted: BTreeSet<String>,
    /// The faults of the next calls of each action, in order
    pub(crate) faults: BTreeMap<String, VecDeque<Fault>>,
    /// What answers to a filter leave out though it matches: the beginning of the filter's name, and an id
    pub(crate) hidden: BTreeSet<(&'static str, String)>,
    /// A page holds as many objects as are asked for, and not two
    pub(crate) has_full_pages: bool,
    /// The key of a tag that the account demands of all that is created
    pub(crate) demanded_tag: Option<&'static str>,
    /// The number of calls that do not know a new group yet
    pub(crate) lag: u32,
    /// The number of deletions of a group that are refused after its last use has ended
    pub(crate) detach_lag: u32,
    /// Every call that was answered, with its action and parameters
    pub(crate) calls: Vec<(String, Params)>,
    ids: u32,
}

impl State {
    /// Returns the actions called, without those that only read.
    pub(crate) fn mutations(&self) -> Vec<String> {
        let names = self.calls.iter().map(|(action, _)| action.clone());
        names.filter(|action| !action.starts_with("Describe")).collect()
    }

    /// Returns the number of calls of an action.
    pub(crate) fn count(&self, action: &str) -> usize {
        self.calls.iter().filter(|(called, _)| called == action).count()
    }

    /// Adds faults for the next calls of an action.
    pub(crate) fn fault(&mut self, action: &str, faults: impl IntoIterator<Item = Fault>) {
        self.faults.entry(action.to_owned()).or_default().extend(faults);
    }

    /// Permits these calls and no others.
    pub(crate) fn grant(&mut self, calls: &[ApiCall]) {
        self.granted = calls.iter().map(ToString::to_string).collect();
    }

    /// Leaves an object out of the answers to a filter.
    pub(crate) fn hide(&mut self, filter: &'static str, id: &str) {
        self.hidden.insert((filter, id.to_owned()));
    }

    fn is_hidden(&self, params: &Params, id: &str) -> bool {
        let is_asked = |filter: &str| params.filters().iter().any(|(name, _)| name.starts_with(filter));
        self.hidden.iter().any(|(filter, hidden)| hidden == id && is_asked(filter))
    }

    fn new_id(&mut self, prefix: &str) -> String {
        self.ids += 1;
        format!("{prefix}-{:08x}", self.ids)
    }

    fn check_permission(&self, action: &str) -> Result<(), Failure> {
        if self.granted.is_empty() || self.granted.contains(action) {
            return Ok(());
        }
        let message =
            format!("User: arn:aws:sts::1:x is not authorized to perform: ec2:{action} on resource: *");
        Err(Failure::new("UnauthorizedOperation", message))
    }

    fn answer(&mut self, params: &Params) -> Result<String, Failure> {
        let action = params.get("Action").to_owned();
        self.check_permission(&action)?;
        if params.has("TagSpecification.1.ResourceType") {
            self.check_permission("CreateTags")?;
        }
        if params.get("DryRun") == "true" {
            return Err(Failure::new(
                "DryRunOperation",
                "Request would have succeeded, but DryRun flag is set.",
            ));
        }
        params.check()?;
        match action.as_str() {
            "DescribeSecurityGroups" => self.describe_groups(params),
            "DescribeSecurityGroupRules" => Ok(self.describe_rules(params)),
            "CreateSecurityGroup" => self.create_group(params),
            "DeleteSecurityGroup" => self.delete_group(params),
            "AuthorizeSecurityGroupIngress" => self.authorize(params),
            "RevokeSecurityGroupIngress" => self.revoke(params, false),
            "RevokeSecurityGroupEgress" => self.revoke(params, true),
            "DescribeInstances" => Ok(self.describe_instances(params)),
            "DescribeNetworkInterfaces" => self.describe_interfaces(params),
            "ModifyNetworkInterfaceAttribute" => self.modify_interface(params),
            "ModifyInstanceAttribute" => self.modify_instance(params),
            _ => Err(Failure::new("InvalidAction", action)),
        }
    }
}

/// The fake cloud; clones share one state.
#[derive(Clone)]
pub(crate) struct FakeEc2(Arc<Mutex<State>>);

impl std::fmt::Debug for FakeEc2 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("FakeEc2")
    }
}

impl FakeEc2 {
    /// Returns a cloud with so many instances, `i-01`, `i-02`, …, in the tagged node group.
    pub(crate) fn new(instances: usize) -> Self {
        let mut state = State::default();
        let nodes = Group::new(VPC, "nodes", &[("kubernetes.io/cluster/test", "owned")]);
        state.groups.insert(NODES.to_owned(), nodes);
        for number in 1..=instances {
            state.add_instance(&format!("i-{number:02x}"), VPC, &[NODES]);
        }
        Self(Arc::new(Mutex::new(state)))
    }

    /// Locks the state, to read or change it.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    /// Returns the SDK's client over this cloud.
    pub(crate) fn client(&self) -> aws_sdk_ec2::Client {
        Self::client_over(SharedHttpConnector::new(self.clone()))
    }

    /// Returns the SDK's client over whatever answers its requests.
    pub(crate) fn client_over(connector: SharedHttpConnector) -> aws_sdk_ec2::Client {
        let config = aws_sdk_ec2::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .region(Region::new("eu-central-1"))
            .credentials_provider(Credentials::new("test", "test", None, None, "test"))
            .http_client(http_client_fn(move |_, _| connector.clone()))
            .build();
        aws_sdk_ec2::Client::from_conf(config)
    }

    /// Answers a request.
    pub(crate) fn respond(&self, request: &HttpRequest) -> Result<HttpResponse, ConnectorError> {
        let params = Params::of_body(request.body().bytes().unwrap_or_default());
        let action = params.get("Action").to_owned();
        let mut state = self.state();
        let fault = state.faults.get_mut(&action).and_then(VecDeque::pop_front);
        if let Some(Fault::Code(code)) = fault {
            return Ok(wire::failure(&Failure::new(code, "as the test asked")));
        }
        let answer = state.answer(&params);
        state.calls.push((action.clone(), params));
        match fault {
            Some(Fault::AnswerLost) => return Err(ConnectorError::io("connection reset".into())),
            Some(Fault::Then(then)) => then(&mut state),
            Some(Fault::None | Fault::Code(_)) | None => {}
        }
        Ok(answer.map_or_else(|failure| wire::failure(&failure), |inner| wire::success(&action, &inner)))
    }
}

impl HttpConnector for FakeEc2 {
    fn call(&self, request: HttpRequest) -> HttpConnectorFuture {
        HttpConnectorFuture::ready(self.respond(&request))
    }
}
