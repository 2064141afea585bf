package main

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"fairway/confgen/render"
	"fairway/confgen/route"
)

// place in a file, as both checkers name it: /etc/haproxy/haproxy.cfg:123.
var placeInFile = regexp.MustCompile(`([^\s\[\]'":]+):(\d+)`)

// nearby is how many lines around a place may tell whom it belongs to.
const nearby = 200

// blamed returns the services that a checker's words point at: whose backend is named next to a
// line that is complained of or, where no line is named, in the words themselves. It may be wrong,
// and who asks has to try.
func blamed(files []render.File, table route.Table, words string) []string {
	owners := make(map[string]string, len(table.Backends))
	for _, b := range table.Backends {
		owners[b.Name] = b.Service
	}
	var list []string
	add := func(service string) {
		if !slices.Contains(list, service) {
			list = append(list, service)
		}
	}
	for _, hit := range placeInFile.FindAllStringSubmatch(words, -1) {
		number, err := strconv.Atoi(hit[2])
		if err != nil {
			continue
		}
		for _, f := range files {
			if hit[1] == f.Path || strings.HasSuffix(hit[1], "/"+f.Path) {
				for _, service := range around(strings.Split(string(f.Data), "\n"), number-1, owners) {
					add(service)
				}
			}
		}
	}
	if len(list) == 0 {
		for _, service := range namedIn(words, owners) {
			add(service)
		}
	}
	return list
}

// around returns the owners of the line at and, where it names none, of the nearest lines above
// and below that do.
func around(lines []string, at int, owners map[string]string) []string {
	if at < 0 || at >= len(lines) {
		return nil
	}
	if found := namedIn(lines[at], owners); len(found) > 0 {
		return found
	}
	var list []string
	for _, step := range []int{-1, 1} {
		for i := 1; i <= nearby; i++ {
			n := at + step*i
			if n < 0 || n >= len(lines) {
				break
			}
			if found := namedIn(lines[n], owners); len(found) > 0 {
				list = append(list, found...)
				break
			}
		}
	}
	return list
}

// namedIn returns the owners of the backends that a line names.
func namedIn(line string, owners map[string]string) []string {
	var list []string
	for word := range strings.FieldsFuncSeq(line, func(r rune) bool {
		return !(r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r == '.' || r == '_' || r == '-')
	}) {
		if service, is := owners[word]; is {
			list = append(list, service)
		}
	}
	return list
}
