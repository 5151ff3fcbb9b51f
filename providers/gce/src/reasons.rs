//! The reasons why a firewall group cannot be compiled for Compute Engine, as Events, conditions and metrics
//! show them.

/// The instance does not exist.
pub const INSTANCE_NOT_FOUND: &str = "InstanceNotFound";

/// Compute Engine has given no complete answer about the instance: it may exist.
pub const INSTANCE_UNKNOWN: &str = "InstanceUnknown";

/// The instance's name begins with the network tag that it would get.
pub const NAME_BEGINS_WITH_TAG: &str = "NameBeginsWithTag";

/// The instance's network belongs to another project than the one in which rules are created.
pub const NETWORK_IN_OTHER_PROJECT: &str = "NetworkInOtherProject";

/// The configured network does not exist.
pub const NETWORK_NOT_FOUND: &str = "NetworkNotFound";

/// The instance has no interface in the configured network.
pub const NOT_IN_NETWORK: &str = "NotInNetwork";

/// The instance is in another project than the configured one.
pub const OTHER_PROJECT: &str = "OtherProject";

/// The instance cannot have all the network tags that the group needs.
pub const TOO_MANY_TAGS: &str = "TooManyTags";
