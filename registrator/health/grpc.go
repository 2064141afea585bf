package health

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"regexp"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"fairway/registrator/service"
)

// askGRPC asks by the gRPC health checking protocol, over a connection of its own: SERVING is
// passing, every other answer critical, as in Consul's own check.
// https://github.com/grpc/grpc/blob/master/doc/health-checking.md
func askGRPC(ctx context.Context, k service.Check) (service.Status, string) {
	address, name, _ := strings.Cut(k.Target, "/")
	transport := insecure.NewCredentials()
	if k.UseTLS {
		// Whoever asked for no verification has a certificate that nobody could verify.
		transport = credentials.NewTLS(&tls.Config{InsecureSkipVerify: k.SkipVerify}) //nolint:gosec // CHECK_TLS_SKIP_VERIFY
	}
	// The address is asked as it is: there is nothing to look up, and no proxy on the way.
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(transport), grpc.WithContextDialer(dialTCP))
	if err != nil {
		return service.Critical, err.Error()
	}
	defer conn.Close()
	answer, err := grpc_health_v1.NewHealthClient(conn).Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: name})
	asked := "gRPC health of " + address
	if name != "" {
		asked += ", service " + name
	}
	if err != nil {
		s := status.Convert(err)
		if s.Code() == codes.DeadlineExceeded {
			// The server heard of the deadline, and may end the call a moment before it has passed here.
			return service.Critical, unanswered(k)
		}
		return service.Critical, fmt.Sprintf("%s: %s: %s", asked, s.Code(), sameWords(s.Message()))
	}
	if answer.GetStatus() != grpc_health_v1.HealthCheckResponse_SERVING {
		return service.Critical, asked + ": " + answer.GetStatus().String()
	}
	return service.Passing, asked + ": " + answer.GetStatus().String()
}

// sameWords takes out of a message what would make the same failure look new every time: our end of a
// connection, and whether a server that hangs up is seen to end or to reset it, which is chance.
func sameWords(message string) string {
	return strings.ReplaceAll(localPort.ReplaceAllString(message, ""), "connection reset by peer", "EOF")
}

// localPort is our end of a connection, as Go's errors name it.
var localPort = regexp.MustCompile(`[0-9a-fA-F.:\[\]]+:[0-9]+->`)

func dialTCP(ctx context.Context, address string) (net.Conn, error) {
	return (&net.Dialer{}).DialContext(ctx, "tcp", address)
}
