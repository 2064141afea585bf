package dialect

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Limits of a rule.
const (
	maxRule    = 2000
	maxDepth   = 20
	maxMatches = 256
)

// expression is a rule taken apart: a matcher with its arguments, or parts joined by an operator.
type expression struct {
	operator  string // "&&" or "||"; empty for a matcher
	parts     []expression
	name      string
	arguments []string
}

// match is one combination of conditions that a rule allows. Each list is of alternatives; an
// empty list is no condition.
type match struct {
	hosts, paths, methods []string
	header                string
}

// keys are a match in Fairway's vocabulary.
func (m match) keys() map[string]string {
	keys := make(map[string]string)
	for key, list := range map[string][]string{"host": m.hosts, "path": m.paths, "methods": m.methods} {
		if len(list) > 0 {
			keys[key] = strings.Join(list, ",")
		}
	}
	if m.header != "" {
		keys["header"] = m.header
	}
	return keys
}

func (m match) equal(o match) bool {
	return slices.Equal(m.hosts, o.hosts) && slices.Equal(m.paths, o.paths) && slices.Equal(m.methods, o.methods) && m.header == o.header
}

func sameMatches(a, b []match) bool { return slices.EqualFunc(a, b, match.equal) }

// parseRule reads a rule as the combinations that it allows.
func parseRule(rule string) ([]match, error) {
	e, err := parseExpression(rule)
	if err != nil {
		return nil, err
	}
	matches, err := e.matches()
	if err != nil {
		return nil, err
	}
	return joinMatches(matches), nil
}

// matches multiplies out.
func (e expression) matches() ([]match, error) {
	switch e.operator {
	case "":
		m, err := e.matcher()
		return []match{m}, err
	case "||":
		var all []match
		for _, part := range e.parts {
			list, err := part.matches()
			if err != nil {
				return nil, err
			}
			all = append(all, list...)
		}
		return all, tooMany(all)
	}
	all := []match{{}}
	for _, part := range e.parts {
		list, err := part.matches()
		if err != nil {
			return nil, err
		}
		var product []match
		for _, a := range all {
			for _, b := range list {
				both, err := a.and(b)
				if err != nil {
					return nil, err
				}
				product = append(product, both)
			}
		}
		if all = product; tooMany(all) != nil {
			return nil, tooMany(all)
		}
	}
	return all, nil
}

func tooMany(list []match) error {
	if len(list) > maxMatches {
		return errors.New("it has too many combinations")
	}
	return nil
}

func (m match) and(o match) (match, error) {
	for _, pair := range []struct {
		mine  *[]string
		other []string
		what  string
	}{{&m.hosts, o.hosts, "hosts"}, {&m.paths, o.paths, "paths"}, {&m.methods, o.methods, "methods"}} {
		switch {
		case len(*pair.mine) == 0:
			*pair.mine = pair.other
		case len(pair.other) > 0 && !slices.Equal(*pair.mine, pair.other):
			return m, fmt.Errorf("two conditions on %s hold at once; write the one that is left of them", pair.what)
		}
	}
	if m.header != "" && o.header != "" && m.header != o.header {
		return m, errors.New("a route has one condition on headers")
	}
	if m.header == "" {
		m.header = o.header
	}
	return m, nil
}

// joinMatches makes one of combinations that differ in one list only, which is then a list of
// alternatives.
func joinMatches(list []match) []match {
	lists := []func(*match) *[]string{
		func(m *match) *[]string { return &m.hosts },
		func(m *match) *[]string { return &m.paths },
		func(m *match) *[]string { return &m.methods },
	}
	for _, of := range lists {
		var joined []match
		for _, m := range list {
			twin := slices.IndexFunc(joined, func(o match) bool {
				both := len(*of(&o)) > 0 && len(*of(&m)) > 0
				other := m
				*of(&o), *of(&other) = nil, nil
				return both && o.equal(other)
			})
			if twin < 0 {
				joined = append(joined, m)
				continue
			}
			alternatives := slices.Clone(*of(&joined[twin]))
			for _, s := range *of(&m) {
				if !slices.Contains(alternatives, s) {
					alternatives = append(alternatives, s)
				}
			}
			*of(&joined[twin]) = alternatives
		}
		list = joined
	}
	return list
}

