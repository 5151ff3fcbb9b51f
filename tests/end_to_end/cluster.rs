//! The Kubernetes side of a case: objects made as the administrator, and the controller's own credentials.

use std::path::{Path, PathBuf};

use hostport_firewall::k8s::host_port_exposure::HostPortExposure;
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
use crate::process::{ControlPlane, root};
use crate::wait::wait_until;

/// The namespace in which deploy/ puts the controller.
pub(crate) const NAMESPACE: &str = "hostport-firewall";

/// A running control plane with the controller's permissions installed, and nothing else in it.
pub(crate) struct Cluster {
    plane: ControlPlane,
    pub(crate) client: Client,
    dir: TempDir,
}

impl Cluster {
    /// Starts the control plane, installs deploy/rbac.yaml, and writes the controller's kubeconfig.
    pub(crate) async fn start() -> Self {
        let plane = ControlPlane::start();
        let admin = Kubeconfig::read_from(plane.kubeconfig()).expect("the administrator's kubeconfig");
        let config = Config::from_custom_kubeconfig(admin, &KubeConfigOptions::default()).await;
        let client = Client::try_from(config.expect("a usable kubeconfig")).expect("a client");
        let dir = TempDir::with_prefix("kubeconfig-").expect("a temporary folder");
        let admin = plane.kubeconfig();
        let cluster = Self { plane, client, dir };
        cluster.apply_file(&root().join("deploy/rbac.yaml")).await;
        cluster.write_kubeconfig(&admin).await;
        cluster
    }

    /// Returns the path of the kubeconfig with the token of the controller's ServiceAccount.
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
    pub(crate) async fn apply_file(&self, path: &Path) {
        let text =
            std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        for document in serde_saphyr::from_multiple::<Value>(&text).expect("valid YAML") {
            self.apply(document).await;
        }
    }

