//go:build real

package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"fairway/internal/testbed"
)

// hangRequest begins a request to a container that takes a minute. It is made by a second process
// inside the engine's network namespace, because nothing else reaches that.
func (w *world) hangRequest(name string) {
	w.t.Helper()
	address := w.engine.Run("inspect", "-f", "{{.NetworkSettings.IPAddress}}", name)
	cmd := exec.Command("nsenter", "--net=/var/run/netns/"+w.engine.Namespace,
		testbed.Program(w.t, "curl"), "-sN", fmt.Sprintf("http://%s:8080/slow?ms=60000", address))
	if err := cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	testbed.Eventually(w.t, 5*time.Second, "the request is under way", func() error {
		out, err := exec.Command("nsenter", "--net=/var/run/netns/"+w.engine.Namespace, "ss", "-Htn", "state", "established").CombinedOutput()
		if err == nil && !strings.Contains(string(out), address+":8080") {
			err = errors.New("no connection yet")
		}
		return err
	})
}
