//go:build real

package proxy

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"fairway/confgen/proxy/haproxy"
	"fairway/confgen/render"
	"fairway/internal/reconcile"
	"fairway/internal/testbed"

	"github.com/google/go-cmp/cmp"
)

// compare says how wanted, disk, running HAProxy and one freshly started from disk differ.
func (r *rig) compare() error {
	main, err := os.ReadFile(filepath.Join(r.world.dir, "haproxy.cfg"))
	if err != nil {
		return err
	}
	want := r.world.files()[0].Data
	if before, after, ok := bytes.Cut(want, []byte(render.Generation)); ok && (!bytes.HasPrefix(main, before) || !bytes.HasSuffix(main, after)) {
		return fmt.Errorf("disk is not what was wanted: %s", cmp.Diff(string(want), string(main)))
	}
	stats, _ := r.world.sockets()
	running, err := dump(r.t.Context(), stats, main)
	if err != nil {
		return err
	}
	fresh, err := r.freshStart(main)
	if err != nil {
		return fmt.Errorf("fresh start: %w", err)
	}
	if diff := cmp.Diff(fresh, running); diff != "" {
		return fmt.Errorf("running haproxy is not what a fresh start gives (-fresh +running):\n%s", diff)
	}
	return nil
}

// dump lists servers (without those that only wait for their deletion) and map entries of a
// running HAProxy. It reads HAProxy's own tables by itself, not with the code under test.
func dump(ctx context.Context, stats string, main []byte) ([]string, error) {
	conn, err := haproxy.Socket{Path: stats}.Worker(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	state, err := conn.Ask(ctx, "show servers state")
	if err != nil {
		return nil, err
	}
	written, backend := map[string]bool{}, ""
	for line := range strings.Lines(string(main)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "backend" {
			backend = f[1]
		} else if len(f) > 1 && f[0] == "server" {
			written[backend+"/"+f[1]] = true
		}
	}
	var out []string
	for _, line := range strings.Split(state, "\n")[2:] {
		// be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight … srv_port
		f := strings.Fields(line)
		if len(f) < 19 {
			continue
		}
		maint := "ready"
		if f[6] != "0" && f[6] != "4" { // 4: was disabled in the file, and is no longer.
			maint = "maint"
		}
		if maint == "maint" && !written[f[1]+"/"+f[3]] {
			continue
		}
		out = append(out, strings.Join([]string{"server", f[1], f[3], f[2], f[4], f[18], f[7], maint}, " "))
	}
	maps, err := conn.Ask(ctx, "show map")
	if err != nil {
		return nil, err
	}
	for _, line := range strings.Split(maps, "\n")[1:] {
		_, name, _ := strings.Cut(line, "(")
		name, _, _ = strings.Cut(name, ")")
		entries, err := conn.Ask(ctx, "show map "+name)
		if err != nil {
			return nil, err
		}
		for e := range strings.SplitSeq(entries, "\n") {
			_, e, _ = strings.Cut(e, " ")
			out = append(out, filepath.Base(name)+" "+e)
		}
	}
	slices.Sort(out)
	return out, nil
}

// freshStart starts HAProxy on a copy of the folder, with other sockets and another port.
func (r *rig) freshStart(main []byte) ([]string, error) {
	dir, err := os.MkdirTemp("", "fw")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	turn := strings.NewReplacer(r.world.dir, dir, "127.0.0.1:"+r.world.port, fmt.Sprintf("127.0.0.1:%d", testbed.Port(r.t)))
	for _, f := range []string{"haproxy.cfg", "maps/hosts.map"} {
		data, err := os.ReadFile(filepath.Join(r.world.dir, f))
		if err != nil {
			return nil, err
		}
		_ = os.MkdirAll(filepath.Join(dir, filepath.Dir(f)), 0o755)
		if err := os.WriteFile(filepath.Join(dir, f), []byte(turn.Replace(string(data))), 0o644); err != nil {
			return nil, err
		}
	}
	if err := os.Mkdir(filepath.Join(dir, "run"), 0o755); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(r.t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, testbed.Program(r.t, "haproxy"), "-db", "-f", filepath.Join(dir, "haproxy.cfg"))
	var said bytes.Buffer
	cmd.Stderr = &said
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	defer func() { cancel(); _ = cmd.Wait() }()
	for {
		fresh, err := dump(ctx, filepath.Join(dir, "run/stats.sock"), main)
		if err == nil || ctx.Err() != nil {
			return fresh, err
		}
		_ = reconcile.Sleep(ctx, 10*time.Millisecond)
	}
}

// equal waits until everything is compared equal: a foreign reload may be under way.
func (r *rig) equal() {
	r.t.Helper()
	testbed.Eventually(r.t, 30*time.Second, "wanted, disk, running and fresh haproxy are equal", r.compare)
}

func TestCompare_seesFalsification(t *testing.T) {
	for name, falsify := range map[string]string{
		"weight": "set server a/n1_%s weight 7",
		"state":  "set server a/n1_%s state maint",
		"drain":  "set server a/n1_%s state drain",
		"addr":   "set server a/n1_%s addr 127.0.0.9",
		"map":    "add map %[2]s/maps/hosts.map x.test a",
		"mapdel": "del map %[2]s/maps/hosts.map a.test",
		"extra":  "add server a/extra 127.0.0.1:1 id 77;set server a/extra state ready",
		"lost":   "set server a/n1_%[1]s state maint;del server a/n1_%[1]s",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t)
			web := backends(t, 2)
			r.world.backends["a"] = []string{serverLine(web[0], 100, ""), serverLine(web[1], 100, "")}
			r.world.hosts["a.test"] = "a"
			r.up()
			r.equal()
			stats, _ := r.world.sockets()
			conn := mustRun[*haproxy.Conn](t)(haproxy.Socket{Path: stats}.Worker(t.Context()))
			defer conn.Close()
			for command := range strings.SplitSeq(fmt.Sprintf(falsify+"%.0[1]s%.0[2]s", web[0], r.world.dir), ";") {
				mustRun[string](t)(conn.Do(t.Context(), command))
			}
			if err := r.compare(); err == nil {
				t.Fatalf("%q was not seen", falsify)
			}
			// F36: the resync finds it and repairs it.
			r.target.verified = time.Time{}
			if res := r.apply(); res.Reloads != 0 || res.Commands == 0 {
				t.Errorf("F36: repair: %+v, expected runtime commands only", res)
			}
			r.equal()
		})
	}
}
