package haproxy

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"fairway/internal/reconcile"
)

// Desired is what a worker is to be made equal to.
type Desired struct {
	Description string    // part of the worker's description; "" when the file has none
	Backends    []Backend // those to look at
	All         bool      // look at them with one question instead of one each
	Maps        []Map     // those to look at

	Certificates []Certificates // those to look at
}

// Report says what Sync did.
type Report struct {
	Commands int
	PID      int // of the worker, as HAProxy sees it
	Garbage  int // servers out of traffic that cannot be deleted yet, or have sessions that will be closed
}

// Errors that Sync returns, wrapped.
var (
	// ErrReload means that the worker refuses a change twice, or cannot be asked for it: the
	// files are right, so a reload is the answer.
	ErrReload = errors.New("needs a reload")
	// ErrOther means that the worker runs a configuration of another structure.
	ErrOther = errors.New("haproxy runs another configuration")
)

// rounds bounds how often Sync looks again; two are needed to change and to verify.
const rounds = 6

// Sync makes the servers and maps of the running worker equal to want and reads them back over
// a fresh connection. Commands that were answered are never sent again unless a new look says so.
func Sync(ctx context.Context, s Socket, want Desired) (Report, error) {
	run := syncer{socket: s, want: want, refused: map[string]int{}}
	for range rounds {
		done, err := run.round(ctx)
		if err != nil || done {
			return run.report, err
		}
	}
	return run.report, fmt.Errorf("%w: after %d rounds haproxy still differs: %s", ErrReload, rounds, run.last)
}

type syncer struct {
	socket  Socket
	want    Desired
	report  Report
	refused map[string]int
	last    string // what the last round found different, or the last refusal

	sent map[string]certificate // certificates that were sent, by their names
}

// round looks at the worker once, and changes what differs; done means that nothing did.
func (r *syncer) round(ctx context.Context) (done bool, err error) {
	conn, err := r.socket.Worker(ctx)
	if err != nil {
		return false, err
	}
	defer func() {
		r.report.Commands += conn.Commands
		_ = conn.Close()
	}()
	info, err := conn.Info(ctx)
	if err != nil {
		return false, err
	}
	if info.Stopping {
		r.last = "the socket still leads to an old worker"
		return false, reconcile.Sleep(ctx, 20*time.Millisecond)
	}
	if !strings.Contains(info.Description, r.want.Description) {
		return false, fmt.Errorf("%w: description %q", ErrOther, info.Description)
	}
	r.report.PID = info.PID
	return r.apply(ctx, conn)
}

// apply does serve, certificates, maps, retire, garbage, in this order over all backends.
func (r *syncer) apply(ctx context.Context, conn *Conn) (done bool, err error) {
	total, err := r.plan(ctx, conn)
	if err != nil {
		return false, err
	}
	if err := r.run(ctx, conn, total.serve); err != nil {
		return false, err
	}
	certificatesDiffer, err := r.certificates(ctx, conn)
	if err != nil {
		return false, err
	}
	mapsDiffer, err := r.maps(ctx, conn)
	if err != nil {
		return false, err
	}
	if err := r.run(ctx, conn, total.retire); err != nil {
		return false, err
	}
	if !total.empty() || mapsDiffer || certificatesDiffer {
		return false, nil
	}
	return true, r.collect(ctx, conn, total.garbage)
}

// plan compares all backends that are to be looked at.
func (r *syncer) plan(ctx context.Context, conn *Conn) (plan, error) {
	var all map[string][]live
	var err error
	if r.want.All {
		if all, err = conn.servers(ctx, ""); err != nil {
			return plan{}, err
		}
	}
	var total plan
	for _, b := range r.want.Backends {
		have := all
		if !r.want.All {
			if have, err = conn.servers(ctx, b.Name); err != nil {
				return plan{}, reload(err)
			}
		}
		p := diff(b, have[b.Name])
		total.serve = append(total.serve, p.serve...)
		total.retire = append(total.retire, p.retire...)
		for _, l := range p.garbage {
			l.name = b.Name + "/" + l.name
			total.garbage = append(total.garbage, l)
		}
	}
	return total, nil
}

