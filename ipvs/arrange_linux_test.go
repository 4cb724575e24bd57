package ipvs_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/ipvs"
)

// TestArrange puts listings as others' writes leave them in order, each with what was found for the one before: some services come twice, some not
// at all, and the lengths often agree by accident.
func TestArrange(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(3, 4))
	var hint []int32
	for range 20000 {
		list := make([]ipvs.Service, 5+r.IntN(3))
		last := map[uint32]int32{}
		for i := range list {
			list[i].Key = ipvs.Key{Mark: 1 + r.Uint32N(9), Family: ipvs.IPv4}
			last[list[i].Mark] = int32(i)
		}
		var want []int32
		for mark := range uint32(10) {
			if i, ok := last[mark]; ok {
				want = append(want, i)
			}
		}
		hint = ipvs.Arrange(list, hint)
		require.Equal(t, want, hint)
	}
}
