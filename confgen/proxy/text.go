package proxy

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"fairway/confgen/proxy/haproxy"
)

// text is what a file holds. It is never changed, so that versions of a file can have all that is
// equal in common: a HAProxy configuration is kept as its sections, and of 20 MB of them a new
// version of one backend adds one.
type text struct {
	pieces []string
	config *haproxy.Config // of HAProxy's main file: what the pieces mean
	digest func() string   // of the whole
}

func newText(pieces []string, config *haproxy.Config) *text {
	x := &text{pieces: pieces, config: config}
	x.digest = sync.OnceValue(func() string {
		h := sha256.New()
		fmt.Fprintf(h, "%d:", x.size())
		_ = x.write(h, "", nil) // A hash takes everything.
		return hex.EncodeToString(h.Sum(nil))[:16]
	})
	return x
}

func plainText(data []byte) *text { return newText([]string{string(data)}, nil) }

func configText(c *haproxy.Config) *text { return newText(c.Pieces(), c) }

func (x *text) size() int {
	n := 0
	for _, p := range x.pieces {
		n += len(p)
	}
	return n
}

// bytes returns a copy of the whole.
func (x *text) bytes() []byte {
	all := make([]byte, 0, x.size())
	for _, p := range x.pieces {
		all = append(all, p...)
	}
	return all
}

// equal compares; pieces in common cost nothing, since strings at one place are equal.
func (x *text) equal(o *text) bool {
	return x == o || slices.Equal(x.pieces, o.pieces) || x.size() == o.size() && x.holds(o.bytes())
}

// holds reports whether the text is data.
func (x *text) holds(data []byte) bool {
	for _, p := range x.pieces {
		if len(data) < len(p) || string(data[:len(p)]) != p {
			return false
		}
		data = data[len(p):]
	}
	return len(data) == 0
}

// contains reports whether word is in it. No word that is looked for goes over a line's end, where
// pieces end.
func (x *text) contains(word string) bool {
	return slices.ContainsFunc(x.pieces, func(p string) bool { return strings.Contains(p, word) })
}

func (x *text) blank() bool {
	return !slices.ContainsFunc(x.pieces, func(p string) bool { return strings.TrimSpace(p) != "" })
}

// replace returns the text with one word for another.
func (x *text) replace(word, by string) *text {
	if x.config != nil {
		return configText(x.config.Replace(word, by))
	}
	pieces := slices.Clone(x.pieces)
	for i, p := range pieces {
		pieces[i] = strings.ReplaceAll(p, word, by)
	}
	return newText(pieces, nil)
}

// write writes the text with the words of turn replaced, where there are any.
func (x *text) write(to io.Writer, hint string, turn *strings.Replacer) error {
	w := bufio.NewWriterSize(to, 64<<10)
	for _, p := range x.pieces {
		var err error
		if turn != nil && strings.Contains(p, hint) {
			_, err = turn.WriteString(w, p)
		} else {
			_, err = w.WriteString(p)
		}
		if err != nil {
			return err
		}
	}
	return w.Flush()
}

// matches compares with what a reader gives, and holds little of it at a time.
func (x *text) matches(from io.Reader) (bool, error) {
	r := bufio.NewReaderSize(from, 64<<10)
	for _, p := range x.pieces {
		for p != "" {
			have, err := r.Peek(min(len(p), r.Size()))
			if err != nil && !errors.Is(err, io.EOF) {
				return false, err
			}
			if len(have) == 0 || string(have) != p[:len(have)] {
				return false, nil
			}
			p = p[len(have):]
			_, _ = r.Discard(len(have)) // Peek has them.
		}
	}
	_, err := r.Peek(1)
	if err != nil && !errors.Is(err, io.EOF) {
		return false, err
	}
	return err != nil, nil
}

// seen is a file as it was last found on disk.
type seen struct {
	text  *text
	stamp stamp
	at    time.Time
}

// stamp changes when a file does.
type stamp struct {
	device, inode uint64
	size          int64
	written       syscall.Timespec
	changed       syscall.Timespec
}

// tick is more than the steps in which file systems tell time: a file that was changed so shortly
// before it was looked at may have been changed again since without a new time.
const tick = 50 * time.Millisecond

func stampOf(info fs.FileInfo) stamp {
	s, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return stamp{}
	}
	return stamp{device: s.Dev, inode: s.Ino, size: s.Size, written: s.Mtim, changed: s.Ctim}
}

// sure reports whether a file with this stamp still holds what it held when it was looked at.
func (s seen) sure(now stamp) bool {
	changed := time.Unix(now.changed.Unix())
	return s.stamp == now && now != stamp{} && s.at.Sub(changed) > tick
}

// load returns a file of the folder. Where its stamp says that nothing has changed it is not read;
// where it may have changed it is compared with what it held, and only read when it differs.
func (t *Target) load(rel string) (*text, fs.FileInfo, error) {
	f, err := os.Open(t.path(rel))
	if errors.Is(err, fs.ErrNotExist) {
		delete(t.seen, rel)
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close() //nolint:errcheck // Only read.
	info, err := f.Stat()
	if err != nil {
		return nil, nil, fmt.Errorf("read configuration: %w", err)
	}
	now := seen{stamp: stampOf(info), at: time.Now()}
	before, known := t.seen[rel]
	if known && before.sure(now.stamp) {
		return before.text, info, nil
	}
	now.text = before.text
	if known = known && int64(before.text.size()) == info.Size(); known {
		if known, err = before.text.matches(f); err != nil {
			return nil, nil, fmt.Errorf("read configuration: %w", err)
		}
	}
	if !known {
		data, err := io.ReadAll(io.NewSectionReader(f, 0, maxFile))
		if err != nil {
			return nil, nil, fmt.Errorf("read configuration: %w", err)
		}
		now.text = t.driver.read(data, rel == t.opt.Main)
	}
	t.seen[rel] = now
	return now.text, info, nil
}

// maxFile bounds what is read of one file.
const maxFile = 1 << 30

// text makes a text of rendered bytes; one that is on disk already is used again.
func (t *Target) text(rel string, data []byte) *text {
	if before, known := t.seen[rel]; known && before.text.config == nil && before.text.holds(data) {
		return before.text
	}
	return t.driver.read(data, rel == t.opt.Main)
}

// digest is a short hash over parts, none of which can be mistaken for two.
func digest(parts ...[]byte) string {
	h := sha256.New()
	for _, part := range parts {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return hex.EncodeToString(h.Sum(nil))[:16]
}

// digestOf is a digest over words.
func digestOf(words ...string) string {
	parts := make([][]byte, len(words))
	for i, w := range words {
		parts[i] = []byte(w)
	}
	return digest(parts...)
}