// run sends commands. One that is refused is not fatal at once: the world may have moved
// between look and command, and the next look tells. Refused twice, it needs a reload.
func (r *syncer) run(ctx context.Context, conn *Conn, commands []string) error {
	for _, command := range commands {
		r.last = command
		_, err := conn.Do(ctx, command)
		if _, ok := errors.AsType[*CommandError](err); ok {
			r.refused[command]++
			if r.refused[command] > 1 {
				return fmt.Errorf("%w: %w", ErrReload, err)
			}
			r.last = err.Error()
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// maps replaces the maps that differ.
func (r *syncer) maps(ctx context.Context, conn *Conn) (differ bool, err error) {
	if len(r.want.Maps) == 0 {
		return false, nil
	}
	names, err := conn.mapNames(ctx)
	if err != nil {
		return false, err
	}
	for _, m := range r.want.Maps {
		name, err := findMap(names, m.Path)
		if err != nil {
			return false, fmt.Errorf("%w: %w", ErrReload, err)
		}
		if name == "" {
			continue // Nothing in the configuration asks it, so nothing can differ.
		}
		different, err := conn.mapDiffers(ctx, name, m)
		if err != nil {
			return false, reload(err)
		}
		if !different {
			continue
		}
		differ = true
		r.last = "map " + m.Path
		if err := conn.replaceMap(ctx, name, m); err != nil {
			return false, reload(err)
		}
	}
	return differ, nil
}

// collect sees servers off that get no requests any more. They are looked after again with a later
// Sync.
func (r *syncer) collect(ctx context.Context, conn *Conn, garbage []live) error {
	r.report.Garbage = 0
	for _, l := range garbage {
		gone, err := r.seeOff(ctx, conn, l)
		if err != nil {
			return err
		}
		if !gone {
			r.report.Garbage++
		}
	}
	return nil
}

// seeOff deletes a server that has been out of traffic for a while, or finds that one which stays in
// the file is idle. Where it has something to do for longer than it may, that is closed.
func (r *syncer) seeOff(ctx context.Context, conn *Conn, l live) (gone bool, err error) {
	switch {
	case l.listed:
		gone, err = idle(ctx, conn, l)
	case l.age >= 1:
		gone, err = deleted(ctx, conn, l)
	}
	if err != nil || gone || l.limit == 0 || time.Duration(l.age)*time.Second < l.limit {
		return gone, err
	}
	if _, err = conn.Do(ctx, "shutdown sessions server "+l.name); refusal(err) {
		err = nil // somebody removed it meanwhile
	}
	return false, err
}

// deleted deletes a server. HAProxy refuses as long as a connection is open or pooled.
func deleted(ctx context.Context, conn *Conn, l live) (bool, error) {
	_, err := conn.Ask(ctx, "del server "+l.name) // Not counted: nobody is waiting for it.
	if refusal(err) {
		return false, nil
	}
	return err == nil, err
}

// idle reports whether a server has no session.
func idle(ctx context.Context, conn *Conn, l live) (bool, error) {
	backend, _, _ := strings.Cut(l.name, "/")
	answer, err := conn.Ask(ctx, fmt.Sprintf("show stat %s 4 %d", backend, l.id))
	if err != nil {
		return false, err
	}
	titles, rest, _ := strings.Cut(answer, "\n")
	line, _, _ := strings.Cut(rest, "\n")
	column, values := slices.Index(strings.Split(titles, ","), "scur"), strings.Split(line, ",")
	if column < 0 || len(values) > 1 && len(values) <= column {
		return false, fmt.Errorf("read haproxy's sessions of %s: %q", l.name, answer)
	}
	return len(values) == 1 || values[column] == "0", nil
}

// refusal reports whether HAProxy answered, and said no.
func refusal(err error) bool {
	_, ok := errors.AsType[*CommandError](err)
	return ok
}

// reload marks a refusal as a case for a reload and leaves other errors alone.
func reload(err error) error {
	if _, ok := errors.AsType[*CommandError](err); ok {
		return fmt.Errorf("%w: %w", ErrReload, err)
	}
	return err
}
