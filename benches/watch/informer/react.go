package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
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

// Creates pods with host ports of their own on nodes all over the cluster, one after the other, and tells how long the
// first call takes that opens the port, from the API server's answer; how long the API server takes to tell a client-go
// watch; and what is left without that, the debounce and the cloud's answers.
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
	created := make([]time.Time, count)
	for i := range count {
		place := place{"edge", "", "", reactionName(offset + i), (i*c.nodes/count + 1) % c.nodes, firstPortOfReaction + offset + i, true}
		pod := podAt(place, 1)
		pod.OwnerReferences = nil
		pod.Labels["reaction"] = "run" + suffix
		must(client.CoreV1().Pods("edge").Create(background, pod, metav1.CreateOptions{}))
		created[i] = time.Now()
		time.Sleep(time.Duration(1500+rand.IntN(1000)) * time.Millisecond)
	}
	time.Sleep(20 * time.Second)
	events.Stop()
	all, told, own := []float64{}, []float64{}, []float64{}
	calls := cloud.calls()
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
		waited := waits(calls, event, opened)
		all = append(all, milliseconds(opened.Sub(at)))
		told = append(told, milliseconds(event.Sub(at)))
		own = append(own, milliseconds(opened.Sub(event)-debounce-waited))
	}
	for name, values := range map[string][]float64{"all": all, "told": told, "own": own} {
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
