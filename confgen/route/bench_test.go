package route_test

import (
	"fmt"
	"slices"
	"testing"

	"fairway/confgen/route"
	"fairway/confgen/route/routetest"
)

func BenchmarkBuild(b *testing.B) {
	for _, size := range []struct{ services, instances int }{{1000, 3}, {5000, 10}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.instances), func(b *testing.B) {
			s := routetest.Large(size.services, size.instances)
			b.ReportAllocs()
			for b.Loop() {
				if t := route.Build(s, route.Settings{}); len(t.Routes) != size.services || len(t.Problems) > 0 {
					b.Fatalf("%d routes, %d problems", len(t.Routes), len(t.Problems))
				}
			}
		})
	}
}

// BenchmarkIncremental is one change, as confgen sees it.
func BenchmarkIncremental(b *testing.B) {
	for _, size := range []struct{ services, instances int }{{100, 10}, {5000, 10}} {
		b.Run(fmt.Sprintf("%dx%d", size.services, size.instances), func(b *testing.B) {
			s := routetest.Large(size.services, size.instances)
			m := route.NewIncremental(route.Settings{})
			m.Build(s)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				changed := &s.Services[i%len(s.Services)]
				changed.Instances = slices.Clone(changed.Instances)
				changed.Instances[0].Port = 1 + i%60000
				if t := m.Build(s); len(t.Routes) != size.services || len(t.Problems) > 0 {
					b.Fatalf("%d routes, %d problems", len(t.Routes), len(t.Problems))
				}
			}
		})
	}
}
