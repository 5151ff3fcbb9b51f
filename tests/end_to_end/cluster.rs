//! The Kubernetes side of a test: objects made as the administrator, and the controller's own credentials.

use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Node, Pod, ServiceAccount};
use k8s_openapi::api::events::v1::Event;
use kube::api::{ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::GroupVersionKind;
use kube::discovery::ApiCapabilities;
use kube::{Api, Client, Config, Discovery};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::machine::Machine;
use crate::patience::until;
use crate::process::{ControlPlane, root};

/// Where deploy/ puts the controller.
pub(crate) const NAMESPACE: &str = "hostport-firewall";

/// A running control plane with the controller's permissions installed, and nothing else in it.
pub(crate) struct Cluster {
    plane: ControlPlane,
    pub(crate) client: Client,
    dir: TempDir,
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        let plane = ControlPlane::start();
        let admin = Kubeconfig::read_from(plane.kubeconfig()).expect("the administrator's kubeconfig");
        let config = Config::from_custom_kubeconfig(admin, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a usable kubeconfig")).expect("a client");
        let dir = TempDir::with_prefix("kubeconfig-").expect("a temporary folder");
        let admin = plane.kubeconfig();
        let cluster = Self { plane, client, dir };
        cluster.apply(&root().join("deploy/rbac.yaml")).await;
        cluster.write_kubeconfig(&admin).await;
        cluster
    }

    /// The kubeconfig by which the controller is its ServiceAccount.
    pub(crate) fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    async fn write_kubeconfig(&self, admin: &Path) {
        let accounts: Api<ServiceAccount> = Api::namespaced(self.client.clone(), NAMESPACE);
        let request: TokenRequest =
            serde_json::from_value(json!({ "spec": { "audiences": [] } })).expect("a request");
        let issued =
            accounts.create_token_request("hostport-firewall", &PostParams::default(), &request).await;
        let token = issued.expect("a token is issued").status.expect("it is filled in").token;
        let text = std::fs::read_to_string(admin).expect("the administrator's kubeconfig");
        let mut config: Value = serde_saphyr::from_str(&text).expect("valid YAML");
        config["users"][0]["user"]["token"] = token.into();
        std::fs::write(self.kubeconfig(), config.to_string()).expect("the kubeconfig can be written");
    }

    /// Applies a manifest file of several documents.
    pub(crate) async fn apply(&self, path: &Path) {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for document in serde_saphyr::from_multiple::<Value>(&text).expect("valid YAML") {
            self.create(document).await;
        }
    }

    /// What kubectl prints for these arguments, as the administrator.
    pub(crate) async fn kubectl(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new(kubectl());
        command.arg("--kubeconfig").arg(self.plane.kubeconfig()).args(arguments);
        let output = command.output().await.expect("kubectl runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Deletes an object of the namespace `default`.
    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        self.kubectl(&["delete", kind, name]).await;
    }

    /// Creates or changes any object.
    pub(crate) async fn create(&self, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let types = object.types.clone().expect("apiVersion and kind");
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let (api, capabilities) = self.served(&GroupVersionKind::gvk(group, version, &types.kind)).await;
        let name = object.metadata.name.clone().expect("a name");
        let api: Api<DynamicObject> = match capabilities.scope {
            kube::discovery::Scope::Cluster => Api::all_with(self.client.clone(), &api),
            kube::discovery::Scope::Namespaced => {
                let namespace = object.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
                Api::namespaced_with(self.client.clone(), &namespace, &api)
            }
        };
        let parameters = PatchParams::apply("test").force();
        api.patch(&name, &parameters, &Patch::Apply(&object))
            .await
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        if types.kind == "CustomResourceDefinition" {
            self.serves(&object.data["spec"]).await;
        }
    }

    /// Waits until all of what a CRD defines is served: a controller that starts before that may take it for absent.
    async fn serves(&self, spec: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for version in spec["versions"].as_array().into_iter().flatten() {
            let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
            self.served(&GroupVersionKind::gvk(&group, &text(&version["name"]), &kind)).await;
        }
    }

    /// Waits until a kind is served: a CRD's is only some moments after it was created.
    async fn served(&self, kind: &GroupVersionKind) -> (ApiResource, ApiCapabilities) {
        until(&format!("{kind:?} is served"), async || {
            // It asks for every group that is listed, and a new one is listed a moment before it is there.
            let discovery =
                Discovery::new(self.client.clone()).run().await.map_err(|error| error.to_string())?;
            discovery.resolve_gvk(kind).ok_or_else(|| "it is not".to_owned())
        })
        .await
    }

    /// Registers a machine as a node, as its kubelet and the cloud controller would.
    pub(crate) async fn join(&self, machine: &Machine) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node: Node = serde_json::from_value(machine.node.clone()).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("the node is created");
        let status = Patch::Merge(json!({ "status": machine.node["status"] }));
        let patched = nodes.patch_status(&machine.name, &PatchParams::default(), &status).await;
        patched.expect("the node has addresses");
    }

    /// The pods of the namespace `default`.
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates a pod that is bound to a node.
    pub(crate) async fn run(&self, pod: Value) {
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("the pod is created");
    }

    /// Makes a pod ready, as its kubelet would.
    pub(crate) async fn ready(&self, name: &str) {
        let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        // Conditions are merged by type: the readiness gate stays.
        let patched =
            self.pods().patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await;
        patched.expect("the pod is ready");
    }

    /// The conditions of a pod.
    pub(crate) async fn conditions(&self, name: &str) -> Vec<Value> {
        let status = self.pods().get(name).await.expect("the pod").status.unwrap_or_default();
        status.conditions.into_iter().flatten().map(|condition| json!(condition)).collect()
    }

    /// Waits until a pod's readiness gate has this status and reason.
    pub(crate) async fn gate(&self, name: &str, status: &str, reason: &str) {
        let says = |condition: &Value| {
            condition["type"] == "hostport-firewall.dev/open"
                && condition["status"] == *status
                && condition["reason"] == *reason
        };
        until(&format!("the gate of {name} is {status} for {reason}"), async || {
            let found = self.conditions(name).await;
            if found.iter().any(says) { Ok(()) } else { Err(format!("{found:#?}")) }
        })
        .await;
    }

    /// Begins to delete a pod, which goes on running until its kubelet confirms that it has ended.
    pub(crate) async fn begin_to_stop(&self, name: &str) {
        let parameters = DeleteParams::default().grace_period(60);
        self.pods().delete(name, &parameters).await.expect("the pod is deleted");
    }

    /// Deletes a pod at once, as a kubelet that confirms it would.
    pub(crate) async fn stop(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default().grace_period(0)).await.expect("the pod is deleted");
    }

    /// Waits for an Event on an object whose text contains `text`, and returns all of that text.
    pub(crate) async fn event(&self, kind: &str, name: &str, text: &str) -> String {
        until(&format!("an Event on {kind} {name} says {text:?}"), async || {
            let found = self.events(kind, name).await;
            found.iter().find(|note| note.contains(text)).cloned().ok_or_else(|| format!("{found:#?}"))
        })
        .await
    }

    /// The texts of all Events on an object.
    pub(crate) async fn events(&self, kind: &str, name: &str) -> Vec<String> {
        let regarding = |event: &Event| {
            let object = event.regarding.clone().unwrap_or_default();
            object.kind.as_deref() == Some(kind) && object.name.as_deref() == Some(name)
        };
        self.all_events().await.into_iter().filter(regarding).filter_map(|event| event.note).collect()
    }

    /// All Events there are.
    pub(crate) async fn all_events(&self) -> Vec<Event> {
        let events: Api<Event> = Api::all(self.client.clone());
        events.list(&ListParams::default()).await.expect("Events").items
    }
}

/// The kubectl that belongs to the control plane.
fn kubectl() -> PathBuf {
    let ensured = std::process::Command::new(root().join("tests/control-plane/ensure")).output();
    let folder = String::from_utf8(ensured.expect("it runs").stdout).expect("a path");
    Path::new(folder.trim()).join("kubectl")
}

/// A pod with one container; `ports` are its container ports.
#[expect(clippy::needless_pass_by_value, reason = "callers build the values in place")]
pub(crate) fn pod(name: &str, node: &str, annotations: Value, ports: Value) -> Value {
    json!({
        "metadata": { "name": name, "annotations": annotations },
        "spec": {
            "nodeName": node,
            "terminationGracePeriodSeconds": 0,
            "containers": [{ "name": "main", "image": "example.invalid/image", "ports": ports }],
        },
    })
}

/// Makes a pod one of a workload's, or, where its kubelet runs it by itself, its node's.
pub(crate) fn owned_by(pod: &mut Value, kind: &str, name: &str) {
    pod["metadata"]["ownerReferences"] = json!([{
        "apiVersion": if kind == "Node" { "v1" } else { "apps/v1" }, "kind": kind, "name": name, "controller": true,
        "uid": "7d1e7b5a-0000-4000-8000-000000000001",
    }]);
}
