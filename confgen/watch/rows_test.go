package watch

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"
)

// Whatever the answer before was, a text means what it means by itself.
func sameAsDecoded(t *testing.T, r *rows[check], text string) {
	t.Helper()
	want, _, refused := decode[check]([]byte(text))
	got, err := r.read([]byte(text))
	if (err == nil) != (refused == nil) {
		t.Fatalf("%s:\n%v, want %v", text, err, refused)
	}
	if err == nil && !(len(got) == 0 && len(want) == 0) && !reflect.DeepEqual(got, want) {
		t.Fatalf("%s:\n%v, want\n%v", text, got, want)
	}
	for i, p := range r.places {
		var one check
		if err := json.Unmarshal(r.text[p.from:p.to], &one); err != nil || one != got[i] {
			t.Fatalf("%s:\nobject %d does not stand at %v: %v", text, i, p, err)
		}
	}
}

func TestRows_readsWhatDecodingReads(t *testing.T) {
	words := []string{"a", "b", "", `"`, `}`, `{`, `},{`, `],[`, `\`, "ü", `{"Node":"x"}`}
	for seed := range 400 {
		random := rand.New(rand.NewPCG(uint64(seed), 0))
		word := func() string { return words[random.IntN(len(words))] }
		var list []check
		var r rows[check]
		for range 30 {
			for range 1 + random.IntN(3) {
				row := check{Node: word(), CheckID: word(), Status: word(), ModifyIndex: uint64(random.IntN(3))}
				at := random.IntN(len(list) + 1)
				switch {
				case random.IntN(3) == 0 && at < len(list):
					list = append(list[:at:at], list[at+1:]...)
				case random.IntN(2) == 0 && at < len(list):
					list = append(append(list[:at:at], row), list[at+1:]...)
				default:
					list = append(append(list[:at:at], row), list[at:]...)
				}
			}
			text, err := json.Marshal(list)
			if err != nil {
				t.Fatal(err)
			}
			spaced := string(text)
			switch random.IntN(6) {
			case 0:
				spaced += "\n"
			case 1:
				spaced = strings.ReplaceAll(spaced, `},{"Node"`, "},\n  {\"Node\"")
			case 2:
				spaced = spaced[:random.IntN(len(spaced))]
			}
			sameAsDecoded(t, &r, spaced)
		}
	}
}

func FuzzRows(f *testing.F) {
	f.Add(`[{"Node":"a"},{"Node":"b"}]`, `[{"Node":"a"},{"Node":"c"},{"Node":"b"}]`)
	f.Add(`[{"Node":"a"}]`, `[{"Node":"a"} {"Node":"a"}]`)
	f.Add(`[{"Node":"a"},{"Node":"b"}]`, `[{"Node":"a"},,{"Node":"b"}]`)
	f.Add(`[{"Node":"a"},{"Node":"b"}]`, `[{"Node":"a"}{"Node":"b"}]`)
	f.Add(`[]`, "null")
	f.Add(`[{"Node":"a"},{"Node":"b"},{"Node":"b"}]`, `[{"Node":"a"},{"Node":"b"}]`)
	f.Add(`[{"Node":"a"},{"Node":"b"}]`, `[{"Node":"a"},{"Node":"b"},{"Node":"b"}]`)
	f.Add(`[{"Node":"},{"}]`, `[{"Node":"}"},{"Node":"},{"}]`)
	f.Fuzz(func(t *testing.T, first, second string) {
		var r rows[check]
		if _, err := r.read([]byte(first)); err != nil {
			return
		}
		sameAsDecoded(t, &r, second)
		sameAsDecoded(t, &r, first)
	})
}

// What has not changed is not decoded again.
func TestRows_decodesWhatIsNew(t *testing.T) {
	var list []check
	for i := range 1000 {
		list = append(list, check{Node: "n", CheckID: strings.Repeat("c", i%50), ModifyIndex: uint64(i)})
	}
	var r rows[check]
	read := func() float64 {
		text, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		var places int
		allocs := testing.AllocsPerRun(1, func() {
			list, err := r.read(text)
			places = len(list)
			if err != nil {
				t.Fatal(err)
			}
		})
		if places != len(list) {
			t.Fatalf("%d rows", places)
		}
		return allocs
	}
	read()
	list[500].ModifyIndex++
	if n := read(); n > 100 {
		t.Errorf("%.0f allocations for one row that changed", n)
	}
}

func BenchmarkRows(b *testing.B) {
	var list []check
	for i := range 1000 {
		list = append(list, check{Node: "node-17", CheckID: "service:node-17:svc-37-9:80", ServiceName: "svc-37", Status: "passing", ModifyIndex: uint64(i)})
	}
	texts := make([][]byte, 2)
	for i := range texts {
		list[500].ModifyIndex++
		texts[i], _ = json.Marshal(list)
	}
	b.Run("all", func(b *testing.B) {
		for i := 0; b.Loop(); i++ {
			if _, _, err := decode[check](texts[i%2]); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("one-change", func(b *testing.B) {
		var r rows[check]
		for i := 0; b.Loop(); i++ {
			if _, err := r.read(texts[i%2]); err != nil {
				b.Fatal(err)
			}
		}
	})
}