// matcher translates one matcher, in the spelling of Traefik 2 or 3.
func (e expression) matcher() (match, error) {
	var m match
	if slices.Contains(e.arguments, "") {
		return m, fmt.Errorf("%s has an empty argument", clip(e.name))
	}
	switch strings.ToLower(e.name) {
	case "host", "hostheader":
		for _, a := range e.arguments {
			if err := plainHost(a); err != nil {
				return m, fmt.Errorf("%s: %w", quote(a), err)
			}
			m.hosts = append(m.hosts, strings.ToLower(a))
		}
	case "path", "pathprefix":
		exact := ""
		if strings.EqualFold(e.name, "path") {
			exact = "="
		}
		for _, a := range e.arguments {
			if err := plainPath(a); err != nil {
				return m, fmt.Errorf("%s: %w", quote(a), err)
			}
			m.paths = append(m.paths, exact+a)
		}
	case "method":
		for _, a := range e.arguments {
			if !isToken(a) {
				return m, fmt.Errorf("%s is not a method", quote(a))
			}
			m.methods = append(m.methods, strings.ToUpper(a))
		}
	case "header", "headers":
		if len(e.arguments) != 2 || !isToken(e.arguments[0]) {
			return m, fmt.Errorf("%s takes a name and a value", e.name)
		}
		// What a list of headers would read otherwise is written so that it does not.
		value := strings.ReplaceAll(e.arguments[1], ";", `\;`)
		if strings.HasPrefix(value, "~") {
			value = "~^" + strings.ReplaceAll(regexp.QuoteMeta(e.arguments[1]), ";", `\;`) + "$"
		}
		m.header = e.arguments[0] + ": " + value
	default:
		return m, fmt.Errorf("%s cannot be translated; Host, PathPrefix, Path, Method and Header can", clip(e.name))
	}
	return m, nil
}

// parseExpression reads a rule: matchers, && before ||, and parentheses.
func parseExpression(rule string) (expression, error) {
	if len(rule) > maxRule {
		return expression{}, fmt.Errorf("it has over %d characters", maxRule)
	}
	p := &ruleParser{rest: rule}
	e, err := p.alternatives(0)
	if err == nil && p.space() != "" {
		err = fmt.Errorf("%s is not expected", quote(p.rest))
	}
	return e, err
}

type ruleParser struct{ rest string }

func (p *ruleParser) space() string {
	p.rest = strings.TrimLeft(p.rest, " \t\r\n")
	return p.rest
}

func (p *ruleParser) take(token string) bool {
	rest, ok := strings.CutPrefix(p.space(), token)
	if ok {
		p.rest = rest
	}
	return ok
}

func (p *ruleParser) alternatives(depth int) (expression, error) {
	return p.joined("||", func() (expression, error) {
		return p.joined("&&", func() (expression, error) { return p.operand(depth) })
	})
}

func (p *ruleParser) joined(operator string, part func() (expression, error)) (expression, error) {
	first, err := part()
	if err != nil {
		return first, err
	}
	e := expression{operator: operator, parts: []expression{first}}
	for p.take(operator) {
		next, err := part()
		if err != nil {
			return e, err
		}
		e.parts = append(e.parts, next)
	}
	if len(e.parts) == 1 {
		return first, nil
	}
	return e, nil
}

func (p *ruleParser) operand(depth int) (expression, error) {
	switch {
	case depth > maxDepth:
		return expression{}, errors.New("it is nested too deeply")
	case p.take("!"):
		return expression{}, errors.New("! cannot be translated")
	case p.take("("):
		e, err := p.alternatives(depth + 1)
		if err == nil && !p.take(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return e, err
	}
	return p.call()
}

// call reads Name(`a`, `b`); arguments stand in backquotes, double or single quotes.
func (p *ruleParser) call() (expression, error) {
	rest := p.space()
	end := strings.IndexByte(rest, '(')
	if end <= 0 || strings.Trim(rest[:end], "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ") != "" {
		return expression{}, fmt.Errorf("%s is not a matcher such as Host(`NAME`)", quote(rest))
	}
	e := expression{name: rest[:end]}
	p.rest = rest[end+1:]
	for {
		argument, err := p.argument()
		if err != nil {
			return e, fmt.Errorf("%s: %w", e.name, err)
		}
		e.arguments = append(e.arguments, argument)
		if p.take(")") {
			return e, nil
		}
		if !p.take(",") {
			return e, fmt.Errorf("the parenthesis of %s is not closed", e.name)
		}
	}
}

func (p *ruleParser) argument() (string, error) {
	rest := p.space()
	if rest == "" || strings.IndexByte("`\"'", rest[0]) < 0 {
		return "", errors.New("an argument stands in backquotes")
	}
	inside, after, ok := strings.Cut(rest[1:], rest[:1])
	if !ok {
		return "", errors.New("a quote is not closed")
	}
	if rest[0] != '`' && strings.Contains(inside, `\`) {
		return "", errors.New("escapes are not read; use backquotes")
	}
	p.rest = after
	return strings.TrimSpace(inside), nil
}
