//go:build bench

package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// ticks is the kernel's clock for processor time, the same on every Linux that Go runs on.
const ticks = 100

// processorTime is what a process, its children that have ended, and its children that run have
// used. HAProxy's master and its workers are such a family.
func processorTime(b testing.TB, pid int) time.Duration {
	b.Helper()
	total := 0
	fields := stat(b, pid)
	for _, f := range fields[11:15] { // utime stime cutime cstime
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		total += n
	}
	sum := time.Duration(total) * time.Second / ticks
	children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if err != nil {
		b.Fatal(err)
	}
	for child := range strings.FieldsSeq(string(children)) {
		if n, err := strconv.Atoi(child); err == nil {
			if _, err := os.Stat("/proc/" + child); err == nil {
				sum += processorTime(b, n)
			}
		}
	}
	return sum
}

// stat returns the fields of /proc/PID/stat behind the name.
func stat(b testing.TB, pid int) []string {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := bytes.Cut(data, []byte(") "))
	return strings.Fields(string(rest))
}

// memory is what a process holds now, and at most so far, in MiB.
func memory(b testing.TB, pid int) (now, most float64) {
	b.Helper()
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(line, ":")
		kib, _ := strconv.ParseFloat(strings.TrimSuffix(strings.TrimSpace(value), " kB"), 64)
		switch name {
		case "VmRSS":
			now = kib / 1024
		case "VmHWM":
			most = kib / 1024
		}
	}
	return now, most
}
