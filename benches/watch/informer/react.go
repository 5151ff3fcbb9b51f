package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// The program waits for this long after the last change of a burst.
const debounce = 200 * time.Millisecond

// The simulated cloud's address.
type simulator string

type call struct {
	Method     string          `json:"method"`
	Path       string          `json:"path"`
	Body       json.RawMessage `json:"body"`
	Mutating   bool            `json:"mutating"`
	ReceivedUs int64           `json:"receivedUs"`
	AnsweredUs int64           `json:"answeredUs"`
}

func (c call) received() time.Time { return time.UnixMicro(c.ReceivedUs) }
func (c call) answered() time.Time { return time.UnixMicro(c.AnsweredUs) }

func (s simulator) calls() []call {
	answer := must(http.Get(string(s) + "/simulator/requests"))
	defer answer.Body.Close()
	calls := []call{}
	must(0, json.NewDecoder(answer.Body).Decode(&calls))
	return calls
}

func (s simulator) changes() []call {
	return slices.DeleteFunc(s.calls(), func(call call) bool { return !call.Mutating })
}

func (s simulator) forget() {
	request := must(http.NewRequest("DELETE", string(s)+"/simulator/requests", nil))
	must(http.DefaultClient.Do(request)).Body.Close()
}

// Waits as long as the program does, and makes a call that the cloud does not know: what that takes on this machine, at
// this moment. Returns the time until which it meant to wait.
func (s simulator) waitAndCall(name string) time.Time {
	until := time.Now().Add(debounce)
	time.Sleep(debounce)
	answer := must(http.Get(string(s) + nothing + name))
	must(io.Copy(io.Discard, answer.Body))
	answer.Body.Close()
	return until
}

const nothing = "/nothing/"

// Creates pods with host ports of their own on nodes all over the cluster, one after the other, and tells how long the
// first call takes that opens the port, from the API server's answer; how long the API server takes to tell a client-go
// watch; what is left without that, the debounce and the cloud's answers after it; and what waiting and calling take
// alone, between two pods.
func react(client kubernetes.Interface, cloud simulator, c cluster, suffix string, count, offset int) {
	cloud.forget()
	background := context.Background()
	seen, lock := map[string]time.Time{}, sync.Mutex{}
	events := must(client.CoreV1().Pods("edge").Watch(background, metav1.ListOptions{LabelSelector: "reaction=" + "run" + suffix}))
	go func() {
		for event := range events.ResultChan() {
			at := time.Now()
			lock.Lock()
			if pod, is := event.Object.(*corev1.Pod); is && seen[pod.Name].IsZero() {
				seen[pod.Name] = at
			}
			lock.Unlock()
		}
	}()
	created, bare := make([]time.Time, count), make([]time.Time, count)
	for i := range count {
		place := place{"edge", "", "", reactionName(offset + i), (i*c.nodes/count + 1) % c.nodes, firstPortOfReaction + offset + i, true}
		pod := podAt(place, 1)
		pod.OwnerReferences = nil
		pod.Labels["reaction"] = "run" + suffix
		must(client.CoreV1().Pods("edge").Create(background, pod, metav1.CreateOptions{}))
		created[i] = time.Now()
		time.Sleep(time.Second)
		bare[i] = cloud.waitAndCall(reactionName(offset + i))
		time.Sleep(time.Duration(300+rand.IntN(1000)) * time.Millisecond)
	}
	time.Sleep(20 * time.Second)
	events.Stop()
	all, told, own, alone := []float64{}, []float64{}, []float64{}, []float64{}
	calls := cloud.calls()
	for i, until := range bare {
		path := nothing + reactionName(offset+i)
		at := slices.IndexFunc(calls, func(call call) bool { return call.Path == path })
		if at < 0 {
			must(0, fmt.Errorf("the cloud does not tell of the call of %s", path))
		}
		alone = append(alone, milliseconds(calls[at].received().Sub(until)))
	}
	calls = slices.DeleteFunc(calls, func(call call) bool { return strings.HasPrefix(call.Path, nothing) })
	lock.Lock()
	defer lock.Unlock()
	for i, at := range created {
		port := fmt.Appendf(nil, `"%d"`, firstPortOfReaction+offset+i)
		first := slices.IndexFunc(calls, func(call call) bool { return call.Mutating && bytes.Contains(call.Body, port) })
		if first < 0 {
			must(0, fmt.Errorf("the port of %s was not opened", reactionName(offset+i)))
		}
		opened, event := calls[first].received(), seen[reactionName(offset+i)]
		if event.Before(at) {
			event = at
		}
		// What is answered in the quiet time costs nothing.
		waited := waits(calls, event.Add(debounce), opened)
		all = append(all, milliseconds(opened.Sub(at)))
		told = append(told, milliseconds(event.Sub(at)))
		own = append(own, milliseconds(opened.Sub(event)-debounce-waited))
	}
	for name, values := range map[string][]float64{"all": all, "told": told, "own": own, "alone": alone} {
		slices.Sort(values)
		tell(name+suffix+"-p50", values[(len(values)-1)/2])
		tell(name+suffix+"-p99", values[(len(values)*99+99)/100-1])
	}
}

func reactionName(i int) string { return fmt.Sprintf("reaction-%d", i) }

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

// Returns the time between these two for which at least one call waited for the cloud.
func waits(calls []call, from, until time.Time) time.Duration {
	waited, counted := time.Duration(0), from
	calls = slices.Clone(calls)
	slices.SortFunc(calls, func(a, b call) int { return a.received().Compare(b.received()) })
	for _, call := range calls {
		began, ended := call.received(), call.answered()
		if began.Before(counted) {
			began = counted
		}
		if ended.After(until) {
			ended = until
		}
		if ended.After(began) {
			waited += ended.Sub(began)
			counted = ended
		}
	}
	return waited
}
