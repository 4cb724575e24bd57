package ipvs_test

import (
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/podplumb/podplumb/ipvs"
)

// TestMemory compares what a client remembers with a plain map, through random reads, writes and contradictions.
func TestMemory(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(11, 12))
	var m ipvs.Memory
	model, complete, unsure := map[ipvs.Key]ipvs.Service{}, false, map[ipvs.Key]bool{}
	for range 20000 {
		s := ipvs.State{Services: []ipvs.Service{randomService(r)}}.Canonical().Services[0]
		s.Mark, s.Family, s.Protocol = 1+r.Uint32N(300), ipvs.IPv4, 0
		s.Address = (ipvs.Key{}).Address
		switch n := r.IntN(500); {
		case n == 0:
			state := randomState(r).Canonical()
			m.Learn(state)
			clear(model)
			clear(unsure)
			complete = true
			for _, s := range state.Services {
				model[s.Key] = s
			}
		case n < 300:
			m.Note(s.Key, &s)
			model[s.Key] = s
			delete(unsure, s.Key)
		case n < 400:
			m.Note(s.Key, nil)
			delete(model, s.Key)
			if !complete {
				continue
			}
			delete(unsure, s.Key)
		case n < 405:
			m.Forget(s.Key)
			unsure[s.Key] = true
		}
		if !complete {
			continue
		}
		got, sure := m.Lookup(s.Key)
		want, ok := model[s.Key]
		require.Equal(t, !unsure[s.Key], sure)
		if sure {
			require.Equal(t, ok, got != nil)
			if ok {
				require.Equal(t, want, *got)
			}
		}
	}
}
