package render

import (
	"path"
	"strings"
)

// socketMost is how long the path of a socket may be: HAProxy binds one under a longer name first.
const socketMost = 90

// NextSocket is where a worker that was replaced hands on what its clients still ask: an entrypoint of the
// worker that came after it. It lies beside the runtime socket, where HAProxy can surely write, and has
// its name, which no other HAProxy has. "" is none.
func (d *data) NextSocket(entrypoint string) string {
	stats := d.Settings.StatsSocket
	next := strings.TrimSuffix(stats, ".sock") + "-next-" + entrypoint + ".sock"
	if !path.IsAbs(stats) || len(next) > socketMost || strings.Contains(next, ",") { // it is one of a list
		return ""
	}
	return next
}
