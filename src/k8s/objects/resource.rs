//! Implements kube's `Resource`, which its `Api` needs, for the types that are written.

use std::borrow::Cow;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::dns_endpoint::DNSEndpoint;
use super::pod::Pod;

/// Implements `kube::Resource` for a type with a fixed group, version and scope.
macro_rules! known_resource {
    ($kind:ident, $group:literal, $version:literal, $plural:literal, $scope:ty) => {
        impl kube::Resource for $kind {
            type DynamicType = ();
            type Scope = $scope;
            fn kind((): &()) -> Cow<'_, str> {
                stringify!($kind).into()
            }
            fn group((): &()) -> Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> Cow<'_, str> {
                $version.into()
            }
            fn plural((): &()) -> Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        }
    };
}

known_resource!(Pod, "", "v1", "pods", kube::core::NamespaceResourceScope);
known_resource!(
    DNSEndpoint,
    "externaldns.k8s.io",
    "v1alpha1",
    "dnsendpoints",
    kube::core::NamespaceResourceScope
);
