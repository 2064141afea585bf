package proxy

import (
	"slices"
	"strings"

	"fairway/confgen/proxy/haproxy"
)

// isList reports whether a file is a crt-list.
func isList(path string) bool { return strings.HasSuffix(path, ".crtlist") }

// listedFiles are the files of a tree that its crt-lists name, and so those that HAProxy can be
// given anew while it runs.
func listedFiles(t tree) map[string]bool {
	listed := make(map[string]bool)
	var named func(string) string
	for _, f := range t.files {
		if !isList(f.path) {
			continue
		}
		if named == nil {
			named = t.names()
		}
		for _, line := range haproxy.ParseCertificateList(f.path, f.bytes()).Lines {
			if path := named(line.File); path != "" {
				listed[path], listed[path+haproxy.StapleExt] = true, true
			}
		}
	}
	return listed
}

// names finds the file that a line means, which HAProxy may see under another folder.
func (t *tree) names() func(file string) string {
	have := make(map[string]bool, len(t.files))
	for _, f := range t.files {
		have[f.path] = true
	}
	return func(file string) string {
		for found := true; found; _, file, found = strings.Cut(file, "/") {
			if have[file] {
				return file
			}
		}
		return ""
	}
}

// certificateLists returns the crt-lists of t with their files, or those in which something
// differs from before.
func certificateLists(t tree, before *tree) []haproxy.Certificates {
	var lists []haproxy.Certificates
	named, holds := t.names(), t.texts()
	earlier := func(string) *text { return nowhere }
	if before != nil {
		earlier = before.texts()
	}
	for _, f := range t.files {
		if !isList(f.path) {
			continue
		}
		c := haproxy.ParseCertificateList(f.path, f.bytes())
		same := before != nil && before.text(f.path).equal(f.text)
		if before != nil {
			c.Fresh = make(map[string]bool)
		}
		for _, line := range c.Lines {
			path := named(line.File)
			if path == "" {
				continue
			}
			staple := path + haproxy.StapleExt
			c.Files[path], c.Staples[path] = string(holds(path).bytes()), string(holds(staple).bytes())
			if before != nil && !(earlier(path).equal(holds(path)) && earlier(staple).equal(holds(staple))) {
				c.Fresh[path], same = true, false
			}
		}
		if !same {
			lists = append(lists, c)
		}
	}
	return lists
}

// texts is text for many questions.
func (t *tree) texts() func(path string) *text {
	by := make(map[string]*text, len(t.files))
	for _, f := range t.files {
		by[f.path] = f.text
	}
	return func(path string) *text {
		if x := by[path]; x != nil {
			return x
		}
		return nowhere
	}
}

// withCertificates returns base with certificates as they are in want, as far as both have them:
// one that is renewed is served, whatever else of want has to wait. An OCSP response goes with the
// certificate that it was for.
func withCertificates(base, want tree) tree {
	holds := want.texts()
	c := base
	c.files = slices.Clone(base.files)
	listed := listedFiles(base)
	for i, f := range c.files {
		if x := holds(f.path); listed[f.path] && x != nowhere {
			c.files[i].text = x
		}
	}
	c.files = slices.DeleteFunc(c.files, func(f entry) bool {
		return listed[f.path] && strings.HasSuffix(f.path, haproxy.StapleExt) && holds(f.path) == nowhere
	})
	return c
}
