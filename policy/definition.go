package policy

import (
	"strconv"
	"strings"

	"github.com/podplumb/podplumb/internal/nft"
)

// definition returns the set that a name stands for, without its comment; nil when it is none of ours.
func definition(name string) *nft.Set {
	kind, _, _ := strings.Cut(strings.TrimPrefix(name, "any-"), "-")
	for f := range families {
		for d := range directions {
			for _, s := range []*wantSet{leadSet(d, f), chainSet(d, f)} {
				if s.def.Name == name {
					return s.def
				}
			}
		}
		for _, s := range []*wantSet{selfSet(f), ownSet(f), knownSet(f), memberSet(f), blockCounts(f), selectCounts(f)} {
			if s.def.Name == name {
				return s.def
			}
		}
		_, text, _ := strings.Cut(name, "-")
		n, err := strconv.Atoi(text)
		switch {
		case err != nil:
		case kind == "blocks"+suffix(f) && n > 0 && n <= familyBits[f]:
			return blockSet(f, n).def
		case kind == "selectors"+suffix(f) && n >= 0 && n < shards:
			return selectSet(f, n).def
		}
		switch kind {
		case "peers" + suffix(f):
			return &nft.Set{Name: name, Key: []nft.Expr{saddr[f]}}
		case "ports" + suffix(f), "localports" + suffix(f):
			return &nft.Set{Name: name, Key: portKey(f)}
		case "ranges" + suffix(f):
			return &nft.Set{Name: name, Key: []nft.Expr{saddr[f]}, Interval: true}
		}
	}
	switch {
	case strings.HasPrefix(name, "port-ranges-"):
		return &nft.Set{Name: name, Key: []nft.Expr{nft.ThDport}, Interval: true}
	case strings.HasPrefix(name, "single-ports-"):
		return &nft.Set{Name: name, Key: nft.Concat{nft.MetaL4Proto, nft.ThDport}}
	}
	return nil
}
