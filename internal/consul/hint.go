package consul

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"
	"time"
)

// HintPrefix begins the keys at which registrators say what they have just written.
const HintPrefix = "fairway/changed/"

// hintKeys is how many keys all nodes share: few enough to be one small answer however many nodes
// there are, and enough that two which write at the same moment seldom meet at one.
const hintKeys = 64

// Hint names the services whose rows a node has just changed. It is written in the same transaction
// as the rows, so that whoever follows the keys learns which services to read, where Consul's own
// answers say only that something is different, or take a thousand rows to say what.
//
// It is no more than a hint: the next one may overwrite it before anybody has read it, and a service
// that none names is found all the same.
type Hint struct {
	Node string `json:"node"`

	// Time is when it was written. It tells two hints on the same services apart: Consul takes a value
	// that stands there already for no change, and tells nobody.
	Time time.Time `json:"time"`

	// Services says how long before that each was written last, in milliseconds: some are there from
	// earlier hints, for those who have missed them.
	Services map[string]int64 `json:"services"`
}

// NewHint returns a hint that is written now.
func NewHint(node string, now time.Time) Hint {
	return Hint{Node: node, Time: now.UTC(), Services: map[string]int64{}}
}

// Add names a service that was written at a time.
func (h Hint) Add(service string, at time.Time) {
	h.Services[service] = max(0, h.Time.Sub(at).Milliseconds())
}

// After returns the services that were written after a time, sorted.
func (h Hint) After(t time.Time) []string {
	var list []string
	for name, age := range h.Services {
		if h.Time.Add(-time.Duration(age) * time.Millisecond).After(t) {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return list
}

// HintKey returns the key of a node.
func HintKey(node string) string {
	h := fnv.New32a()
	_, _ = h.Write([]byte(node)) // never fails
	return fmt.Sprintf("%s%02x", HintPrefix, h.Sum32()%hintKeys)
}

// Value returns what stands at the key.
func (h Hint) Value() ([]byte, error) { return json.Marshal(h) }

// ReadHint reads what stands at a key.
func ReadHint(value []byte) (Hint, error) {
	var h Hint
	if err := json.Unmarshal(value, &h); err != nil {
		return Hint{}, fmt.Errorf("hint: %w", err)
	}
	return h, nil
}
