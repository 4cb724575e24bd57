package service

import "github.com/podplumb/podplumb/nat"

// NATState returns what the Backend of NAT makes of a table that holds have when it is told to serve these Frontends and nothing else. It is pure: with
// nat.Client.Plan it says what would change on a node, without changing it. The error joins an *UnservedError for every Frontend that the Backend does
// not serve; the State is then the one without them.
func NATState(have nat.State, frontends []Frontend) (nat.State, error) {
	part, err := natPart(Plan{Full: true, Set: frontends})
	return part.onto(have, true), err
}
