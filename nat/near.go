package nat

import "github.com/podplumb/podplumb/internal/nft"

// split is what the lane of forwards with near targets does: a second number
// leads on, that for clients that are near or that for the others.
func (l *layout) split(node bool) []nft.Rule {
	var rules []nft.Rule
	for _, f := range l.families() {
		near := goTo(f.nearChain(node))
		rules = append(rules,
			rule(inSet(f.saddr, f.networks), near),
			rule(inSet(f.saddr, f.excluded), near),
			rule(f.own(), fromHost(), near),
			rule(l.put(f.keyFor(node), f.far)),
		)
	}
	rules = append(rules, l.draw())
	if !node {
		// What has no target for its client is refused later, and no node port stands in for it.
		rules = append(rules, rule(nft.Verdict{Code: nft.Accept}))
	}
	return rules
}

// nearLanes leads on to the lane for clients that are near.
func (l *layout) nearLanes(f *family, node bool) *nft.Chain {
	return chain(f.nearChain(node), rule(l.put(f.keyFor(node), f.near)), l.draw())
}

func (f *family) nearChain(node bool) string {
	if node {
		return "node-near" + f.suffix
	}
	return "near" + f.suffix
}

// put stores the number that a map has for a key in the mark.
func (l *layout) put(key nft.Expr, numbers *nft.Set) nft.Stmt {
	return nft.PutMark{Value: nft.Mapped{Key: key, Map: numbers}, Shift: l.shift()}
}

// draw leads to the lane whose number is in the mark.
func (l *layout) draw() nft.Rule {
	return rule(nft.VMap{Key: nft.Masked{Of: nft.MetaMark, Mask: l.mark}, Map: l.draws})
}

// own holds for packets of the family.
func (f *family) own() nft.Stmt {
	if f.is4() {
		return nft.Is{Field: nft.MetaNFProto, Value: []byte{byte(nft.FamilyIPv4)}, Text: "ipv4"}
	}
	return nft.Is{Field: nft.MetaNFProto, Value: []byte{byte(nft.FamilyIPv6)}, Text: "ipv6"}
}

// fromHost holds for packets from one of the host's own addresses.
func fromHost() nft.Stmt {
	return nft.Is{Field: nft.FibSaddrType, Value: nft.AppendUint32(nil, 2), Text: "local"}
}
