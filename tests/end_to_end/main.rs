//! End to end, on real parts: the release binary, kube-apiserver and etcd with RBAC on, and LocalStack's EC2.
//!
//! Every case starts a world of its own. `./test` runs them; alone they need `HOSTPORT_FIREWALL_BIN`.

mod bad_input;
mod cases;
mod cloud;
mod cluster;
mod commands;
mod permissions;
mod process;
mod voyager;
mod world;
