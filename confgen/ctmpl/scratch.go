package ctmpl

import (
	"fmt"
	"maps"
	"slices"
)

// Scratch keeps values during one execution of a template: {{scratch.Set "n" 1}}. What sets a
// value prints nothing.
type Scratch struct{ values map[string]any }

// Key reports whether there is a value of a name.
func (s *Scratch) Key(name string) bool {
	_, ok := s.values[name]
	return ok
}

// Get returns the value of a name; nil for none.
func (s *Scratch) Get(name string) any { return s.values[name] }

// Set gives a name a value.
func (s *Scratch) Set(name string, value any) string {
	if s.values == nil {
		s.values = make(map[string]any)
	}
	s.values[name] = value
	return ""
}

// SetX is Set unless there is a value.
func (s *Scratch) SetX(name string, value any) string {
	if !s.Key(name) {
		s.Set(name, value)
	}
	return ""
}

// MapSet gives a key in the map of a name a value.
func (s *Scratch) MapSet(name, key string, value any) (string, error) {
	if !s.Key(name) {
		s.Set(name, make(map[string]any))
	}
	m, ok := s.values[name].(map[string]any)
	if !ok {
		return "", fmt.Errorf("scratch: %q is no map", name)
	}
	m[key] = value
	return "", nil
}

// MapSetX is MapSet unless the key has a value.
func (s *Scratch) MapSetX(name, key string, value any) (string, error) {
	if m, ok := s.values[name].(map[string]any); ok {
		if _, taken := m[key]; taken {
			return "", nil
		}
	}
	return s.MapSet(name, key, value)
}

// MapValues returns the values in the map of a name, in the order of their keys.
func (s *Scratch) MapValues(name string) []any {
	m, ok := s.values[name].(map[string]any)
	if !ok {
		return nil
	}
	list := make([]any, 0, len(m))
	for _, key := range slices.Sorted(maps.Keys(m)) {
		list = append(list, m[key])
	}
	return list
}
