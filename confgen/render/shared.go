package render

import (
	"hash/maphash"
	"slices"
	"strings"
)

// shared puts hosts into one server block that would have the same one but for its name: nginx
// then has less to read, to keep and to look at, and a request is more likely to need what the
// one before it has used. A block stands where the first of its hosts does, and names them in
// their order; what a block is made of is compared, so that no difference is overlooked. The
// default server stands for itself, and so does a block with raw lines of a label, which may ask
// for $server_name.
func shared(list []VirtualServer) []VirtualServer {
	seed := maphash.MakeSeed()
	alike := make(map[uint64][]int, len(list)) // places in blocks
	blocks := make([]VirtualServer, 0, len(list))
next:
	for _, v := range list {
		if len(v.Names) == 0 || v.raw() {
			blocks = append(blocks, v)
			continue
		}
		sum := v.sum(seed)
		for _, i := range alike[sum] {
			if b := &blocks[i]; b.alike(v) {
				b.Names = append(b.Names, v.Names...)
				continue next
			}
		}
		alike[sum] = append(alike[sum], len(blocks))
		blocks = append(blocks, v)
	}
	for i := range blocks {
		blocks[i].Name = strings.Join(blocks[i].Names, " ")
	}
	return blocks
}

// alike reports whether two server blocks differ at most in their names.
func (v VirtualServer) alike(o VirtualServer) bool {
	return v.Entrypoint == o.Entrypoint && v.TLS == o.TLS && v.Here == o.Here && v.Regex == o.Regex &&
		slices.EqualFunc(v.Locations, o.Locations, Location.same) &&
		slices.EqualFunc(v.Named, o.Named, Location.same) &&
		slices.EqualFunc(v.Targets, o.Targets, Location.same)
}

// raw reports whether a label has put lines of its own into the block.
func (v VirtualServer) raw() bool {
	for l := range v.all {
		if l.Options != nil && len(l.Options.Snippet) > 0 {
			return true
		}
	}
	return false
}

// sum is the same for blocks that are alike, and rarely for others.
func (v VirtualServer) sum(seed maphash.Seed) uint64 {
	var h maphash.Hash
	h.SetSeed(seed)
	write := func(words ...string) {
		for _, word := range words {
			_, _ = h.WriteString(word) // which never fails
			_ = h.WriteByte(0)
		}
	}
	write(v.TLS.Certificate, v.TLS.Authority)
	for l := range v.all {
		write(l.Match, l.Path, l.Backend, l.Decides)
	}
	return h.Sum64()
}
