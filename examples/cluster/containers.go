package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/podplumb/podplumb/examples/internal/container"
	"github.com/podplumb/podplumb/examples/internal/manifest"
)

// command is a local command that an annotation names.
type command struct {
	name    string // of the container that it stands for; empty when it runs beside them
	process *container.Process
	log     string
}

// startPod starts a process for every container of the pod, which listens on the container's ports, and the commands that
// the pod's annotations name. The commands come last: they find the containers listening.
func (c *cluster) startPod(ctx context.Context, p *pod) error {
	base := container.Config{NetNS: p.ns, Run: c.run.Name, Pod: p.Name(), Detach: c.detach, Etc: true}
	for _, spec := range manifest.Containers(&p.Object.Spec) {
		ports := listenOn(spec)
		if p.Object.Annotations[manifest.Command+"."+spec.Name] != "" {
			for _, port := range spec.Ports {
				p.serves(port)
			}
			continue
		}
		if spec.Image == dnsImage {
			if err := c.startDNS(ctx, p, base, &spec); err != nil {
				return err
			}
			continue
		}
		if err := c.startContainer(ctx, p, base, spec.Name, ports); err != nil {
			return err
		}
	}
	if p.probe == 0 { // nothing of ours is there to answer the checks: the pod gets a server on a port of its own choice
		if err := c.startContainer(ctx, p, base, "probe", []string{"tcp/0"}); err != nil {
			return err
		}
	}
	for _, spec := range append([]corev1.Container{{}}, manifest.Containers(&p.Object.Spec)...) {
		key := manifest.Command
		if spec.Name != "" {
			key += "." + spec.Name
		}
		if text := p.Object.Annotations[key]; text != "" {
			if err := c.startCommand(p, base, spec, text); err != nil {
				return err
			}
		}
	}
	return nil
}

// serves notes a port on which no container of ours answers, but something else.
func (p *pod) serves(port corev1.ContainerPort) {
	p.foreign[fmt.Sprintf("%s/%d", port.Protocol, port.ContainerPort)] = true
}

// listenOn names the ports of a container for container.Serve.
func listenOn(spec corev1.Container) []string {
	var ports []string
	for _, port := range spec.Ports {
		if port.Protocol != corev1.ProtocolSCTP {
			ports = append(ports, fmt.Sprintf("%s/%d", strings.ToLower(string(port.Protocol)), port.ContainerPort))
		}
	}
	return ports
}

func (c *cluster) startContainer(ctx context.Context, p *pod, config container.Config, name string, ports []string) error {
	log, err := c.run.Log(p.Name() + "." + name)
	if err != nil {
		return err
	}
	defer log.Close()
	config.Log = log
	process, err := container.Serve(ctx, config, name, ports...)
	if err != nil {
		return err
	}
	p.processes = append(p.processes, process)
	for i, port := range ports {
		if p.probe == 0 && strings.HasPrefix(port, "tcp/") {
			p.probe = process.Ports[i]
		}
	}
	return nil
}

// startCommand gives the command the environment that a container with the downward API would have.
func (c *cluster) startCommand(p *pod, config container.Config, spec corev1.Container, text string) error {
	name := p.Name() + ".command"
	if spec.Name != "" {
		name += "." + spec.Name
	}
	log, err := c.run.Log(name)
	if err != nil {
		return err
	}
	defer log.Close()
	config.Log = log
	config.Tools = c.run.Path()
	config.Env = []string{
		"POD_NAME=" + p.Object.Name, "POD_NAMESPACE=" + p.Object.Namespace, "NODE_NAME=" + p.Node,
		"POD_IP=" + p.Addrs[0].String(), "POD_IPS=" + strings.ReplaceAll(list(p.Addrs), " ", ","),
	}
	for _, variable := range spec.Env {
		if variable.ValueFrom == nil {
			config.Env = append(config.Env, variable.Name+"="+variable.Value)
		}
	}
	process, err := container.Command(config, text)
	if err != nil {
		return err
	}
	p.commands = append(p.commands, &command{name: spec.Name, process: process, log: log.Name()})
	return nil
}

// proveCommands reports what the commands of annotations said. Those that have not ended soon are taken for servers.
func (c *cluster) proveCommands(ctx context.Context) error {
	const patience = 500 * time.Millisecond // for all of them together
	soon, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var faults []error
	for _, p := range c.pods {
		for _, command := range p.commands {
			title := "command of " + p.Name()
			if command.name != "" {
				title += ", container " + command.name
			}
			select {
			case <-command.process.Done():
			case <-soon.Done():
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if command.process.Running() {
				c.out.Verdict(true, "%s: is running", title)
			} else if err := command.process.Err(); err != nil {
				c.out.Verdict(false, "%s: %v", title, err)
				faults = append(faults, fmt.Errorf("%s: %w", title, err))
			} else {
				c.out.Verdict(true, "%s: ended well", title)
			}
			output, err := os.ReadFile(command.log)
			if err != nil {
				return err
			}
			for line := range strings.Lines(string(output)) {
				c.out.Line("          | %s", strings.TrimRight(line, "\r\n"))
			}
		}
	}
	return errors.Join(faults...)
}

// containerList names the containers of a pod with their ports.
func containerList(p *pod) string {
	var texts []string
	for _, spec := range manifest.Containers(&p.Object.Spec) {
		text := spec.Name
		for _, port := range spec.Ports {
			text += fmt.Sprintf(" %d/%s", port.ContainerPort, port.Protocol)
		}
		if p.Object.Annotations[manifest.Command+"."+spec.Name] != "" {
			text += " (command)"
		}
		texts = append(texts, text)
	}
	return strings.Join(texts, ", ")
}

// stopCommands lets commands end in their own way, and not longer than they need.
func (c *cluster) stopCommands() {
	const grace = 300 * time.Millisecond
	done := make(chan struct{})
	running := 0
	for _, p := range c.pods {
		for _, command := range p.commands {
			running++
			go func() {
				command.process.Stop(grace)
				done <- struct{}{}
			}()
		}
	}
	for range running {
		<-done
	}
}

func (p *pod) close() {
	for _, process := range p.processes {
		process.Release()
	}
	for _, command := range p.commands {
		command.process.Release()
	}
	if p.ns != nil {
		p.ns.Close()
	}
}
