package main

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"k8s.io/client-go/kubernetes"
)

const (
	minute    = 60 * time.Second
	perSecond = 100
	// Pods to react to, one after the other
	reactions     = 100
	busyReactions = 40
	// No wait is longer.
	patience = 20 * time.Minute
)

// Prints a number of a measurement, for `table`.
func tell(name string, value float64) { fmt.Printf("%s %.4f\n", name, value) }

// Returns the resident memory in MiB: the largest so far, and the present.
func memory(pid int) (peak, now float64) {
	for line := range strings.Lines(string(must(os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))))) {
		switch fields := strings.Fields(line); fields[0] {
		case "VmHWM:":
			peak = float64(number(fields[1])) / 1024
		case "VmRSS:":
			now = float64(number(fields[1])) / 1024
		}
	}
	return peak, now
}

// Returns the CPU time in seconds.
func cpu(pid int) float64 {
	text := string(must(os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))))
	fields := strings.Fields(text[strings.LastIndex(text, ")"):])
	return float64(number(fields[12])+number(fields[13])) / 100
}

// Changes pods in a process of its own, whose CPU time is not the caller's.
func disturb(c cluster, duration time.Duration) *exec.Cmd {
	changes := exec.Command(os.Args[0], "disturb", strconv.Itoa(c.nodes), strconv.Itoa(c.pods), strconv.Itoa(int(duration.Seconds())))
	changes.Stderr = os.Stderr
	changes.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	must(0, changes.Start())
	return changes
}

// Measures a process for a minute of changes.
func measureMinute(c cluster, pid int) {
	changes := disturb(c, minute)
	before := cpu(pid)
	time.Sleep(minute)
	tell("minute", cpu(pid)-before)
	peak, now := memory(pid)
	tell("peak", peak)
	tell("steady", now)
	must(0, changes.Wait())
}

func follow(client kubernetes.Interface, c cluster, how string) {
	tell("listed", listAll(client, how).Seconds())
	tell("cpu", cpu(os.Getpid()))
	measureMinute(c, os.Getpid())
}

// A process that is measured; its output goes to standard error.
type process struct {
	*exec.Cmd
	began time.Time
}

func spawn(command []string) process {
	child := exec.Command(command[0], command[1:]...)
	child.Stdout, child.Stderr = os.Stderr, os.Stderr
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	must(0, child.Start())
	return process{child, began}
}

// Waits for the first change of the cloud: then there is a complete plan.
func (p process) waitForFirstChange(cloud simulator) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if changes := cloud.changes(); len(changes) > 0 {
			tell("first", changes[0].received().Sub(p.began).Seconds())
			tell("cpu", cpu(p.Process.Pid))
			peak, _ := memory(p.Process.Pid)
			tell("peak-first", peak)
			return
		}
	}
	must(0, fmt.Errorf("nothing has changed in the cloud"))
}

// Waits until the process changes nothing any more, and does nothing.
func (p process) waitUntilSettled(cloud simulator) {
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
		count, before := len(cloud.changes()), cpu(p.Process.Pid)
		time.Sleep(10 * time.Second)
		if changes := cloud.changes(); len(changes) == count && cpu(p.Process.Pid)-before < 0.5 {
			tell("changes", float64(count))
			tell("settled", changes[count-1].answered().Sub(p.began).Seconds())
			tell("cpu-settled", cpu(p.Process.Pid))
			peak, _ := memory(p.Process.Pid)
			tell("peak-settled", peak)
			return
		}
	}
	must(0, fmt.Errorf("changes do not end"))
}

func (p process) end() {
	must(0, p.Process.Signal(syscall.SIGTERM))
	must(0, p.Wait())
}

func run(client kubernetes.Interface, cloud simulator, c cluster, command []string) {
	program := spawn(command)
	program.waitForFirstChange(cloud)
	program.waitUntilSettled(cloud)
	measureMinute(c, program.Process.Pid)
	program.waitUntilSettled(cloud)
	before := cpu(program.Process.Pid)
	react(client, cloud, c, "", reactions, 0)
	tell("cpu-reactions", cpu(program.Process.Pid)-before)
	changes := disturb(c, 100*time.Second)
	react(client, cloud, c, "-busy", busyReactions, reactions)
	must(0, changes.Wait())
	peak, _ := memory(program.Process.Pid)
	tell("peak-end", peak)
	program.end()
}

// Measures the start alone.
func start(cloud simulator, command []string) {
	program := spawn(command)
	program.waitForFirstChange(cloud)
	program.end()
}

// Measures a command that ends.
func once(command []string) {
	child := exec.Command(command[0], command[1:]...)
	errors := must(child.StderrPipe())
	child.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	began := time.Now()
	must(0, child.Start())
	lines, peak := 0.0, 0.0
	go func() {
		for buffer := make([]byte, 1<<16); ; {
			count, err := errors.Read(buffer)
			lines += float64(strings.Count(string(buffer[:count]), "reading the cluster:"))
			os.Stderr.Write(buffer[:count])
			if err != nil {
				return
			}
		}
	}()
	ended := make(chan error)
	go func() { ended <- child.Wait() }()
	for tick := time.Tick(20 * time.Millisecond); ; {
		select {
		case <-ended:
			tell("ended", time.Since(began).Seconds())
			tell("exit", float64(child.ProcessState.ExitCode()))
			tell("cpu", child.ProcessState.UserTime().Seconds()+child.ProcessState.SystemTime().Seconds())
			tell("peak", peak)
			tell("progress", lines)
			return
		case <-tick:
			if status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", child.Process.Pid)); err == nil && strings.Contains(string(status), "VmHWM") {
				peak, _ = memory(child.Process.Pid)
			}
		}
	}
}
