package watch

import (
	"bytes"
	"encoding/json"
	"fmt"

	"fairway/internal/consul"

	"github.com/hashicorp/consul/api"
)

// rows reads answers of one query, each a list of objects in an order that does not change. Only what
// differs from the answer before is decoded: of a thousand checks one has changed, and decoding the
// rest again would take longer than Consul took to send them.
type rows[T any] struct {
	text   []byte
	places []place // of the objects in text
	list   []T
}

// place is where an object begins and ends.
type place struct{ from, to int }

// ask asks a question and puts the answer into out.
func (r *rows[T]) ask(client *api.Client, path string, q *api.QueryOptions, out *[]T) (*api.QueryMeta, error) {
	var buffer bytes.Buffer
	buffer.Grow(len(r.text) + len(r.text)/64)
	ctx, captured := consul.Capture(q.Context(), &buffer)
	meta, err := client.Raw().Query(path, out, q.WithContext(ctx))
	text, ok := captured.Text()
	if err != nil || !ok { // a client of another kind has decoded the answer itself
		return meta, err
	}
	if *out, err = r.read(text); err != nil {
		return nil, fmt.Errorf("answer of %s: %w", path, err)
	}
	return meta, nil
}

// read returns what a text says, which it keeps.
func (r *rows[T]) read(text []byte) ([]T, error) {
	if r.patch(text) {
		return r.list, nil
	}
	*r = rows[T]{}
	list, places, err := decode[T](text)
	if err != nil {
		return nil, err
	}
	r.text, r.list, r.places = text, list, places
	return list, nil
}

// patch makes the list of a text out of the one before, and reports whether it could.
//
// The objects at the beginning and at the end that are the same bytes are the same objects. What is
// between them must be whole objects, with commas where they belong: then the text as a whole is a
// list of these three parts, whatever the bytes are.
func (r *rows[T]) patch(text []byte) bool {
	if len(r.places) == 0 {
		return false
	}
	same := prefix(r.text, text)
	head := 0 // objects at the beginning
	for head < len(r.places) && r.places[head].to <= same {
		head++
	}
	begin := 0
	if head > 0 {
		begin = r.places[head-1].to
	}
	same = suffix(r.text[begin:], text[begin:])
	moved, tail := len(text)-len(r.text), len(r.places) // objects from tail on are at the end
	for tail > head && r.places[tail-1].from >= len(r.text)-same {
		tail--
	}
	end := len(text)
	if tail < len(r.places) {
		end = r.places[tail].from + moved
	}
	middle, cut, ok := between(text[begin:end], head > 0, tail < len(r.places))
	if !ok {
		return false
	}
	list, places, err := decode[T](middle)
	if err != nil {
		return false
	}
	for i := range places {
		places[i].from += begin + cut
		places[i].to += begin + cut
	}
	ends := make([]place, 0, len(r.places)-tail)
	for _, p := range r.places[tail:] {
		ends = append(ends, place{p.from + moved, p.to + moved})
	}
	r.list = append(append(r.list[:head:head], list...), r.list[tail:]...)
	r.places = append(append(r.places[:head:head], places...), ends...)
	r.text = text
	return true
}

// between makes a list of its own out of what stands between two objects, or an object and an end of
// the list. cut is how much further left it stood.
func between(text []byte, after, before bool) (list []byte, cut int, ok bool) {
	inner := bytes.TrimSpace(text)
	cut = bytes.Index(text, inner)
	switch {
	case after && before && string(inner) == ",":
		return []byte("[]"), 0, true
	case after && !before && string(inner) == "]", !after && before && string(inner) == "[":
		return []byte("[]"), 0, true
	}
	first, last := byte('['), byte(']')
	if after {
		first = ','
	}
	if before {
		last = ','
	}
	if len(inner) < 2 || inner[0] != first || inner[len(inner)-1] != last {
		return nil, 0, false
	}
	list = bytes.Clone(inner)
	list[0], list[len(list)-1] = '[', ']'
	empty := len(bytes.TrimSpace(list[1:len(list)-1])) == 0
	return list, cut, !empty || !after && !before // two commas, or one before an end, are a mistake
}

// decode reads a list and the places of its objects.
func decode[T any](text []byte) (list []T, places []place, err error) {
	dec := json.NewDecoder(bytes.NewReader(text))
	start, err := dec.Token()
	if err != nil {
		return nil, nil, err
	}
	if start == nil {
		return nil, nil, nil // null is an empty list
	}
	if start != json.Delim('[') {
		return nil, nil, fmt.Errorf("want a list, not %v", start)
	}
	for dec.More() {
		var row T
		if err := dec.Decode(&row); err != nil {
			return nil, nil, err
		}
		to := int(dec.InputOffset())
		from := 1
		if len(places) > 0 {
			from = places[len(places)-1].to
		}
		at := bytes.IndexByte(text[from:to], '{')
		if at < 0 {
			return nil, nil, fmt.Errorf("want an object, not %s", bytes.Trim(text[from:to], ", \n\r\t"))
		}
		from += at
		list, places = append(list, row), append(places, place{from, to})
	}
	if _, err = dec.Token(); err != nil {
		return nil, nil, err
	}
	if rest := bytes.TrimSpace(text[dec.InputOffset():]); len(rest) > 0 {
		return nil, nil, fmt.Errorf("%d bytes follow the list", len(rest))
	}
	return list, places, nil
}

// prefix is how many bytes two texts begin with in common.
func prefix(a, b []byte) int {
	const block = 1 << 10
	n, most := 0, min(len(a), len(b))
	for n+block <= most && bytes.Equal(a[n:n+block], b[n:n+block]) {
		n += block
	}
	for n < most && a[n] == b[n] {
		n++
	}
	return n
}

// suffix is how many bytes two texts end with in common.
func suffix(a, b []byte) int {
	const block = 1 << 10
	n, most := 0, min(len(a), len(b))
	for n+block <= most && bytes.Equal(a[len(a)-n-block:len(a)-n], b[len(b)-n-block:len(b)-n]) {
		n += block
	}
	for n < most && a[len(a)-1-n] == b[len(b)-1-n] {
		n++
	}
	return n
}
