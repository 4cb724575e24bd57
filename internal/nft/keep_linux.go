package nft

import (
	"context"
	"errors"
	"io/fs"
	"time"
)

// Settle is how long Keep lets others finish what they began before it repairs, and Pause how long it waits after what failed.
const (
	Settle = 20 * time.Millisecond
	Pause  = 500 * time.Millisecond
)

// Keep repairs a table at once and whenever others change it, until ctx is done or an error is fs.ErrClosed. Any other is told, and it begins
// again. The error that it returns is never nil.
func Keep(ctx context.Context, open func() (*Watch, error), repair func(context.Context) error, failed func(error)) error {
	for {
		err := keepOnce(ctx, open, repair)
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		if errors.Is(err, fs.ErrClosed) {
			return err
		}
		failed(err)
		Sleep(ctx, Pause)
	}
}

// keepOnce listens until something fails.
func keepOnce(ctx context.Context, open func() (*Watch, error), repair func(context.Context) error) error {
	w, err := open()
	if err != nil {
		return err
	}
	defer w.Close()
	for {
		// What changed before the socket listened, or since, is repaired before waiting.
		if err := repair(ctx); err != nil {
			return err
		}
		if err := w.Next(ctx); err != nil {
			return err
		}
		Sleep(ctx, Settle)
	}
}

// Sleep waits for d, or until ctx is done.
func Sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
