package render

import (
	"slices"

	"fairway/confgen/route"
)

// Helper is a location of nginx that asks another service about a request, or copies it there.
type Helper struct {
	URI         string
	ForwardAuth *route.ForwardAuth // one of the two
	Mirror      *route.Mirror
}

// AuthURI is where a location asks about its requests; "" for nowhere.
func (l Location) AuthURI() string {
	if l.Options == nil || l.Options.ForwardAuth == nil {
		return ""
	}
	return "//fairway/auth/" + l.Backend
}

// MirrorURI is where a location copies its requests to; "" for nowhere.
func (l Location) MirrorURI() string {
	if l.Options == nil || l.Options.Mirror == nil || l.Options.Mirror.Backend == "" {
		return ""
	}
	return "//fairway/mirror/" + l.Backend
}

// Helpers are those that locations of a server block ask for.
func (v VirtualServer) Helpers() []Helper {
	var list []Helper
	add := func(h Helper) {
		if h.URI != "" && !slices.ContainsFunc(list, func(o Helper) bool { return o.URI == h.URI }) {
			list = append(list, h)
		}
	}
	for l := range v.all {
		if uri := l.AuthURI(); uri != "" {
			add(Helper{URI: uri, ForwardAuth: l.Options.ForwardAuth})
		}
		if uri := l.MirrorURI(); uri != "" {
			add(Helper{URI: uri, Mirror: l.Options.Mirror})
		}
	}
	return list
}

// all yields every location of a server block, inner ones too.
func (v VirtualServer) all(yield func(Location) bool) {
	var walk func([]Location) bool
	walk = func(locations []Location) bool {
		for _, l := range locations {
			if !yield(l) || !walk(l.Inner) {
				return false
			}
		}
		return true
	}
	_ = walk(v.Locations) && walk(v.Named) && walk(v.Targets)
}
