package plugin

import (
	"net"
	"os"

	"github.com/containernetworking/cni/pkg/types"
	types100 "github.com/containernetworking/cni/pkg/types/100"

	"github.com/podplumb/podplumb/examples/cni/jsonlite"
)

// printed is types100.Result as it is written: that package takes it through JSON several times, which costs more than to make a link.
type printed struct {
	CNIVersion string             `json:"cniVersion"`
	Interfaces []printedInterface `json:"interfaces"`
	IPs        []printedIP        `json:"ips"`
	Routes     []printedRoute     `json:"routes"`
	DNS        *printedDNS        `json:"dns"`
}

type printedInterface struct {
	Name       string `json:"name"`
	MAC        string `json:"mac"`
	MTU        int    `json:"mtu"`
	Sandbox    string `json:"sandbox"`
	SocketPath string `json:"socketPath"`
	PCIID      string `json:"pciID"`
}

type printedIP struct {
	Interface *int   `json:"interface"`
	Address   string `json:"address"`
	Gateway   string `json:"gateway"`
}

type printedRoute struct {
	Dst      string `json:"dst"`
	GW       string `json:"gw"`
	MTU      int    `json:"mtu"`
	AdvMSS   int    `json:"advmss"`
	Priority int    `json:"priority"`
	Table    *int   `json:"table"`
	Scope    *int   `json:"scope"`
}

type printedDNS struct {
	Nameservers []string `json:"nameservers"`
	Domain      string   `json:"domain"`
	Search      []string `json:"search"`
	Options     []string `json:"options"`
}

// printResult prints the result in a version of the specification.
func printResult(r *types100.Result, version string) error {
	if version != "1.0.0" && version != "1.1.0" {
		return types.PrintResult(r, version)
	}
	text, err := resultText(r, version)
	if err != nil {
		return err
	}
	_, err = os.Stdout.Write(text)
	return err
}

// resultText is the result in a version that has no other fields than types100.
func resultText(r *types100.Result, version string) ([]byte, error) {
	p := printed{CNIVersion: version}
	for _, i := range r.Interfaces {
		p.Interfaces = append(p.Interfaces, printedInterface{i.Name, i.Mac, i.Mtu, i.Sandbox, i.SocketPath, i.PciID})
	}
	for _, i := range r.IPs {
		p.IPs = append(p.IPs, printedIP{i.Interface, i.Address.String(), addressText(i.Gateway)})
	}
	for _, x := range r.Routes {
		p.Routes = append(p.Routes, printedRoute{x.Dst.String(), addressText(x.GW), x.MTU, x.AdvMSS, x.Priority, x.Table, x.Scope})
	}
	if d := &r.DNS; !d.IsEmpty() {
		p.DNS = &printedDNS{d.Nameservers, d.Domain, d.Search, d.Options}
	}
	return jsonlite.Marshal(p)
}

func addressText(ip net.IP) string {
	if len(ip) == 0 {
		return ""
	}
	return ip.String()
}
