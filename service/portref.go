package service

import (
	"encoding/json"
	"strconv"
)

// PortRef is a port by its number or by its name; in JSON a number or a string, as Kubernetes' IntOrString. The zero PortRef is the number 0 and stands
// for "not given".
type PortRef struct {
	Number int32
	Name   string // wins over Number when not empty
}

func (p PortRef) String() string {
	if p.Name != "" {
		return p.Name
	}
	return strconv.Itoa(int(p.Number))
}

// MarshalJSON writes a string when there is a name, else a number.
func (p PortRef) MarshalJSON() ([]byte, error) {
	if p.Name != "" {
		return json.Marshal(p.Name)
	}
	return json.Marshal(p.Number)
}

// UnmarshalJSON reads a string or a number.
func (p *PortRef) UnmarshalJSON(b []byte) error {
	*p = PortRef{}
	if len(b) > 0 && b[0] == '"' {
		return json.Unmarshal(b, &p.Name)
	}
	return json.Unmarshal(b, &p.Number)
}
