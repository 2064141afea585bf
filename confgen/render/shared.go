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
	places := make(map[uint64]int, len(list)) // in blocks
	blocks := list[:0]
	for _, v := range list {
		sum, raw := v.sum(seed)
		if len(v.Names) == 0 || raw {
			blocks = append(blocks, v)
			continue
		}
		i, known := places[sum]
		for ; known && !blocks[i].alike(&v); i, known = places[sum] {
			sum++ // two that differ have one sum
		}
		if known {
			blocks[i].Names = append(blocks[i].Names, v.Names...)
			continue
		}
		places[sum] = len(blocks)
		blocks = append(blocks, v)
	}
	for i := range blocks {
		blocks[i].Name = strings.Join(blocks[i].Names, " ")
	}
	return blocks
}

// alike reports whether two server blocks differ at most in their names.
func (v *VirtualServer) alike(o *VirtualServer) bool {
	return v.Entrypoint == o.Entrypoint && v.TLS == o.TLS && v.Here == o.Here && v.Regex == o.Regex &&
		slices.EqualFunc(v.Locations, o.Locations, Location.same) &&
		slices.EqualFunc(v.Named, o.Named, Location.same) &&
		slices.EqualFunc(v.Targets, o.Targets, Location.same)
}

// sum is the same for blocks that are alike, and rarely for others. It reports as well whether a
// label has put raw lines into the block.
func (v *VirtualServer) sum(seed maphash.Seed) (sum uint64, raw bool) {
	var h maphash.Hash
	h.SetSeed(seed)
	write(&h, v.TLS.Certificate)
	for _, list := range [][]Location{v.Locations, v.Named, v.Targets} {
		raw = sumLocations(&h, list) || raw
	}
	return h.Sum64(), raw
}

func sumLocations(h *maphash.Hash, list []Location) (raw bool) {
	for i := range list {
		l := &list[i]
		write(h, l.Match)
		write(h, l.Path)
		write(h, l.Backend)
		write(h, l.Decides)
		raw = raw || l.Options != nil && len(l.Options.Snippet) > 0
		raw = sumLocations(h, l.Inner) || raw
	}
	return raw
}

func write(h *maphash.Hash, word string) {
	_, _ = h.WriteString(word) // which never fails
	_ = h.WriteByte(0)
}