    /// Runs kubectl as the administrator, and returns its output.
    pub(crate) async fn run_kubectl(&self, arguments: &[&str]) -> String {
        let mut command = tokio::process::Command::new(kubectl_path());
        command.arg("--kubeconfig").arg(self.plane.kubeconfig()).args(arguments);
        let output = command.output().await.expect("kubectl runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "kubectl {arguments:?}: {error}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs a shell's script, in which kubectl is the administrator's.
    pub(crate) async fn run_script(&self, script: &str) -> std::process::Output {
        let kubectl = kubectl_path();
        let folders = [kubectl.parent().expect("a folder"), Path::new("/usr/bin"), Path::new("/bin")];
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", script]).env("KUBECONFIG", self.plane.kubeconfig());
        command.env("PATH", std::env::join_paths(folders).expect("no colons"));
        command.output().await.expect("sh runs")
    }

    /// Deletes an object of the namespace `default`.
    pub(crate) async fn delete(&self, kind: &str, name: &str) {
        self.run_kubectl(&["delete", kind, name]).await;
    }

    /// Creates or changes any object.
    pub(crate) async fn apply(&self, object: Value) {
        let object: DynamicObject = serde_json::from_value(object).expect("an object");
        let types = object.types.clone().expect("apiVersion and kind");
        let (group, version) = types.api_version.split_once('/').unwrap_or(("", &types.api_version));
        let (api, capabilities) =
            self.wait_until_served(&GroupVersionKind::gvk(group, version, &types.kind)).await;
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
            self.wait_until_crd_served(&object.data["spec"]).await;
        }
    }

    /// Waits until all versions of a CRD are served: a controller that starts before that may take the kind
    /// for absent.
    async fn wait_until_crd_served(&self, spec: &Value) {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        for version in spec["versions"].as_array().into_iter().flatten() {
            let (group, kind) = (text(&spec["group"]), text(&spec["names"]["kind"]));
            self.wait_until_served(&GroupVersionKind::gvk(&group, &text(&version["name"]), &kind)).await;
        }
    }

    /// Waits until a kind is served, which a CRD's kind is only some moments after it was created.
    async fn wait_until_served(&self, kind: &GroupVersionKind) -> (ApiResource, ApiCapabilities) {
        wait_until(&format!("{kind:?} is served"), async || {
            // Discovery asks for every listed group, and a new one is listed a moment before it is served.
            let discovery =
                Discovery::new(self.client.clone()).run().await.map_err(|error| error.to_string())?;
            discovery.resolve_gvk(kind).ok_or_else(|| "it is not".to_owned())
        })
        .await
    }

    /// Registers a machine as a node, as its kubelet and the cloud controller would.
    pub(crate) async fn register_node(&self, machine: &Machine) {
        let nodes: Api<Node> = Api::all(self.client.clone());
        let node: Node = serde_json::from_value(machine.node.clone()).expect("a node");
        nodes.create(&PostParams::default(), &node).await.expect("the node is created");
        let status = Patch::Merge(json!({ "status": machine.node["status"] }));
        let patched = nodes.patch_status(&machine.name, &PatchParams::default(), &status).await;
        patched.expect("the node has addresses");
    }

    /// Returns the API of pods in the namespace `default`.
    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "default")
    }

    /// Creates a pod that is bound to a node.
    pub(crate) async fn create_pod(&self, pod: Value) {
        let pod: Pod = serde_json::from_value(pod).expect("a pod");
        self.pods().create(&PostParams::default(), &pod).await.expect("the pod is created");
    }

    /// Makes a pod ready, as its kubelet would.
    pub(crate) async fn mark_ready(&self, name: &str) {
        let status = json!({ "status": { "conditions": [{ "type": "Ready", "status": "True" }] } });
        // Conditions are merged by type: the readiness gate stays.
        let patched =
            self.pods().patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await;
        patched.expect("the pod is ready");
    }

    /// Returns the conditions of a pod.
    pub(crate) async fn list_conditions(&self, name: &str) -> Vec<Value> {
        let status = self.pods().get(name).await.expect("the pod").status.unwrap_or_default();
        status.conditions.into_iter().flatten().map(|condition| json!(condition)).collect()
    }

    /// Waits until a pod's readiness gate has this status and reason.
    pub(crate) async fn wait_for_gate(&self, name: &str, status: &str, reason: &str) {
        let fits = |condition: &Value| {
            condition["type"] == "hostport-firewall.dev/open"
                && condition["status"] == *status
                && condition["reason"] == *reason
        };
        wait_until(&format!("the gate of {name} is {status} for {reason}"), async || {
            let found = self.list_conditions(name).await;
            if found.iter().any(fits) { Ok(()) } else { Err(format!("{found:#?}")) }
        })
        .await;
    }

    /// Waits until the status of the `HostPortExposure` `web` fits, and returns it.
    pub(crate) async fn wait_for_exposure_status(&self, what: &str, fits: impl Fn(&Value) -> bool) -> Value {
        let api: Api<HostPortExposure> = Api::namespaced(self.client.clone(), "default");
        wait_until(what, async || {
            let found = json!(api.get("web").await.expect("the exposure").status);
            if fits(&found) { Ok(found) } else { Err(format!("{found:#}")) }
        })
        .await
    }

    /// Waits until a condition of the `HostPortExposure` `web` has this status and reason, and returns the
    /// whole status.
    pub(crate) async fn wait_for_condition(&self, kind: &str, value: &str, reason: &str) -> Value {
        let fits = |condition: &Value| {
            condition["type"] == *kind && condition["status"] == *value && condition["reason"] == *reason
        };
        let what = format!("{kind} becomes {value} for {reason}");
        self.wait_for_exposure_status(&what, |status| {
            status["conditions"].as_array().is_some_and(|all| all.iter().any(fits))
        })
        .await
    }

    /// Begins to delete a pod, which goes on running until its kubelet confirms that it has ended.
    pub(crate) async fn begin_to_delete_pod(&self, name: &str) {
        let parameters = DeleteParams::default().grace_period(60);
        self.pods().delete(name, &parameters).await.expect("the pod is deleted");
    }

    /// Deletes a pod at once, as a kubelet does once the pod has ended.
    pub(crate) async fn delete_pod(&self, name: &str) {
        self.pods().delete(name, &DeleteParams::default().grace_period(0)).await.expect("the pod is deleted");
    }

    /// Waits for an Event on an object whose note contains `text`, and returns the whole note.
    pub(crate) async fn wait_for_event(&self, kind: &str, name: &str, text: &str) -> String {
        wait_until(&format!("an Event on {kind} {name} contains {text:?}"), async || {
            let found = self.list_events(kind, name).await;
            found.iter().find(|note| note.contains(text)).cloned().ok_or_else(|| format!("{found:#?}"))
        })
        .await
    }

    /// Returns the notes of all Events on an object.
    pub(crate) async fn list_events(&self, kind: &str, name: &str) -> Vec<String> {
        let regarding = |event: &Event| {
            let object = event.regarding.clone().unwrap_or_default();
            object.kind.as_deref() == Some(kind) && object.name.as_deref() == Some(name)
        };
        self.list_all_events().await.into_iter().filter(regarding).filter_map(|event| event.note).collect()
    }

    /// Returns all Events of the cluster.
    pub(crate) async fn list_all_events(&self) -> Vec<Event> {
        let events: Api<Event> = Api::all(self.client.clone());
        events.list(&ListParams::default()).await.expect("Events").items
    }
}

/// Returns the path of the kubectl that belongs to the control plane.
fn kubectl_path() -> PathBuf {
    let ensured = std::process::Command::new(root().join("tests/control-plane/ensure")).output();
    let folder = String::from_utf8(ensured.expect("it runs").stdout).expect("a path");
    Path::new(folder.trim()).join("kubectl")
}
