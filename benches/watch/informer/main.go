// Fills a cluster, changes it, and watches it with client-go's informers, for a comparison.
//
//	informer load NODES PODS           creates nodes, and pods of which 5 % have a host port
//	informer change PER-SECOND SECONDS changes pods
//	informer list SECONDS HOW          lists with informers, then follows changes
//	informer record FILE               writes a streaming list of pods, in JSON and Protocol Buffers
//
// HOW an informer keeps objects is `plain`, as they come; `bare`, without managedFields; or `keep`, only what deciding
// about host ports takes. The rest is for benches/cluster:
//
//	informer seed NODES                prints the simulated cloud's instances
//	informer fill NODES PODS           creates a cluster, with all that asks for ports
//	informer follow NODES PODS HOW     lists with informers, then follows changes for a minute
//	informer run SIMULATOR NODES PODS COMMAND…    measures a controller
//	informer disturb NODES PODS SECONDS    changes 100 of its pods each second
//	informer start SIMULATOR COMMAND…  measures the start of a controller
//	informer once COMMAND…             measures a command that ends
//	informer sync                      tells how long informers take to list
//	informer read                      tells how long the same lists take to arrive, read and thrown away
//	informer table FOLDER              prints what these have written to FOLDER
package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
)

func must[T any](value T, err error) T {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return value
}

func ignoreExisting[T any](_ T, err error) {
	if err != nil && !errors.IsAlreadyExists(err) {
		must(0, err)
	}
}

func number(text string) int { return must(strconv.Atoi(text)) }

func main() {
	switch os.Args[1] {
	case "seed":
		seed(number(os.Args[2]))
		return
	case "once":
		once(os.Args[2:])
		return
	case "table":
		table(os.Args[2])
		return
	}
	config := must(clientcmd.BuildConfigFromFlags("", os.Getenv("KUBECONFIG")))
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.QPS, config.Burst = 5000, 5000
	client := kubernetes.NewForConfigOrDie(config)
	switch os.Args[1] {
	case "load":
		load(client, number(os.Args[2]), number(os.Args[3]))
	case "change":
		change(client, number(os.Args[2]), number(os.Args[3]))
	case "list":
		list(client, number(os.Args[2]), os.Args[3])
	case "record":
		record(config, os.Args[2])
	case "sync":
		tell("listed", listAll(client, "plain").Seconds())
		tell("cpu", cpu(os.Getpid()))
	case "read":
		tell("read", readAll(config).Seconds())
	case "fill":
		fill(config, client, cluster{number(os.Args[2]), number(os.Args[3])})
	case "follow":
		follow(client, cluster{number(os.Args[2]), number(os.Args[3])}, os.Args[4])
	case "run":
		run(client, simulator(os.Args[2]), cluster{number(os.Args[3]), number(os.Args[4])}, os.Args[5:])
	case "disturb":
		cluster{number(os.Args[2]), number(os.Args[3])}.change(client, perSecond, number(os.Args[4]))
	case "start":
		start(simulator(os.Args[2]), os.Args[3:])
	default:
		must(0, fmt.Errorf("%s is not a command", os.Args[1]))
	}
}

func each(count int, do func(int)) {
	work := make(chan int)
	var group sync.WaitGroup
	for range 64 {
		group.Go(func() {
			for i := range work {
				do(i)
			}
		})
	}
	for i := range count {
		work <- i
	}
	close(work)
	group.Wait()
}

func load(client kubernetes.Interface, nodes, pods int) {
	context := context.Background()
	each(nodes, func(i int) {
		node := &corev1.Node{}
		node.Name = fmt.Sprintf("node-%d", i)
		node.Spec.ProviderID = fmt.Sprintf("aws:///eu-central-1a/i-%017x", i)
		ignoreExisting(client.CoreV1().Nodes().Create(context, node, metav1.CreateOptions{}))
	})
	each(pods, func(i int) {
		ignoreExisting(client.CoreV1().Pods("default").Create(context, pod(i, nodes), metav1.CreateOptions{}))
	})
}

