package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"hash/fnv"
	"html/template"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// maxSlow bounds /slow, so that a typing error does not hold a connection for a day.
const maxSlow = 10 * time.Minute

var (
	//go:embed page.html
	pageSource string
	//go:embed logo.svg
	logo string

	page = template.Must(template.New("page").Parse(pageSource))
)

// site is the HTTP side of the program.
type site struct {
	name, node string
	addresses  []string
	mux        *http.ServeMux

	draining atomic.Bool  // SIGTERM came: unhealthy, and every answer asks to close
	served   atomic.Int64 // requests answered so far, health checks excluded
}

func newSite(opt options) *site {
	s := &site{name: opt.name, node: opt.node, addresses: ownAddresses(), mux: http.NewServeMux()}
	s.mux.HandleFunc("/", s.front)
	s.mux.HandleFunc("GET /healthz", s.healthz)
	s.mux.HandleFunc("/slow", s.slow)
	s.mux.HandleFunc("GET /logo.svg", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "image/svg+xml")
		w.Header().Set("Cache-Control", "max-age=3600")
		fmt.Fprint(w, logo)
	})
	return s
}

// ServeHTTP signs every answer: tests and curious users read from the headers
// which container, address and node it came from.
func (s *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	header := w.Header()
	header.Set("X-Served-By", s.name)
	header.Set("X-Served-Address", localAddress(r))
	if s.node != "" {
		header.Set("X-Served-Node", s.node)
	}
	if s.draining.Load() {
		header.Set("Connection", "close")
	}
	s.mux.ServeHTTP(w, r)
}

// healthz is 200 while the instance wants traffic and 503 once it drains.
func (s *site) healthz(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", "no-store")
	if s.draining.Load() {
		http.Error(w, "draining", http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// slow answers after ?ms= milliseconds: a request that is under way while the
// world changes.
func (s *site) slow(w http.ResponseWriter, r *http.Request) {
	ms, err := strconv.Atoi(r.FormValue("ms"))
	if err != nil || ms < 0 || time.Duration(ms)*time.Millisecond > maxSlow {
		http.Error(w, fmt.Sprintf("ms must be a number from 0 to %d", maxSlow.Milliseconds()), http.StatusBadRequest)
		return
	}
	wait := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer wait.Stop()
	select {
	case <-wait.C:
	case <-r.Context().Done():
		return // The client has gone; there is nobody to answer.
	}
	s.served.Add(1)
	w.Header().Set("Cache-Control", "no-store")
	fmt.Fprintf(w, "%s answered after %d ms\n", s.name, ms)
}

// row is one line of the page's table.
type row struct{ Name, Value string }

// view is what the page shows.
type view struct {
	Logo    template.HTML
	Name    string
	Node    string
	Address string
	Hue     uint32
	Served  int64
	Rows    []row
}

// front shows the page, on every path: whatever route leads here, the answer
// tells where it was sent and how it arrived.
func (s *site) front(w http.ResponseWriter, r *http.Request) {
	v := view{
		Logo:    template.HTML(logo), // Our own file, compiled in.
		Name:    s.name,
		Node:    s.node,
		Address: localAddress(r),
		Hue:     hue(s.name),
		Served:  s.served.Add(1),
		Rows: []row{
			{"Requested", r.Method + " " + r.Host + r.URL.RequestURI()},
			{"Asked by", r.RemoteAddr},
			{"Forwarded for", r.Header.Get("X-Forwarded-For")},
			{"Forwarded protocol", r.Header.Get("X-Forwarded-Proto")},
			{"All addresses", strings.Join(s.addresses, ", ")},
		},
	}
	v.Rows = slices.DeleteFunc(v.Rows, func(r row) bool { return r.Value == "" })

	var body bytes.Buffer
	if err := page.Execute(&body, v); err != nil {
		http.Error(w, fmt.Sprintf("page: %v", err), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	_, _ = body.WriteTo(w) // A client that went away is no error of ours.
}

// localAddress is the address the request arrived at: inside a container, the
// container's own.
func localAddress(r *http.Request) string {
	addr, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if !ok {
		return ""
	}
	host, _, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	return host
}

// ownAddresses lists the addresses of all interfaces but the loopback.
func ownAddresses() []string {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return nil // The page then shows only the address that was asked.
	}
	var list []string
	for _, addr := range addrs {
		if ip, ok := addr.(*net.IPNet); ok && ip.IP.IsGlobalUnicast() {
			list = append(list, ip.IP.String())
		}
	}
	return list
}

// hue gives each instance a colour of its own, the same on every visit.
func hue(name string) uint32 {
	h := fnv.New32a()
	h.Write([]byte(name))
	// Neighbouring names should differ at a glance: spread by the golden angle.
	return uint32(float64(h.Sum32()%1024)*137.508) % 360
}
