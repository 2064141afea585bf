//go:build real || soak

package soak

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// held reads one node of the catalog the way a front end sees it.
func held(consul *api.Client, node string) (map[string]row, error) {
	list, _, err := consul.Catalog().NodeServiceList(node, nil)
	if err != nil {
		return nil, err
	}
	checks, _, err := consul.Health().Node(node, nil)
	if err != nil {
		return nil, err
	}
	rows := map[string]row{}
	for _, s := range list.Services {
		tags := s.Tags
		if len(tags) == 0 {
			tags = nil
		}
		rows[s.ID] = row{
			name: s.Service, address: fmt.Sprintf("%s:%d", s.Address, s.Port), tags: fmt.Sprint(tags), meta: fmt.Sprint(s.Meta),
			status: "no check",
		}
	}
	alive := false
	for _, k := range checks {
		r, known := rows[k.ServiceID]
		switch {
		case k.CheckID == "fairway:alive":
			alive = k.Status == api.HealthPassing
		case !known:
			return nil, fmt.Errorf("check %s is of no service", k.CheckID)
		case k.CheckID == "service:"+k.ServiceID:
			r.status = k.Status + ": " + k.Output
		case k.CheckID == "check:"+k.ServiceID+":http":
			r.http = k.Status
		default:
			return nil, fmt.Errorf("check %s is not known", k.CheckID)
		}
		if known {
			rows[k.ServiceID] = r
		}
	}
	if !alive {
		return nil, fmt.Errorf("node %s is not alive in the catalog", node)
	}
	return rows, nil
}

// differ says how rows in the catalog differ from those expected; nil when they do not.
func differ(want, got map[string]row) error {
	var faults []error
	for _, id := range slices.Sorted(maps.Keys(want)) {
		w, g := want[id], got[id]
		switch {
		case g == (row{}):
			faults = append(faults, fmt.Errorf("%s is missing", id))
		case !same(w, g):
			faults = append(faults, fmt.Errorf("%s is %+v, want %+v", id, g, w))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(got)) {
		if _, wanted := want[id]; !wanted {
			faults = append(faults, fmt.Errorf("%s is there and should not", id))
		}
	}
	return errors.Join(faults...)
}

func same(want, got row) bool {
	ok := strings.HasPrefix(got.status, want.status)
	if want.status == "critical: paused" { // a stop whose engine died in the middle of it
		ok = ok || got.status == "critical: stopping"
	}
	if want.http == "any" && got.http != "" {
		want.http = got.http
	}
	want.status, got.status = "", ""
	return ok && want == got
}