// A pod as a Deployment's with a sidecar: many environment variables, mounts and labels.
func pod(i, nodes int) *corev1.Pod {
	pod := &corev1.Pod{}
	pod.Name = fmt.Sprintf("web-%d", i)
	pod.Labels = map[string]string{}
	for label := range 12 {
		pod.Labels[fmt.Sprintf("app.example.com/label-%d", label)] = fmt.Sprintf("value-%d", i%97)
	}
	pod.Annotations = map[string]string{"example.com/config": strings.Repeat("checksum-", 40)}
	pod.Spec.NodeName = fmt.Sprintf("node-%d", i%nodes)
	for name := range 2 {
		container := corev1.Container{Name: fmt.Sprintf("container-%d", name), Image: "registry.example.com/team/application:v1.2.3"}
		for env := range 14 {
			container.Env = append(container.Env, corev1.EnvVar{Name: fmt.Sprintf("VARIABLE_%d", env), Value: strings.Repeat("v", 32)})
		}
		for mount := range 3 {
			container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: fmt.Sprintf("v%d", mount), MountPath: fmt.Sprintf("/var/lib/application/%d", mount)})
		}
		container.Ports = []corev1.ContainerPort{{Name: fmt.Sprintf("p%d", name), ContainerPort: int32(8080 + name)}}
		pod.Spec.Containers = append(pod.Spec.Containers, container)
	}
	for volume := range 3 {
		pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("v%d", volume)})
	}
	if i%20 == 0 {
		pod.Annotations["hostport-firewall.dev/expose"] = "p0"
		pod.Spec.Containers[0].Ports[0].HostPort = 8080
	}
	return pod
}

// Changes pods `web-N`.
func change(client kubernetes.Interface, perSecond, seconds int) {
	changeEach(client, perSecond, seconds, func(i int) (string, string) { return "default", fmt.Sprintf("web-%d", i%10000) })
}

func changeEach(client kubernetes.Interface, perSecond, seconds int, pod func(int) (namespace, name string)) {
	// A patch that changes nothing makes no event.
	run := time.Now().Unix()
	ticker := time.NewTicker(time.Second / time.Duration(perSecond))
	var group sync.WaitGroup
	for i := range perSecond * seconds {
		<-ticker.C
		group.Go(func() {
			patch := fmt.Sprintf(`{"metadata":{"labels":{"changed":"%d-%d"}}}`, run, i)
			namespace, name := pod(i)
			must(client.CoreV1().Pods(namespace).Patch(context.Background(), name, types.MergePatchType, []byte(patch), metav1.PatchOptions{}))
		})
	}
	group.Wait()
}

func list(client kubernetes.Interface, seconds int, how string) {
	fmt.Printf("listed in %.2f s\n", listAll(client, how).Seconds())
	before := report()
	if seconds > 0 {
		time.Sleep(time.Duration(seconds) * time.Second)
		fmt.Printf("followed for %d s: %.2f s of CPU\n", seconds, report()-before)
	}
}

// Selects pods that are on a node and have not ended.
const running = "spec.nodeName!=,status.phase!=Succeeded,status.phase!=Failed"

// Starts informers of all that decides about host ports, and returns the time until they have listed it.
func listAll(client kubernetes.Interface, how string) time.Duration {
	began := time.Now()
	pods := informers.NewSharedInformerFactoryWithOptions(client, 0, informers.WithTweakListOptions(func(options *metav1.ListOptions) {
		options.FieldSelector = fields.ParseSelectorOrDie(running).String()
	}))
	others := informers.NewSharedInformerFactory(client, 0)
	transform, is := map[string]cache.TransformFunc{"plain": nil, "bare": strip, "keep": keep}[how]
	if !is {
		must(0, fmt.Errorf("%s is not plain, bare or keep", how))
	}
	synced := []cache.InformerSynced{}
	for _, informer := range []cache.SharedIndexInformer{
		pods.Core().V1().Pods().Informer(), others.Core().V1().Nodes().Informer(), others.Core().V1().Namespaces().Informer(),
		others.Core().V1().Services().Informer(), others.Discovery().V1().EndpointSlices().Informer(), others.Networking().V1().Ingresses().Informer(),
	} {
		if transform != nil {
			must(0, informer.SetTransform(transform))
		}
		synced = append(synced, informer.HasSynced)
	}
	stop := make(chan struct{})
	pods.Start(stop)
	others.Start(stop)
	cache.WaitForCacheSync(stop, synced...)
	return time.Since(began)
}

