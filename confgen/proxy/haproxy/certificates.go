package haproxy

import (
	"context"
	"crypto/sha1" //nolint:gosec // It is how HAProxy names a certificate, and secures nothing.
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"path"
	"slices"
	"strings"
)

// Certificates is a crt-list and the files that its lines name.
type Certificates struct {
	Path    string            // of the list as confgen knows it, relative; HAProxy may see it under another folder
	Lines   []CertificateLine // in the order of the file
	Files   map[string]string // PEM by path, as Path is written
	Staples map[string]string // OCSP responses as DER by the path of the certificate; "" for none
	Fresh   map[string]bool   // files that, or whose responses, have changed since the worker was last seen equal; nil for not known
}

// StapleExt is what the name of a certificate's file ends with for its OCSP response, here and in
// HAProxy (manual, "crt").
const StapleExt = ".ocsp"

// CertificateLine is a line of a crt-list: a file, options, hosts.
type CertificateLine struct {
	File string // as the list has it
	Rest string // what follows, one blank between words
}

// ParseCertificateList reads a crt-list.
func ParseCertificateList(name string, text []byte) Certificates {
	c := Certificates{Path: name, Files: map[string]string{}, Staples: map[string]string{}}
	for line := range strings.Lines(string(text)) {
		if words := strings.Fields(line); len(words) > 0 && words[0][0] != '#' {
			c.Lines = append(c.Lines, CertificateLine{File: words[0], Rest: strings.Join(words[1:], " ")})
		}
	}
	return c
}

// certificates makes the lists and certificates of a worker equal to what is wanted. The order
// loses no handshake: what is new is there before what is old goes.
func (r *syncer) certificates(ctx context.Context, conn *Conn) (differ bool, err error) {
	for _, want := range r.want.Certificates {
		list, err := conn.findList(ctx, want.Path)
		if err != nil {
			return differ, reload(err)
		}
		if list == "" {
			continue // Nothing in the configuration asks it, so nothing can differ.
		}
		s := storeSync{syncer: r, conn: conn, want: want, list: list, dir: strings.TrimSuffix(list, want.Path)}
		different, err := s.run(ctx)
		differ = differ || different
		if err != nil {
			return differ, reload(err)
		}
	}
	return differ, nil
}

// storeSync is one look at one list.
type storeSync struct {
	*syncer
	conn *Conn
	want Certificates
	list string // as HAProxy calls it
	dir  string // in front of all paths, as HAProxy calls them; "" or ends with a slash
}

func (s *storeSync) run(ctx context.Context) (differ bool, err error) {
	known, err := s.conn.certificateNames(ctx)
	if err != nil {
		return false, err
	}
	for _, file := range s.files() {
		fresh, err := s.file(ctx, file, slices.Contains(known, s.dir+file))
		if err != nil {
			return differ, err
		}
		differ = differ || fresh
	}
	changed, err := s.lines(ctx)
	if err != nil || changed || differ {
		return differ || changed, err
	}
	return false, s.collect(ctx, known)
}

// files are those that lines name, each once.
func (s *storeSync) files() []string {
	var list []string
	for _, l := range s.want.Lines {
		if file := s.relative(l.File); !slices.Contains(list, file) && s.want.Files[file] != "" {
			list = append(list, file)
		}
	}
	return list
}

func (s *storeSync) relative(file string) string { return strings.TrimPrefix(file, s.dir) }

// file puts a certificate into place, if the worker has another one or none under its name.
func (s *storeSync) file(ctx context.Context, file string, known bool) (differ bool, err error) {
	name, pair := s.dir+file, certificate{s.want.Files[file], s.want.Staples[file]}
	if known {
		sent := s.sent[name] == pair
		if s.want.Fresh != nil && !s.want.Fresh[file] && !sent {
			return false, nil
		}
		same, err := s.conn.shows(ctx, name, pair)
		if err != nil || same && (sent || !s.want.Fresh[file]) {
			return false, err
		}
	}
	s.last = "certificate " + file
	if most := pair.longest(); most+len(name)+64 > MaxMessage {
		return true, fmt.Errorf("%w: certificate %s has %d bytes, and haproxy takes %d at once", ErrReload, file, most, MaxMessage)
	}
	if s.sent == nil {
		s.sent = map[string]certificate{}
	}
	s.sent[name] = pair
	return true, s.conn.setCertificate(ctx, name, pair, known)
}

