package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"
)

// config is the part of a KubeProxyConfiguration (kubeproxy.config.k8s.io/v1alpha1) that has a meaning here.
type config struct {
	Kind             string `json:"kind"`
	HostnameOverride string `json:"hostnameOverride"`
	ClusterCIDR      string `json:"clusterCIDR"`
	DetectLocal      struct {
		ClusterCIDRs []string `json:"clusterCIDRs"`
	} `json:"detectLocal"`
	NodePortAddresses  []string `json:"nodePortAddresses"`
	HealthzBindAddress *string  `json:"healthzBindAddress"`
	MetricsBindAddress *string  `json:"metricsBindAddress"`
	ClientConnection   struct {
		Kubeconfig string `json:"kubeconfig"`
	} `json:"clientConnection"`
	IPTables rules           `json:"iptables"`
	NFTables rules           `json:"nftables"`
	Linux    rules           `json:"linux"`
	Sync     metav1.Duration `json:"syncPeriod"`
	MinSync  metav1.Duration `json:"minSyncPeriod"`
}

type rules struct {
	MasqueradeAll      bool  `json:"masqueradeAll"`
	LocalhostNodePorts *bool `json:"localhostNodePorts"`
}

// readConfig takes over what the file says. Fields that mean nothing here are passed over, so that kube-proxy's file works.
func (o *options) readConfig(name string) error {
	data, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	var c config
	if err := yaml.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	var faults []error
	if c.Kind != "KubeProxyConfiguration" {
		faults = append(faults, fmt.Errorf("kind: %q is not KubeProxyConfiguration", c.Kind))
	}
	o.node, o.kubeconfig = c.HostnameOverride, c.ClientConnection.Kubeconfig
	if o.clusterCIDRs, err = parsePrefixes(append(strings.Split(c.ClusterCIDR, ","), c.DetectLocal.ClusterCIDRs...)); err != nil {
		faults = append(faults, fmt.Errorf("clusterCIDR: %w", err))
	}
	if err := o.setNodePorts(strings.Join(c.NodePortAddresses, ",")); err != nil {
		faults = append(faults, fmt.Errorf("nodePortAddresses: %w", err))
	}
	if c.HealthzBindAddress != nil && *c.HealthzBindAddress != "" {
		o.healthz = *c.HealthzBindAddress
	}
	if c.MetricsBindAddress != nil && *c.MetricsBindAddress != "" {
		o.metrics = *c.MetricsBindAddress
	}
	o.masqueradeAll = c.IPTables.MasqueradeAll || c.NFTables.MasqueradeAll || c.Linux.MasqueradeAll
	if local := c.IPTables.LocalhostNodePorts; local != nil {
		o.nodePorts.Localhost = *local
	}
	for _, period := range []struct {
		from metav1.Duration
		to   *time.Duration
	}{{c.Sync, &o.sync}, {c.MinSync, &o.minSync}} {
		if period.from.Duration != 0 {
			*period.to = period.from.Duration
		}
	}
	if err := errors.Join(faults...); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
