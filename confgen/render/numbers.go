package render

import (
	"bytes"
	"cmp"
)

// mainFile is HAProxy's configuration. Its maps are printed after it.
const mainFile = "haproxy.cfg"

// Target is what HAProxy finds the backend of a map's entry by: its number where haproxy.cfg gives
// it one, and else its name, as it is of a group. To find one of 5,000 by its name takes twice as many
// looks into memory, which are a hundredth of what a request costs.
func (d *data) Target(e Entry) string { return cmp.Or(d.numbers[e.Backend], e.Backend) }

// numbersIn returns how backends are called by their number ("#5"), by name, of those whose section
// begins with it. A block "backend" of a user's own may print none.
func numbersIn(config []byte) map[string]string {
	const section, number = "\nbackend ", "    id "
	numbers := make(map[string]string)
	for {
		at := bytes.Index(config, []byte(section))
		if at < 0 {
			return numbers
		}
		name, rest, _ := bytes.Cut(config[at+len(section):], []byte("\n"))
		line, _, _ := bytes.Cut(rest, []byte("\n"))
		if id, found := bytes.CutPrefix(line, []byte(number)); found {
			numbers[string(name)] = "#" + string(id)
		}
		config = config[at+len(section):]
	}
}
