//go:build real

package render_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// TestForwardAuth has a service decide about each request by a header, and wants everything that
// is not its yes refused; HAProxy refuses the label.
func TestForwardAuth(t *testing.T) {
	door := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		ok := err == nil && len(body) == 0 && r.Method == http.MethodGet && r.RequestURI == "/verify?x=1" &&
			r.Header.Get("X-Forwarded-For") == "127.0.0.1" && r.Header.Get("X-Forwarded-Host") == "a.com" &&
			r.Header.Get("X-Forwarded-Method") == "POST" && r.Header.Get("X-Forwarded-Uri") == "/in%2f?q"
		switch key := r.Header.Get("X-Key"); {
		case key == "":
			w.Header().Set("WWW-Authenticate", `Bearer realm="door"`)
			w.WriteHeader(http.StatusUnauthorized)
		case !ok:
			w.WriteHeader(http.StatusTeapot)
		case key == "good":
			w.WriteHeader(http.StatusNoContent)
		case key == "away":
			w.Header().Set("Location", "http://login/")
			w.WriteHeader(http.StatusFound)
		default:
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(door.Close)
	address := strings.TrimPrefix(door.URL, "http://")
	s := catalog(t, fmt.Sprintf(`
Door n %s passing 1 fairway-host=door.com
shut n ADDRESS passing 2 fairway-host=a.com fairway-forward-auth=http://door/verify?x=1
direct n ADDRESS passing 3 fairway-host=a.com fairway-path=/direct "fairway-forward-auth=http://%s/verify?x=1"
dead n DEAD passing 4 fairway-host=dead.com
lost n ADDRESS passing 5 fairway-host=a.com fairway-path=/lost fairway-forward-auth=http://dead/ fairway-methods=POST
open n ADDRESS passing 6 fairway-host=a.com fairway-path=/open
`, address, address))
	dir := t.TempDir()
	front := start(t, 1, dir, viewFor(t, 1, s, dir))
	for _, c := range []struct{ path, key, want string }{
		{"/in%2f?q", "good", "shut"},
		{"/in%2f?q", "bad", "403"},
		{"/in%2f?q", "", "401"},
		{"/in%2f?q", "away", "500"},
		{"/direct", "", "401"},
		{"/lost", "good", "500"},
		{"/open", "", "open"},
		{"//fairway/auth/shut", "good", "404"},
	} {
		got := send(t, front, "POST "+c.path+" HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\nX-Key: "+c.key+"\r\nContent-Length: 4\r\n\r\nbody")
		if got.who() != c.want {
			t.Errorf("%+v: %s", c, got.who())
		}
		if challenge := got.header.Get("WWW-Authenticate"); (challenge != "") != (c.want == "401") {
			t.Errorf("%+v: challenge %q", c, challenge)
		}
	}
}

// TestMirror wants each request to reach the copy's service as well, whole, and nothing to depend
// on its answer; HAProxy refuses the label.
func TestMirror(t *testing.T) {
	copies := make(chan string, 10)
	mirror := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		copies <- fmt.Sprintf("%s %s %s %s %s %v", r.Method, r.Host, r.RequestURI, r.Header.Get("X-Forwarded-For"), body, err)
		w.WriteHeader(http.StatusInternalServerError)
	}))
	t.Cleanup(mirror.Close)
	s := catalog(t, fmt.Sprintf(`
copy n %s passing 1 fairway-host=copy.com
shop n ADDRESS passing 2 fairway-host=a.com fairway-path=/api fairway-strip=true fairway-mirror=copy
dead n DEAD passing 3 fairway-host=dead.com
lost n ADDRESS passing 4 fairway-host=lost.com fairway-mirror=dead
`, strings.TrimPrefix(mirror.URL, "http://")))
	dir := t.TempDir()
	front := start(t, 1, dir, viewFor(t, 1, s, dir))
	got := send(t, front, "PUT /api/x?y HTTP/1.1\r\nHost: a.com\r\nConnection: close\r\nX-Forwarded-For: 10.9.9.9\r\nContent-Length: 4\r\n\r\nbody")
	if got.who() != "shop" || !strings.Contains(got.body, "PUT /x?y\n") {
		t.Errorf("%+v", got)
	}
	select {
	case seen := <-copies:
		if want := "PUT a.com /api/x?y 127.0.0.1 body <nil>"; seen != want {
			t.Errorf("the copy is %q, want %q", seen, want)
		}
	case <-time.After(10 * time.Second):
		t.Error("no copy")
	}
	if got := get(t, front, "lost.com", "/"); got.who() != "lost" {
		t.Errorf("without anybody to take the copy: %+v", got)
	}
}