// lines makes the list equal, whatever the order of its lines: no host stands in two of them, so
// that the order decides nothing.
func (s *storeSync) lines(ctx context.Context) (differ bool, err error) {
	have, err := s.conn.listLines(ctx, s.list)
	if err != nil {
		return false, err
	}
	var missing []CertificateLine
	for _, l := range s.want.Lines {
		i := slices.IndexFunc(have, func(h numberedLine) bool { return !h.taken && h.CertificateLine == l })
		if i < 0 {
			missing = append(missing, l)
			continue
		}
		have[i].taken = true
	}
	for _, l := range missing {
		s.last = "line of " + s.want.Path + " for " + l.Rest
		if _, err := s.conn.Do(ctx, "add ssl crt-list "+s.list, strings.TrimSpace(l.File+" "+l.Rest)); err != nil {
			return true, err
		}
	}
	if len(missing) > 0 {
		return true, nil // The next look has the numbers as they are then.
	}
	for _, l := range slices.Backward(have) {
		if l.taken {
			continue
		}
		differ, s.last = true, "line of "+s.want.Path+" for "+l.Rest
		if _, err := s.conn.Do(ctx, fmt.Sprintf("del ssl crt-list %s %s:%d", s.list, l.File, l.number)); err != nil {
			return true, err
		}
	}
	return differ, nil
}

// collect lets the worker forget certificates that nothing names any more. One that a server
// shows is refused, and is forgotten with the next reload.
func (s *storeSync) collect(ctx context.Context, known []string) error {
	folder := ""
	for _, l := range s.want.Lines {
		folder = path.Dir(s.relative(l.File))
		break
	}
	for _, name := range known {
		file := s.relative(name)
		if folder == "" || path.Dir(file) != folder || s.want.Files[file] != "" || !strings.HasPrefix(name, s.dir) {
			continue
		}
		_, err := s.conn.Ask(ctx, "del ssl cert "+escape([]string{name})[0])
		if err != nil && !refusal(err) {
			return err
		}
	}
	return nil
}

// setCertificate loads a certificate and switches over to it, all or nothing. HAProxy forgets the
// OCSP response that it had with the one before.
func (c *Conn) setCertificate(ctx context.Context, name string, pair certificate, known bool) error {
	name = escape([]string{name})[0]
	if !known {
		if _, err := c.Do(ctx, "new ssl cert "+name); err != nil {
			return err
		}
	}
	err := c.prepare(ctx, name, strings.Split(strings.TrimSpace(pair.text), "\n"))
	if err == nil && pair.staple != "" {
		err = c.prepare(ctx, name+StapleExt, []string{pair.encoded()})
	}
	if err == nil {
		var answer string
		// "Committing …" and a dot for each place where it is used, then how it went.
		if answer, err = c.Do(ctx, "commit ssl cert "+name); err == nil && !strings.Contains(answer, "Success") {
			err = &CommandError{Command: "commit ssl cert " + name, Text: answer}
		}
	}
	if err == nil {
		return nil
	}
	if _, abort := c.Do(ctx, "abort ssl cert "+name); abort != nil && !refusal(abort) {
		return fmt.Errorf("%w; then abort: %w", err, abort)
	}
	return err
}

// prepare makes something a part of the transaction of a certificate.
func (c *Conn) prepare(ctx context.Context, name string, lines []string) error {
	answer, err := c.Do(ctx, "set ssl cert "+name, lines...)
	if err == nil && !strings.Contains(answer, "Transaction") {
		err = &CommandError{Command: "set ssl cert " + name, Text: answer}
	}
	return err
}

