package route_test

import (
	"fmt"
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
