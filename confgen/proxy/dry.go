package proxy

import (
	"context"
	"time"

	"fairway/confgen/render"
)

// CanCheck reports whether there is a checker to ask.
func (t *Target) CanCheck() bool { return t.opt.Check.present() }

// Check has the proxy's own checker look at files as they would stand, and touches nothing. A
// refusal is a *RejectedError; without a checker everything passes. After files that pass, those
// that were refused before are in nobody's way any more.
func (t *Target) Check(ctx context.Context, files []render.File) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	want, err := t.prepare(files)
	if err != nil {
		return err
	}
	err = t.check(ctx, want, "stage-dry")
	if err == nil && t.rejected != nil && t.rejected.By == ByCheck {
		t.rejected, t.tried = nil, time.Time{}
	}
	return err
}
