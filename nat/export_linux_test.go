package nat

import "github.com/podplumb/podplumb/internal/nft"

// Floor encodes a new table that holds s, to be committed by itself: what the
// kernel's part of a cold load costs.
func Floor(s State) *nft.Batch {
	c := Config{Shared: true}
	if err := c.complete(); err != nil {
		panic(err)
	}
	lay := newLayout(c)
	lay.table.Owned = false
	t := transaction{c: &Client{lay: lay}, batch: nft.NewBatch()}
	t.batch.AddTable(lay.whole())
	t.edits = newWorld(lay).must(Diff(State{}, s))
	t.write()
	return t.batch
}

// Doubt makes the next change replace the table.
func (c *Client) Doubt() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.damaged = true
}
