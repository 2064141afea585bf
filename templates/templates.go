// Package templates holds the default templates. Copy a file, or only one of its {{define}}
// blocks, into a folder of your own to change what it prints.
package templates

import (
	"embed"
	"io/fs"
)

//go:embed haproxy nginx pages
var files embed.FS

// HAProxy is haproxy.cfg, its maps and its pages, as layers for render.New.
func HAProxy() []fs.FS { return []fs.FS{sub("pages"), sub("haproxy")} }

// Nginx is nginx.conf, as layers for render.New.
func Nginx() []fs.FS { return []fs.FS{sub("pages"), sub("nginx")} }

func sub(dir string) fs.FS {
	f, err := fs.Sub(files, dir)
	if err != nil {
		panic(err) // only a malformed path, and these are constants
	}
	return f
}
