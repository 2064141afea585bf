package ctmpl

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/BurntSushi/toml"
	"github.com/davecgh/go-spew/spew"
	sockaddrs "github.com/hashicorp/go-sockaddr/template"
	"golang.org/x/text/cases"
	"golang.org/x/text/language"
	yaml "gopkg.in/yaml.v2"
)

// The functions on texts and documents. Where consul-template takes an empty text for nothing
// instead of a mistake, so do they.

func decode(name string, enc *base64.Encoding) func(string) (string, error) {
	return func(s string) (string, error) {
		data, err := enc.DecodeString(s)
		if err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return string(data), nil
	}
}

func encode(enc *base64.Encoding) func(string) string {
	return func(s string) string { return enc.EncodeToString([]byte(s)) }
}

// parsed returns a function that reads a text, an empty one as zero.
func parsed[T any](name string, parse func(string) (T, error)) func(string) (T, error) {
	return func(s string) (T, error) {
		var zero T
		if s == "" {
			return zero, nil
		}
		value, err := parse(s)
		if err != nil {
			return zero, fmt.Errorf("%s: %w", name, err)
		}
		return value, nil
	}
}

// document returns a function that reads a document, an empty one as an empty map.
func document(name string, unmarshal func([]byte, any) error) func(string) (any, error) {
	return func(s string) (any, error) {
		if s == "" {
			return map[string]any{}, nil
		}
		var data any
		if err := unmarshal([]byte(s), &data); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		return data, nil
	}
}

// jsonText returns a function that writes JSON, with <, > and & as they are or escaped.
func jsonText(name, indent string, escape bool) func(any) (string, error) {
	return func(v any) (string, error) {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(escape)
		e.SetIndent("", indent)
		if err := e.Encode(v); err != nil {
			return "", fmt.Errorf("%s: %w", name, err)
		}
		return strings.TrimRight(b.String(), "\r\n"), nil
	}
}

func toYAML(v any) (string, error) {
	data, err := yaml.Marshal(v)
	if err != nil {
		return "", fmt.Errorf("toYAML: %w", err)
	}
	return string(bytes.TrimSpace(data)), nil
}

func toTOML(v any) (string, error) {
	var b bytes.Buffer
	if err := toml.NewEncoder(&b).Encode(v); err != nil {
		return "", fmt.Errorf("toTOML: %w", err)
	}
	return strings.TrimSpace(b.String()), nil
}

func toTitle(s string) string { return cases.Title(language.Und, cases.NoLower).String(s) }

func indent(spaces int, s string) (string, error) {
	if spaces < 0 {
		return "", fmt.Errorf("indent: want no less than 0 spaces, not %d", spaces)
	}
	var b strings.Builder
	for line := range strings.Lines(s) {
		if line != "\n" {
			b.WriteString(strings.Repeat(" ", spaces))
		}
		b.WriteString(line)
	}
	return b.String(), nil
}

func split(sep, s string) []string {
	if s = strings.TrimSpace(s); s == "" {
		return []string{}
	}
	return strings.Split(s, sep)
}

func splitToMap(sep, assign, s string) map[string]string {
	m := make(map[string]string)
	for _, part := range split(sep, s) {
		if key, value, ok := strings.Cut(part, assign); ok {
			m[key] = value
		}
	}
	return m
}

func regexReplaceAll(pattern, replacement, s string) (string, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return "", fmt.Errorf("regexReplaceAll: %w", err)
	}
	return re.ReplaceAllString(s, replacement), nil
}

func regexMatch(pattern, s string) (bool, error) {
	re, err := regexp.Compile(pattern)
	if err != nil {
		return false, fmt.Errorf("regexMatch: %w", err)
	}
	return re.MatchString(s), nil
}

// timestamp is the time in UTC at which the template was executed, which is when something that
// it uses changed: as RFC 3339, in a layout of Go's, or "unix".
func timestamp(layout ...string) (string, error) {
	now := time.Now().UTC()
	switch {
	case len(layout) == 0:
		return now.Format(time.RFC3339), nil
	case len(layout) > 1:
		return "", fmt.Errorf("timestamp: want at most one layout, not %d", len(layout))
	case layout[0] == "unix":
		return strconv.FormatInt(now.Unix(), 10), nil
	}
	return now.Format(layout[0]), nil
}

func sha256Hex(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}

func md5sum(s string) string {
	sum := md5.Sum([]byte(s))
	return hex.EncodeToString(sum[:])
}

func hmacSHA256Hex(message, key string) string {
	h := hmac.New(sha256.New, []byte(key))
	h.Write([]byte(message))
	return hex.EncodeToString(h.Sum(nil))
}

// sockaddr evaluates a template of go-sockaddr: sockaddr "GetPrivateIP".
func sockaddr(args ...string) (string, error) {
	text, err := sockaddrs.Parse("{{ " + strings.Join(args, " ") + " }}")
	if err != nil {
		return "", fmt.Errorf("sockaddr: %w", err)
	}
	return text, nil
}

func spewSdump(v ...any) string                  { return spew.Sdump(v...) }
func spewSprintf(format string, v ...any) string { return spew.Sprintf(format, v...) }
