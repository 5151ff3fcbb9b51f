package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

const (
	project             = "nodes-1234"
	hostPortEvery       = 20
	podsOfWorkload      = 20
	workloadsOfTenant   = 5
	exposedOfTenant     = 3
	firstPort           = 20000
	firstPortOfReaction = 40000
)

// A cluster where one pod in 20 has a host port. A third of those are of one DaemonSet, and one HostPortExposure asks for
// their port; the others are of workloads of 20 pods, five in a namespace: for three of the five a HostPortExposure asks,
// the pods of two are annotated.
type cluster struct{ nodes, pods int }

// What distinguishes a pod from the others. Without a host port, port is 0.
type place struct {
	namespace, workload, kind, name string
	node                            int
	port                            int
	annotated                       bool
}

func (c cluster) edges() int { return c.pods / hostPortEvery / 3 }
func (c cluster) workloads() int {
	return (c.pods/hostPortEvery - c.edges() + podsOfWorkload - 1) / podsOfWorkload
}
func (c cluster) tenants() int { return (c.workloads() + workloadsOfTenant - 1) / workloadsOfTenant }

func (c cluster) place(i int) place {
	of := i / hostPortEvery
	switch other := of - c.edges(); {
	case i%hostPortEvery != 0:
		workload := (i - of - 1) / podsOfWorkload
		tenant := fmt.Sprintf("tenant-%d", workload%c.tenants())
		return place{tenant, fmt.Sprintf("web-%d", workload), "ReplicaSet", fmt.Sprintf("web-%d", i), i % c.nodes, 0, false}
	case other < 0:
		return place{"edge", "edge", "DaemonSet", fmt.Sprintf("edge-%d", of), of % c.nodes, 8443, false}
	default:
		workload := other / podsOfWorkload
		tenant := fmt.Sprintf("tenant-%d", workload/workloadsOfTenant)
		name := fmt.Sprintf("game-%d", workload)
		annotated := workload%workloadsOfTenant >= exposedOfTenant
		return place{tenant, name, "ReplicaSet", fmt.Sprintf("game-%d", i), other * 7919 % c.nodes, firstPort + workload, annotated}
	}
}

// Changes pods of all kinds, one in 20 with a host port.
func (c cluster) change(client kubernetes.Interface, perSecond, seconds int) {
	changeEach(client, perSecond, seconds, func(i int) (string, string) {
		place := c.place(i % c.pods)
		return place.namespace, place.name
	})
}

func seed(nodes int) {
	instances := []any{}
	for i := range nodes {
		network := map[string]any{"network": "projects/" + project + "/global/networks/main", "ipv4": address(i)}
		instances = append(instances, map[string]any{"project": project, "zone": zone(i), "name": nodeName(i), "interfaces": []any{network}})
	}
	seed := map[string]any{"networks": [][2]string{{project, "main"}}, "instances": instances}
	must(0, json.NewEncoder(os.Stdout).Encode(seed))
}

func nodeName(i int) string { return fmt.Sprintf("node-%d", i) }
func zone(i int) string     { return fmt.Sprintf("europe-west1-%c", "bcd"[i%3]) }
func address(i int) string  { return fmt.Sprintf("10.%d.%d.%d", 64+i>>16, i>>8&255, i&255) }

// Creates everything. Pods with a host port are ready.
func fill(config *rest.Config, client kubernetes.Interface, c cluster) {
	background := context.Background()
	each(c.tenants()+1, func(i int) {
		namespace := &corev1.Namespace{}
		if namespace.Name = fmt.Sprintf("tenant-%d", i); i == c.tenants() {
			namespace.Name = "edge"
		}
		must(client.CoreV1().Namespaces().Create(background, namespace, metav1.CreateOptions{}))
	})
	config = rest.CopyConfig(config)
	config.ContentType, config.AcceptContentTypes = "application/json", "application/json"
	exposures := dynamic.NewForConfigOrDie(config).Resource(schema.GroupVersionResource{
		Group: "hostport-firewall.dev", Version: "v1alpha1", Resource: "hostportexposures",
	})
	each(c.workloads()+1, func(i int) {
		place := c.place(0)
		if i < c.workloads() {
			place = c.place((c.edges() + i*podsOfWorkload) * hostPortEvery)
		}
		if !place.annotated {
			must(exposures.Namespace(place.namespace).Create(background, exposure(place), metav1.CreateOptions{}))
		}
	})
	each(c.nodes, func(i int) {
		node := &corev1.Node{}
		node.Name = nodeName(i)
		node.Spec.ProviderID = fmt.Sprintf("gce://%s/%s/%s", project, zone(i), node.Name)
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address(i)}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		status := node.Status
		created := must(client.CoreV1().Nodes().Create(background, node, metav1.CreateOptions{}))
		created.Status = status
		must(client.CoreV1().Nodes().UpdateStatus(background, created, metav1.UpdateOptions{}))
	})
	each(c.pods, func(i int) {
		place := c.place(i)
		created := must(client.CoreV1().Pods(place.namespace).Create(background, podAt(place, i), metav1.CreateOptions{}))
		if place.port != 0 {
			created.Status.Phase = corev1.PodRunning
			created.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
			must(client.CoreV1().Pods(place.namespace).UpdateStatus(background, created, metav1.UpdateOptions{}))
		}
	})
}

func podAt(place place, i int) *corev1.Pod {
	pod := pod(i, 1)
	isController := true
	delete(pod.Annotations, "hostport-firewall.dev/expose")
	pod.Name, pod.Spec.NodeName = place.name, nodeName(place.node)
	pod.Labels["app"] = place.workload
	pod.OwnerReferences = []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: place.kind, Name: place.workload, UID: "5d0c1b1e-0000-4000-8000-000000000062", Controller: &isController}}
	pod.Spec.Containers[0].Ports[0].HostPort = int32(place.port)
	if place.port != 0 {
		pod.Spec.Containers[0].Ports[0].ContainerPort = int32(place.port)
	}
	if place.annotated {
		pod.Annotations["hostport-firewall.dev/expose"] = "p0"
	}
	return pod
}

func exposure(place place) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "hostport-firewall.dev/v1alpha1",
		"kind":       "HostPortExposure",
		"metadata":   map[string]any{"name": place.workload},
		"spec": map[string]any{
			"podSelector":  map[string]any{"matchLabels": map[string]any{"app": place.workload}},
			"ports":        []any{map[string]any{"port": "p0"}},
			"sourceRanges": []any{"203.0.113.0/24", "198.51.100.0/24"},
		},
	}}
}
