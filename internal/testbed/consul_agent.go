package testbed

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hashicorp/consul/api"
)

// Agent starts a client agent called node that has joined s. Where s has ACLs, the agent's own token
// is the server's. Stop, Start, Hang and Wipe do to it what they do to a server. Its node id is fixed:
// one that an agent made up goes with its data, and the servers then refuse the name to the next.
func (s *ConsulServer) Agent(t testing.TB, node string, args ...string) *ConsulServer {
	t.Helper()
	args = append([]string{"-retry-join", fmt.Sprintf("127.0.0.1:%d", s.serf), "-hcl", "leave_on_terminate = false", "-node-id", nodeID()}, args...)
	if s.Token != "" {
		args = append(args, "-hcl", `acl { enabled = true  default_policy = "deny"  tokens { agent = "`+s.Token+`" } }`)
	}
	return startConsul(t, node, s.Token, args...)
}

// ConsulACL starts a server that allows nothing without a token. Its Client may do everything.
func ConsulACL(t testing.TB, args ...string) *ConsulServer {
	t.Helper()
	const master = "11111111-2222-3333-4444-555555555555"
	return startConsul(t, "consul-server", master, append([]string{
		"-server", "-bootstrap", "-hcl",
		`acl { enabled = true  default_policy = "deny"  tokens { initial_management = "` + master + `"  agent = "` + master + `" } }`,
	}, args...)...)
}

// TokenFor makes a token that is allowed what rules say, a policy in HCL, and returns its secret.
func (s *ConsulServer) TokenFor(t testing.TB, rules string) string {
	t.Helper()
	policy, _, err := s.Client.ACL().PolicyCreate(&api.ACLPolicy{Name: fmt.Sprintf("test-%d", Port(t)), Rules: rules}, nil)
	if err != nil {
		t.Fatalf("create policy: %v\n%s", err, rules)
	}
	token, _, err := s.Client.ACL().TokenCreate(&api.ACLToken{Policies: []*api.ACLLink{{ID: policy.ID}}}, nil)
	if err != nil {
		t.Fatalf("create token: %v", err)
	}
	return token.SecretID
}

func nodeID() string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", rand.Uint32(), rand.Uint64()>>16)
}
