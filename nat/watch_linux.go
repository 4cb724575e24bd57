package nat

import "context"

func (c *Client) watch(ctx context.Context) error { <-ctx.Done(); return context.Cause(ctx) }
