package watch

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// WholeCatalog is what Approve calls a catalog that has become empty.
const WholeCatalog = "the whole catalog"

// ErrNotHeld means that there is nothing to approve.
var ErrNotHeld = errors.New("nothing is held back")

// Approve has losses believed that are held: those of the named services, or all that is held,
// an emptied catalog included. It returns what was approved. Naming a service of which nothing
// is held is ErrNotHeld, and approves nothing.
func (w *Watcher) Approve(ctx context.Context, services []string) ([]string, error) {
	type answer struct {
		approved []string
		err      error
	}
	got := make(chan answer, 1)
	select {
	case w.events <- func(k *keeper) {
		approved, err := k.approve(services)
		got <- answer{approved, err}
	}:
		a := <-got
		return a.approved, a.err
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-w.stopped:
		return nil, context.Canceled
	}
}

func (k *keeper) approve(services []string) (approved []string, err error) {
	held := make([]string, 0, len(k.losses.held))
	for _, h := range k.losses.list() {
		held = append(held, h.Service)
	}
	if len(services) == 0 {
		services = held
		if k.guard.held != "" {
			k.guard.approved = true
			approved = append(approved, WholeCatalog)
		}
	}
	for _, name := range services {
		if !slices.Contains(held, name) {
			if len(held) == 0 {
				return nil, fmt.Errorf("service %s: %w", name, ErrNotHeld)
			}
			return nil, fmt.Errorf("service %s: %w; held are: %s", name, ErrNotHeld, strings.Join(held, ", "))
		}
	}
	for _, name := range services {
		k.losses.held[name].approved = true
		approved = append(approved, name)
	}
	if len(approved) == 0 {
		return nil, ErrNotHeld
	}
	k.touch()
	return approved, nil
}