// Keeps all but managedFields.
func strip(object any) (any, error) {
	accessor, err := meta.Accessor(object)
	if err == nil {
		accessor.SetManagedFields(nil)
	}
	return object, err
}

// Keeps what deciding about host ports takes.
func keep(object any) (any, error) {
	pod, is := object.(*corev1.Pod)
	if !is {
		return object, nil
	}
	slim := &corev1.Pod{}
	slim.Name, slim.Namespace, slim.UID, slim.ResourceVersion = pod.Name, pod.Namespace, pod.UID, pod.ResourceVersion
	for _, container := range pod.Spec.Containers {
		for _, port := range container.Ports {
			if port.HostPort != 0 {
				slim.Labels, slim.Annotations, slim.Spec.NodeName, slim.Status.Phase = pod.Labels, pod.Annotations, pod.Spec.NodeName, pod.Status.Phase
				slim.Spec.Containers = append(slim.Spec.Containers, corev1.Container{Name: container.Name, Ports: container.Ports})
			}
		}
	}
	return slim, nil
}

func report() float64 {
	for line := range strings.Lines(string(must(os.ReadFile("/proc/self/status")))) {
		if strings.HasPrefix(line, "VmHWM") || strings.HasPrefix(line, "VmRSS") {
			fmt.Print(line)
		}
	}
	var usage syscall.Rusage
	must(0, syscall.Getrusage(syscall.RUSAGE_SELF, &usage))
	cpu := float64(usage.Utime.Sec+usage.Stime.Sec) + float64(usage.Utime.Usec+usage.Stime.Usec)/1e6
	fmt.Printf("CPU so far: %.2f s\n", cpu)
	return cpu
}

// Writes a streaming list in both encodings.
func record(config *rest.Config, file string) {
	for encoding, accept := range map[string]string{"json": "application/json", "pb": "application/vnd.kubernetes.protobuf"} {
		body := stream(config, "/api/v1/pods", "timeoutSeconds=10", accept)
		out := must(os.Create(file + "." + encoding))
		must(io.Copy(out, body))
		body.Close()
		must(0, out.Close())
	}
}

// Begins a streaming list.
func stream(config *rest.Config, path, query, accept string) io.ReadCloser {
	client := must(rest.HTTPClientFor(config))
	url := config.Host + path + "?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&" + query
	request := must(http.NewRequest("GET", url, nil))
	request.Header.Set("Accept", accept)
	return must(client.Do(request)).Body
}

// Reads what the informers list, and throws it away. Returns the time until all of it is there: nobody has it sooner.
func readAll(config *rest.Config) time.Duration {
	began := time.Now()
	var group sync.WaitGroup
	for _, path := range []string{
		"/api/v1/pods", "/api/v1/nodes", "/api/v1/namespaces", "/api/v1/services",
		"/apis/discovery.k8s.io/v1/endpointslices", "/apis/networking.k8s.io/v1/ingresses",
	} {
		group.Go(func() {
			query := ""
			if path == "/api/v1/pods" {
				query = "fieldSelector=" + url.QueryEscape(running)
			}
			body := stream(config, path, query, "application/vnd.kubernetes.protobuf;stream=watch,application/vnd.kubernetes.protobuf")
			readTo(body, []byte("k8s.io/initial-events-end"))
			body.Close()
		})
	}
	group.Wait()
	return time.Since(began)
}

// Reads until the text has come, which ends a streaming list.
func readTo(body io.Reader, text []byte) {
	buffer, kept := make([]byte, 1<<16), 0
	for {
		count := must(body.Read(buffer[kept:]))
		read := buffer[:kept+count]
		if bytes.Contains(read, text) {
			return
		}
		// It can lie across two reads.
		kept = copy(buffer, read[max(0, len(read)-len(text)):])
	}
}
