package haproxy

import (
	"bufio"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fake is a socket that answers as HAProxy 2.6 does on the wire, except where answer says
// otherwise.
type fake struct {
	t      *testing.T
	socket Socket
	prompt string
	answer func(f *fake, conn net.Conn, command string, payload []string) string

	mu       sync.Mutex
	commands []string
	longest  int
	conns    int
}

func newFake(t *testing.T, prompt string, answer func(f *fake, conn net.Conn, command string, payload []string) string) *fake {
	t.Helper()
	f := &fake{t: t, prompt: prompt, answer: answer, socket: Socket{Path: filepath.Join(t.TempDir(), "s")}}
	l, err := net.Listen("unix", f.socket.Path)
	if err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			f.mu.Lock()
			f.conns++
			f.mu.Unlock()
			done.Go(func() { f.serve(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); done.Wait() })
	return f
}

func (f *fake) serve(conn net.Conn) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		size := len(line)
		command := strings.TrimSuffix(line, "\n")
		var payload []string
		if strings.HasSuffix(command, " <<") {
			for {
				line, err := r.ReadString('\n')
				if err != nil {
					return
				}
				size += len(line)
				if line == "\n" {
					break
				}
				payload = append(payload, strings.TrimSuffix(line, "\n"))
			}
		}
		f.mu.Lock()
		f.longest = max(f.longest, size)
		f.commands = append(f.commands, command)
		f.mu.Unlock()
		f.reply(conn, command, payload)
	}
}

// reply writes the answer and the prompt; "+ " for every line of a payload comes in front.
func (f *fake) reply(conn net.Conn, command string, payload []string) {
	answer := ""
	if command != "prompt" && command != "set severity-output number" {
		answer = f.answer(f, conn, command, payload)
	}
	if len(payload) > 0 {
		answer = strings.Repeat("+ ", len(payload)+1) + answer
	}
	if answer != "" {
		answer += "\n"
	}
	_, _ = fmt.Fprintf(conn, "%s\n%s> ", answer, f.prompt)
}

func (f *fake) sent() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var list []string
	for _, c := range f.commands {
		if c != "prompt" && !strings.HasPrefix(c, "set severity") && !strings.HasPrefix(c, "show ") {
			list = append(list, c)
		}
	}
	return list
}

// worker is a fake worker with one backend "a" whose servers and maps live in memory.
type worker struct {
	pid, stopping int
	description   string
	servers       []string // "id name addr port weight admin"
	maps          map[string][]string
	pending       map[string][]string
	refuse        func(command string) string // a refusal, or "" to go on
}

func (w *worker) answer(_ *fake, _ net.Conn, command string, payload []string) string {
	if w.refuse != nil {
		if text := w.refuse(command); text != "" {
			return text
		}
	}
	words := strings.Fields(command)
	switch {
	case command == "show info":
		return fmt.Sprintf("Name: HAProxy\nVersion: 2.6.12\nPid: %d\nStopping: %d\ndescription: %s\nStart_time_sec: 5\n", w.pid, w.stopping, w.description)
	case strings.HasPrefix(command, "show servers state"):
		out := "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight srv_iweight srv_time_since_last_change srv_port srv_check_state\n"
		for _, s := range w.servers {
			f := strings.Fields(s)
			out += fmt.Sprintf("3 a %s %s %s 2 %s %s 100 9 %s 6\n", f[0], f[1], f[2], f[5], f[4], f[3])
		}
		return out
	case command == "show map":
		out := "# id (file) description\n"
		for name := range w.maps {
			out += fmt.Sprintf("1 (%s) pattern loaded from file '%s' used by map at file 'x' line 1.\n", name, name)
		}
		return out
	case strings.HasPrefix(command, "show map "):
		out := ""
		for _, e := range w.maps[words[2]] {
			out += "0x1 " + e + "\n"
		}
		return out
	case strings.HasPrefix(command, "prepare map "):
		w.pending = map[string][]string{}
		return "[6]: New version created: 4"
	case strings.HasPrefix(command, "add map @4 "):
		w.pending[words[3]] = append(w.pending[words[3]], payload...)
		return ""
	case strings.HasPrefix(command, "commit map @4 "):
		w.maps[words[3]] = w.pending[words[3]]
		return ""
	case strings.HasPrefix(command, "add server "):
		host, port, _ := net.SplitHostPort(words[3])
		w.servers = append(w.servers, fmt.Sprintf("%s %s %s %s %s 1", words[5], strings.TrimPrefix(words[2], "a/"), host, port, words[7]))
		return "[6]: New server registered."
	}
	return w.change(words)
}

func (w *worker) change(words []string) string {
	name := strings.TrimPrefix(words[2], "a/")
	for i, s := range w.servers {
		f := strings.Fields(s)
		if f[1] != name {
			continue
		}
		switch strings.Join(words[:2], " ") + " " + strings.Join(words[3:min(4, len(words))], "") {
		case "set server state":
			f[5] = map[string]string{"maint": "1", "ready": "0"}[words[4]]
		case "set server weight":
			f[4] = words[4]
		case "set server addr":
			f[2], f[3] = words[4], words[6]
		case "del server ":
			w.servers = append(w.servers[:i], w.servers[i+1:]...)
			return "[6]: Server deleted."
		}
		w.servers[i] = strings.Join(f, " ")
		return ""
	}
	return "[3]: No such server."
}
