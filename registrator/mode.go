package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/hashicorp/consul/api"
	"github.com/prometheus/client_golang/prometheus"

	"fairway/internal/consul"
	"fairway/registrator/catalog"
	"fairway/registrator/health"
	"fairway/registrator/service"
)

// mode is where rows are written to.
type mode string

const (
	modeAuto    mode = "auto"
	modeCatalog mode = "catalog" // as one Consul node for each Docker node, which registrator keeps alive
	modeAgent   mode = "agent"   // through the agent of this node, whose death is the node's
)

// store is where our rows are.
type store interface {
	rows
	Watch(ctx context.Context, failed func(error, time.Duration), wake func()) error
	Leave(ctx context.Context) error
}

// choice is a mode and why it was chosen.
type choice struct {
	mode   mode
	agent  string // name of the agent's node, in agent mode
	reason string
}

func (c choice) String() string { return fmt.Sprintf("%s mode: %s", c.mode, c.reason) }

// choose decides where rows go. It asks Consul nothing where the answer cannot matter; an error
// means that it did not answer.
func choose(ctx context.Context, opt Options, client *api.Client, node service.Node) (choice, error) {
	switch {
	case opt.Mode == modeCatalog:
		return choice{mode: modeCatalog, reason: "--mode catalog"}, nil
	case opt.Mode != modeAgent && len(opt.Consul.Addresses) > 1:
		return choice{mode: modeCatalog, reason: "of several Consul addresses none is this node's own agent"}, nil
	}
	self, err := catalog.Who(ctx, client)
	if err != nil && (opt.Mode == modeAgent || !errors.Is(err, catalog.ErrHidden)) {
		return choice{}, err
	}
	return decide(opt.Mode, self, err, node), nil
}

// decide is choose without the asking.
//
//	who answers at the Consul address                auto      agent
//	nobody who may say it                            catalog   –
//	an agent that has our node's name                agent     agent
//	a client agent at one of our addresses           agent     agent
//	a server of another name, here or elsewhere      catalog   agent
//	a client agent elsewhere                         catalog   agent
//
// A server takes registrations as every agent does. But its node is Consul's and not ours, and
// where servers share hosts with containers, it is the catalog that all nodes write to.
func decide(wanted mode, self catalog.Self, hidden error, node service.Node) choice {
	if hidden != nil {
		return choice{mode: modeCatalog, reason: catalog.ErrHidden.Error()}
	}
	kind := "client agent"
	if self.Server {
		kind = "server"
	}
	who := fmt.Sprintf("%s %s (%s)", kind, self.Node, self.Address)
	address, err := netip.ParseAddr(self.Address)
	here := err == nil && (address == node.IPv4 || address == node.IPv6)
	switch {
	case self.Node == node.Name:
		return choice{modeAgent, self.Node, who + " answers, which has this node's name"}
	case here && !self.Server:
		return choice{modeAgent, self.Node, who + " answers, which has this node's address"}
	case wanted == modeAgent:
		return choice{modeAgent, self.Node, "--mode agent; " + who + " answers"}
	}
	return choice{mode: modeCatalog, reason: who + " answers, which is not this node's own agent"}
}

// choose asks until Consul answers; only the end of ctx is an error.
func (p *program) choose(ctx context.Context, client *api.Client, node service.Node) (choice, error) {
	retry := backoff.NewExponentialBackOff()
	retry.InitialInterval, retry.MaxInterval = 100*time.Millisecond, 5*time.Second
	for {
		c, err := choose(ctx, p.opt, client, node)
		if err == nil || ctx.Err() != nil {
			return c, err
		}
		p.consulPart.Set(err)
		timer := time.NewTimer(retry.NextBackOff())
		select {
		case <-ctx.Done():
			timer.Stop()
			return c, ctx.Err()
		case <-timer.C:
		}
	}
}

// openStore returns what writes rows in a chosen mode, and the options of checks that it asks for.
func openStore(c choice, client *api.Client, opt Options, cat catalog.Options, checks health.Options) (store, health.Options) {
	if c.mode != modeAgent {
		return catalog.New(client, cat), checks
	}
	agent := catalog.NewAgent(client, catalog.AgentOptions{
		Node: c.agent, Registry: cat.Node.Name, TTL: max(opt.StopGrace, 2*opt.SessionTTL), Token: opt.Consul.TokenNow(),
		Namespace: cat.Namespace, Partition: cat.Partition,
	})
	if checks.Exec != nil { // else nobody stays to find out a first verdict
		checks.Handed = agent.Runs
	}
	return agent, checks
}

// tellMode says which mode was chosen, in the log and as a metric.
func (p *program) tellMode(c choice) {
	p.d.Log.Info("registering in "+string(c.mode)+" mode", "reason", c.reason)
	gauge := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "fairway", Subsystem: "registrator", Name: "mode_info",
		Help:        "1, with the mode in which rows are written: catalog or agent.",
		ConstLabels: prometheus.Labels{"mode": string(c.mode)},
	})
	gauge.Set(1)
	p.d.Metrics.MustRegister(gauge)
}

// explainMode tells for a person which mode would be chosen.
func explainMode(ctx context.Context, opt Options, node service.Node) string {
	client, err := consul.New(opt.Consul)
	if err != nil {
		return err.Error()
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	c, err := choose(ctx, opt, client, node)
	if err != nil {
		return "mode not known: " + err.Error()
	}
	return c.String()
}
