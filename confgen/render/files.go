// Package render turns a route table, or a raw snapshot, into the files of one proxy through
// text templates.
package render

import "io/fs"

// Generation is the placeholder that templates write where the proxy can report which
// configuration it runs; the proxy driver replaces it with a hash before it writes the file.
const Generation = "@fairway-generation@"

// File is one file of a proxy's configuration.
type File struct {
	Path string      // relative to the proxy's configuration folder, slash-separated
	Mode fs.FileMode // permission bits; 0 for 0644
	Data []byte
}
