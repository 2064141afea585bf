package main

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"fairway/confgen/render"
)

// listName is how user lists and sets of pages may be called: what both proxies, file names and
// labels can hold as it stands.
var listName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)

// named reads settings of the form NAME=PATH, and returns the paths by name.
func named(c settings, setting string) (map[string]string, []string, error) {
	paths := make(map[string]string)
	for _, text := range c.StringSlice(setting) {
		name, path, found := strings.Cut(text, "=")
		switch {
		case !found || path == "":
			return nil, nil, c.refuse(setting, " %q: want NAME=PATH", text)
		case !listName.MatchString(name):
			return nil, nil, c.refuse(setting, " %q: want a name of lower-case letters, digits and hyphens", text)
		case paths[name] != "":
			return nil, nil, c.refuse(setting, " %q: there is another %s", text, name)
		}
		paths[name] = path
	}
	names := make([]string, 0, len(paths))
	for name := range paths {
		names = append(names, name)
	}
	slices.Sort(names)
	return paths, names, nil
}

// readPeople reads the user lists, and whom to believe.
func (o *Options) readPeople(c settings) error {
	paths, names, err := named(c, "user-list")
	if err != nil {
		return err
	}
	o.Routing.UserLists = names
	for _, name := range names {
		text, err := os.ReadFile(paths[name])
		if err != nil {
			return c.refuse("user-list", " %s: %w", name, err)
		}
		users, err := parseUsers(string(text), o.Proxy.Kind)
		if err != nil {
			return c.refuse("user-list", " %s: %s:%w", name, paths[name], err)
		}
		o.Render.UserLists = append(o.Render.UserLists, render.UserList{Name: name, Users: users})
	}
	for _, text := range c.StringSlice("trusted-proxy") {
		network, err := parseNetwork(text)
		if err != nil {
			return c.refuse("trusted-proxy", " %q: want an address or a network, such as 10.0.0.0/8", text)
		}
		o.Render.TrustedProxies = append(o.Render.TrustedProxies, network)
	}
	return nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	network, err := netip.ParsePrefix(text)
	return network.Masked(), err
}

// userName is what a client can send and both proxies can hold.
var userName = regexp.MustCompile(`^[A-Za-z0-9._@+-]{1,64}$`)

// hashes are the ways to keep a password that both proxies can check. $apr1$ is nginx's alone.
var hashes = regexp.MustCompile(`^\$(1|2[abxy]|5|6|y|gy|7)\$[./A-Za-z0-9$=,+-]+$`)

// parseUsers reads lines of user:hash, as htpasswd writes them. An error begins with the line's
// number and never quotes what might be a password.
func parseUsers(text, kind string) ([]render.User, error) {
	var users []render.User
	number := 0
	for line := range strings.Lines(text) {
		number++
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		name, hash, found := strings.Cut(line, ":")
		switch {
		case !found:
			return nil, fmt.Errorf("%d: want user:hash, as htpasswd -nB user writes it", number)
		case !userName.MatchString(name):
			return nil, fmt.Errorf("%d: user %q: want letters, digits and . _ @ + -", number, name)
		case strings.HasPrefix(hash, "$apr1$") && kind == "nginx":
		case !hashes.MatchString(hash):
			return nil, fmt.Errorf("%d: user %s: want a hash that %s can check, as openssl passwd -6 writes it", number, name, kind)
		}
		if slices.ContainsFunc(users, func(u render.User) bool { return u.Name == name }) {
			return nil, fmt.Errorf("%d: user %s is there twice", number, name)
		}
		users = append(users, render.User{Name: name, Hash: hash})
	}
	if len(users) == 0 {
		return nil, fmt.Errorf("1: no user; want lines of user:hash, as htpasswd -nB user writes them")
	}
	return users, nil
}

// maxPage is what HAProxy can send as a page of its own: it has to fit its buffer.
const maxPage = 12 << 10

// readPages reads the sets of error pages: files called like 503.html.
func (o *Options) readPages(c settings) error {
	folders, names, err := named(c, "error-pages")
	if err != nil {
		return err
	}
	o.Routing.PageSets = names
	for _, name := range names {
		set := render.PageSet{Name: name, Pages: make(map[int]string)}
		files, err := filepath.Glob(filepath.Join(folders[name], "*.html"))
		if err != nil || len(files) == 0 {
			return c.refuse("error-pages", " %s: %s has no page; want files called like 503.html", name, folders[name])
		}
		for _, file := range files {
			status, err := strconv.Atoi(strings.TrimSuffix(filepath.Base(file), ".html"))
			if err != nil || status < 400 || status > 599 {
				return c.refuse("error-pages", " %s: %s: want a name from 400.html to 599.html", name, file)
			}
			text, err := os.ReadFile(file)
			if err != nil {
				return c.refuse("error-pages", " %s: %w", name, err)
			}
			if len(text) > maxPage {
				return c.refuse("error-pages", " %s: %s has %d bytes; want at most %d, which fit a proxy's buffer", name, file, len(text), maxPage)
			}
			set.Pages[status] = string(text)
		}
		o.Render.PageSets = append(o.Render.PageSets, set)
	}
	return nil
}
