package nft_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/internal/nft"
)

// FuzzDecode feeds the decoders anything; what the encoder wrote comes back.
func FuzzDecode(f *testing.F) {
	table := sample()
	verdict := nft.Verdict{Code: nft.Goto, Chain: "lb"}
	list := []nft.Element{
		{Key: key(1), Data: nft.AppendUint32(nil, 3), Comment: "one", Extra: []byte{1}},
		{Key: key(2), KeyEnd: key(3)},
		{Key: key(4), End: true},
		{Key: nft.AppendUint32(nil, 1), Verdict: &verdict},
	}
	data := nft.Encode(table, table.Sets[0], list)
	f.Add(data)
	f.Add(data[:len(data)/2])
	f.Fuzz(func(t *testing.T, b []byte) {
		nft.Decode(b)
		got := []nft.Element{}
		for _, e := range nft.Decode(data) {
			if e.Key != nil {
				got = append(got, e)
			}
		}
		require.Equal(t, list, got)
	})
}
