//! Reads this cluster's resources from EC2, and the facts about the members.

mod attach;
mod former_mode;
mod groups;
mod members;
mod shared;

use firewall_core::Observed;

pub(crate) use attach::{detect_attach_api, observe_added_attached, observe_attach};
pub(crate) use former_mode::add_former_mode;
pub(crate) use shared::{observe_added_shared, observe_shared};

use crate::inventory::Inventory;
use crate::resource::AwsResource;

type AwsObserved = Observed<AwsResource, Inventory>;