// shows reports whether the worker serves what a certificate begins with, and its OCSP response. HAProxy shows no key; the
// certificate and what follows in its chain is what clients see. Of Ed25519 2.6 shows neither hash
// nor chain, so that the serial number and the end of its validity have to do.
func (c *Conn) shows(ctx context.Context, name string, pair certificate) (bool, error) {
	answer, err := c.Ask(ctx, "show ssl cert "+escape([]string{name})[0])
	if err != nil {
		return false, err
	}
	wanted, chain := facts(pair.text)
	shown, links := map[string]string{}, 0
	for line := range strings.Lines(answer) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		shown[key] = value
		if key == "Chain Subject" {
			links++
		}
	}
	if shown[shaTitle] == "" {
		delete(wanted, shaTitle)
		chain = 0
	}
	for key, value := range wanted {
		if shown[key] != value {
			return false, nil
		}
	}
	if links != chain {
		return false, nil
	}
	return c.staples(ctx, answer, pair.staple)
}

const shaTitle = "SHA1 FingerPrint"

// facts are what HAProxy would show of the first certificate of a file, and how many follow it.
func facts(text string) (shown map[string]string, chain int) {
	shown = map[string]string{}
	chain = -1
	for rest := []byte(text); ; {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			return shown, max(chain, 0)
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		if chain++; chain > 0 {
			continue
		}
		sum := sha1.Sum(block.Bytes) //nolint:gosec // See above.
		shown[shaTitle] = strings.ToUpper(hex.EncodeToString(sum[:]))
		if cert, err := x509.ParseCertificate(block.Bytes); err == nil {
			shown["Serial"] = strings.ToUpper(hex.EncodeToString(cert.SerialNumber.Bytes()))
			shown["notAfter"] = cert.NotAfter.UTC().Format("Jan _2 15:04:05 2006 GMT")
		}
	}
}

// certificateNames are the certificates that the worker holds, served or not.
func (c *Conn) certificateNames(ctx context.Context) ([]string, error) {
	answer, err := c.Ask(ctx, "show ssl cert")
	if err != nil {
		return nil, err
	}
	var names []string
	for line := range strings.Lines(answer) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' && line[0] != '*' { // * is a transaction that somebody has begun
			names = append(names, line)
		}
	}
	return names, nil
}

// findList returns HAProxy's name of a crt-list, or "" when its configuration does not use it.
func (c *Conn) findList(ctx context.Context, name string) (string, error) {
	answer, err := c.Ask(ctx, "show ssl crt-list")
	if err != nil {
		return "", err
	}
	return findMap(strings.Fields(answer), name)
}

// numberedLine is a line as the worker has it.
type numberedLine struct {
	CertificateLine
	number int
	taken  bool
}

func (c *Conn) listLines(ctx context.Context, list string) ([]numberedLine, error) {
	answer, err := c.Ask(ctx, "show ssl crt-list -n "+escape([]string{list})[0])
	if err != nil {
		return nil, err
	}
	var lines []numberedLine
	for line := range strings.Lines(answer) {
		words := strings.Fields(line) // certs/a.pem:3 [verify required ca-file ca/x.pem] a.com *.a.com
		if len(words) == 0 || words[0][0] == '#' {
			continue
		}
		at := strings.LastIndexByte(words[0], ':')
		if at < 0 {
			return nil, fmt.Errorf("read haproxy's list of certificates: line %q has no number", line)
		}
		n, err := number(words[0][at+1:], 0, 1<<30)
		if err != nil {
			return nil, fmt.Errorf("read haproxy's list of certificates: line %q: %w", line, err)
		}
		lines = append(lines, numberedLine{CertificateLine{words[0][:at], strings.Join(words[1:], " ")}, n, false})
	}
	return lines, nil
}
