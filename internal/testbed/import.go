package testbed

import (
	"archive/tar"
	"os"
	"path/filepath"
)

// Import makes the image name of one static program, which keeps its file name, in /, without a layer or a build: lines are
// those of a Dockerfile that `docker import --change` takes.
func (e *Engine) Import(name, program string, lines ...string) {
	e.t.Helper()
	binary, err := os.ReadFile(program)
	if err != nil {
		e.t.Fatal(err)
	}
	path := filepath.Join(e.t.TempDir(), "image.tar")
	file, err := os.Create(path)
	if err != nil {
		e.t.Fatal(err)
	}
	archive := tar.NewWriter(file)
	if err := archive.WriteHeader(&tar.Header{Name: filepath.Base(program), Mode: 0o755, Size: int64(len(binary))}); err != nil {
		e.t.Fatal(err)
	}
	if _, err := archive.Write(binary); err != nil {
		e.t.Fatal(err)
	}
	if err := archive.Close(); err != nil {
		e.t.Fatal(err)
	}
	if err := file.Close(); err != nil {
		e.t.Fatal(err)
	}
	args := []string{"import"}
	for _, line := range lines {
		args = append(args, "--change", line)
	}
	e.Run(append(args, path, name)...)
}
