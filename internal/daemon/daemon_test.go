package daemon

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/urfave/cli/v2"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// get returns the status code and body of a page of d.
func get(t *testing.T, d *Daemon, path string) (int, string) {
	t.Helper()
	addr, err := d.Addr(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	req, _ := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr.String()+path, nil)
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body)
}

func TestServe_F67_readinessHealthAndMetrics(t *testing.T) {
	d := ForTest(hclog.NewNullLogger(), "127.0.0.1:0")
	consul := d.Condition("consul")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	err := d.Serve(ctx, func(ctx context.Context) error {
		if code, body := get(t, d, "/readyz"); code != 503 || !strings.Contains(body, "consul: not yet") {
			t.Errorf("at start: %d %q", code, body)
		}
		consul.Set(errors.New("connection refused"))
		if code, body := get(t, d, "/readyz"); code != 503 || !strings.Contains(body, "consul: connection refused") {
			t.Errorf("without Consul: %d %q", code, body)
		}
		consul.Set(nil)
		if code, body := get(t, d, "/readyz"); code != 200 || body != "consul: ok\n" {
			t.Errorf("with Consul: %d %q", code, body)
		}
		if code, body := get(t, d, "/healthz"); code != 200 || body != "ok\n" {
			t.Errorf("health: %d %q", code, body)
		}
		if code, body := get(t, d, "/metrics"); code != 200 || !strings.Contains(body, "go_goroutines") {
			t.Errorf("metrics: %d, %d bytes", code, len(body))
		}
		stop()
		<-ctx.Done()
		// Readiness turns false before the planned stop, while the listener still answers.
		for range 100 {
			if code, _ := get(t, d, "/readyz"); code == 503 {
				return nil
			}
		}
		t.Error("still ready while stopping")
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestServe_returnsTheErrorOfRun(t *testing.T) {
	want := errors.New("broken")
	for _, addr := range []string{"", "127.0.0.1:0"} {
		d := ForTest(hclog.NewNullLogger(), addr)
		if err := d.Serve(t.Context(), func(context.Context) error { return want }); !errors.Is(err, want) {
			t.Errorf("on %q: %v", addr, err)
		}
	}
}

func TestServe_namesAnAddressItCannotTake(t *testing.T) {
	d := ForTest(hclog.NewNullLogger(), "192.0.2.1:1")
	err := d.Serve(t.Context(), func(context.Context) error { t.Error("ran"); return nil })
	if err == nil || !strings.Contains(err.Error(), "192.0.2.1:1") {
		t.Error(err)
	}
}

func TestCondition_logsOnceAChange(t *testing.T) {
	var log bytes.Buffer
	d := ForTest(hclog.New(&hclog.LoggerOptions{Output: &log}), "")
	c := d.Condition("docker")
	for _, err := range []error{io.EOF, io.EOF, nil, nil, io.ErrClosedPipe, io.EOF, nil} {
		c.Set(err)
	}
	if got := strings.Count(log.String(), "\n"); got != 4 {
		t.Errorf("%d lines, want 4:\n%s", got, log.String())
	}
}

func TestMain_exitCodes(t *testing.T) {
	stderr := os.Stderr
	t.Cleanup(func() { os.Stderr = stderr })
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	os.Stderr = null
	for _, c := range []struct {
		name   string
		action cli.ActionFunc
		args   []string
		want   int
	}{
		{"done", func(*cli.Context) error { return nil }, nil, 0},
		{"failed", func(*cli.Context) error { return io.EOF }, nil, 1},
		{"usage", func(*cli.Context) error { return Usagef("--x: want y") }, nil, 2},
		{"unknown flag", func(*cli.Context) error { return nil }, []string{"--nonsense"}, 2},
		{"its own code", func(*cli.Context) error { return cli.Exit("unchanged", 5) }, nil, 5},
		{"SIGTERM", func(c *cli.Context) error {
			if err := syscall.Kill(os.Getpid(), syscall.SIGTERM); err != nil {
				return err
			}
			<-c.Done()
			return nil
		}, nil, 0},
	} {
		app := &cli.App{Name: "test", Action: c.action, Writer: io.Discard, ErrWriter: io.Discard}
		if got := Main(app, append([]string{"test"}, c.args...)); got != c.want {
			t.Errorf("%s: exit code %d, want %d", c.name, got, c.want)
		}
	}
}

func TestMain_anEmptyVariableIsNone(t *testing.T) {
	t.Setenv("TEST_HTTP_ADDR", "")
	t.Setenv("TEST_LOG_JSON", "")
	app := &cli.App{Name: "test", Flags: Flags("test", ":7"), Action: func(c *cli.Context) error {
		if c.String("http-addr") != ":7" || c.Bool("log-json") {
			t.Errorf("--http-addr %q, --log-json %t", c.String("http-addr"), c.Bool("log-json"))
		}
		return nil
	}}
	if code := Main(app, []string{"test"}); code != ExitDone {
		t.Errorf("exit code %d", code)
	}
}

func TestNew_refusesWrongValues(t *testing.T) {
	for _, args := range [][]string{{"--log-level", "loud"}, {"--http-addr", "nowhere"}} {
		var got error
		app := &cli.App{Name: "test", Flags: Flags("test", ":0"), Action: func(c *cli.Context) error {
			_, got = New(c, "test")
			return nil
		}}
		if err := app.Run(append([]string{"test"}, args...)); err != nil {
			t.Fatal(err)
		}
		if exitCode(got) != ExitUsage || !strings.Contains(got.Error(), args[0]) || !strings.Contains(got.Error(), "want ") {
			t.Errorf("%v: %v", args, got)
		}
	}
}

func TestOutlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		parent, end := context.WithCancel(t.Context())
		ctx, cancel := Outlive(parent, time.Second)
		defer cancel()
		started := time.Now()
		end()
		<-ctx.Done()
		if took := time.Since(started); took != time.Second {
			t.Errorf("ended %s after its parent", took)
		}
	})
}
