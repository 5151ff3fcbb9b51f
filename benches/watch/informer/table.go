package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

type numbers map[string]float64

// Times that a plan, an informer and a bare read take turns.
const rounds = 3

func ofRound(folder, name string, round int) numbers {
	return read(folder, fmt.Sprintf("%s-%d", name, round+1))
}

func read(folder, name string) numbers {
	read := numbers{}
	for line := range strings.Lines(string(must(os.ReadFile(filepath.Join(folder, name))))) {
		name, value := "", 0.0
		must(fmt.Sscan(line, &name, &value))
		read[name] = value
	}
	return read
}

// Prints what has been measured: ratios to client-go as it comes first.
func table(folder string) {
	program := read(folder, "program")
	informers := []numbers{read(folder, "plain"), read(folder, "bare"), read(folder, "keep")}
	small := read(folder, "small")
	fmt.Println("| | the program | client-go | without managedFields | with a transform |")
	fmt.Println("| --- | --- | --- | --- | --- |")
	for _, row := range []struct{ what, ours, theirs, unit string }{
		{"time until the first change of the cloud; until everything is listed", "first", "listed", "s"},
		{"CPU until then", "cpu", "cpu", "s"},
		{"largest resident memory, the first pass included", "peak", "peak", "MiB"},
		{"resident memory after a minute with 100 changes a second", "steady", "steady", "MiB"},
		{"CPU for that minute", "minute", "minute", "s"},
	} {
		fmt.Printf("| %s | **%s**", row.what, ratio(program[row.ours], informers[0][row.theirs]))
		for _, informer := range informers {
			fmt.Printf(" | %s", ratio(informer[row.theirs], informers[0][row.theirs]))
		}
		fmt.Printf(" |\n| | %.2f %s", program[row.ours], row.unit)
		for _, informer := range informers {
			fmt.Printf(" | %.2f %s", informer[row.theirs], row.unit)
		}
		fmt.Println(" |")
	}
	fmt.Println("\n| in turn | plan ends | client-go has listed | read and thrown away | CPU of plan | of client-go |")
	fmt.Println("| --- | --: | --: | --: | --: | --: |")
	for round := range rounds {
		plan, sync, bare := ofRound(folder, "plan", round), ofRound(folder, "sync", round), ofRound(folder, "read", round)
		fmt.Printf("| %d | **%s** %.1f s | %.1f s | %s %.1f s", round+1, ratio(plan["ended"], sync["listed"]), plan["ended"], sync["listed"], ratio(bare["read"], sync["listed"]), bare["read"])
		fmt.Printf(" | %s %.1f s | %.1f s |\n", ratio(plan["cpu"], sync["cpu"]), plan["cpu"], sync["cpu"])
	}
	once := ofRound(folder, "plan", 0)
	fmt.Println("\n| from the API server's answer to the first call that opens the port | p50 | p99 | p50, busy | p99, busy |")
	fmt.Println("| --- | --: | --: | --: | --: |")
	for _, row := range [][2]string{
		{"all of it", "all"}, {"until a client-go watch has the event", "told"}, {"from there, without the quiet time and the cloud's answers after it", "own"},
		{"what a program takes there that only waits and calls", "alone"},
	} {
		fmt.Printf("| %s", row[0])
		for _, column := range []string{"-p50", "-p99", "-busy-p50", "-busy-p99"} {
			fmt.Printf(" | %.1f ms", program[row[1]+column])
		}
		fmt.Println(" |")
	}
	fmt.Printf("\nCPU for a pod, from its creation until all is quiet again: %.0f ms\n", program["cpu-reactions"]*1000/reactions)
	fmt.Printf("first pass: %.0f changes of the cloud, the last answered after %.1f s; %.2f s of CPU until all was quiet\n", program["changes"], program["settled"], program["cpu-settled"])
	fmt.Printf("largest resident memory: %.0f MiB at the first change, %.0f MiB when quiet, %.0f MiB at the end\n", program["peak-first"], program["peak-settled"], program["peak-end"])
	fmt.Printf("the first plan: exit code %.0f after %.1f s, %.2f s of CPU, %.0f MiB at most, %.0f lines of progress\n", once["exit"], once["ended"], once["cpu"], once["peak"], once["progress"])
	fmt.Printf("10 nodes, 100 pods: first change of the cloud %.2f s after the start\n", small["first"])
}

// A number as a part of another, `1/3.0` or `3.0`.
func ratio(number, of float64) string {
	switch {
	case number == of:
		return "1"
	case number < of:
		return fmt.Sprintf("1/%.1f", of/number)
	default:
		return fmt.Sprintf("%.1f", number/of)
	}
}
