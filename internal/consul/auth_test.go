package consul

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

// A user and password in an address are for whatever stands before Consul, and never printed.
func TestNew_userInTheAddress(t *testing.T) {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, ok := r.BasicAuth(); !ok || user != "me" || password != "secret" {
			http.Error(w, "who are you", http.StatusUnauthorized)
			return
		}
		_, _ = w.Write([]byte(`"127.0.0.1:8300"`))
	}))
	defer server.Close()
	for address, allowed := range map[string]bool{
		strings.Replace(server.URL, "//", "//me:secret@", 1): true,
		strings.Replace(server.URL, "//", "//me:public@", 1): false,
		server.URL: false,
	} {
		client, err := New(Config{Addresses: []string{address}})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.Status().Leader()
		if (err == nil) != allowed {
			t.Errorf("%s: %v", address, err)
		}
		if err != nil && (strings.Contains(err.Error(), "secret") || strings.Contains(err.Error(), "public")) {
			t.Errorf("the error has the password: %v", err)
		}
	}
}
