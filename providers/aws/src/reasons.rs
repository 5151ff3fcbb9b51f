//! The reasons why a firewall group cannot be compiled for AWS, as Events, conditions and metrics show them.

/// Mode `shared`: a rule of the user's opens the port already, and stays when the pod is gone.
pub const ALREADY_OPEN: &str = "AlreadyOpen";

/// The instance does not exist in this account and Region, or is being terminated.
pub const INSTANCE_NOT_FOUND: &str = "InstanceNotFound";

/// EC2 has given no complete answer about the instance: it may exist.
pub const INSTANCE_UNKNOWN: &str = "InstanceUnknown";

/// An AWS service manages the instance and refuses changes by others.
pub const MANAGED_INSTANCE: &str = "ManagedInstance";

/// The instance has several network interfaces, and only `ModifyInstanceAttribute` is granted.
pub const MULTIPLE_INTERFACES: &str = "MultipleInterfaces";

/// The primary network interface has as many security groups as it may have.
pub const NO_FREE_SLOT: &str = "NoFreeSlot";

/// The instance belongs to Karpenter or Cluster API, which would replace it, or take the group off again.
pub const PROVISIONED_INSTANCE: &str = "ProvisionedInstance";

/// Mode `shared`: the instance has none of the security groups that the configuration names.
pub const NO_SHARED_GROUP: &str = "NoSharedGroup";

/// More rules than fit into one security group.
pub const TOO_MANY_RULES: &str = "TooManyRules";

/// The interface's only security group carries no `kubernetes.io/cluster/…` tag, so that a second group would
/// break the cluster's cloud controllers.
pub const UNTAGGED_NODE_GROUP: &str = "UntaggedNodeGroup";
