package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"text/tabwriter"
	"time"

	"fairway/confgen/route"
	"fairway/internal/consul"
	"fairway/internal/daemon"

	"github.com/hashicorp/consul/api"
	"github.com/urfave/cli/v2"
)

// overrideTimeout bounds what one of the commands asks of Consul.
const overrideTimeout = 10 * time.Second

var errNotSet = errors.New("nothing is set there")

// overrideCommands change routing keys live, through Consul: every confgen that follows it obeys.
func overrideCommands() []*cli.Command {
	command := func(name, usage, args string, action func(*cli.Context, *api.Client) error, more ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name: name, Usage: usage, ArgsUsage: args, HideHelpCommand: true, Before: behindTheWord,
			Flags: append(consul.Flags(), more...),
			Action: func(c *cli.Context) error {
				client, err := consul.New(consul.FromFlags(c))
				if err != nil {
					return daemon.Usagef("%w", err)
				}
				return action(c, client)
			},
		}
	}
	on := func() cli.Flag {
		return &cli.StringFlag{Name: "on", Usage: "`ID` of the one instance that is meant; default: all of the service"}
	}
	return []*cli.Command{
		command("set", "set a routing key of a service live, in place of what its labels say", "SERVICE KEY VALUE", set, on()),
		command("unset", "take back what was set; the labels decide again", "SERVICE KEY", unset, on()),
		command("overrides", "list what is set live", "[SERVICE]", overrides),
	}
}

// overridePath is where a value stands, from the arguments SERVICE and KEY.
func overridePath(c *cli.Context) (string, error) {
	key, err := route.OverrideKey(c.Args().Get(1))
	if err != nil {
		return "", daemon.Usagef("%s: %w", c.Command.Name, err)
	}
	path := c.Args().First()
	if id := c.String("on"); id != "" {
		path += "/" + id
	}
	return route.OverridePrefix + path + "/" + key, nil
}

func set(c *cli.Context, client *api.Client) error {
	if c.NArg() != 3 {
		return daemon.Usagef("set: want SERVICE KEY VALUE behind the options, such as: confgen set web weight 50")
	}
	path, err := overridePath(c)
	if err != nil {
		return err
	}
	service, value := c.Args().First(), c.Args().Get(2)
	key := path[strings.LastIndexByte(path, '/')+1:]
	if err := route.CheckOverride(route.Settings{}, key, value); err != nil {
		return daemon.Usagef("set: %w", err)
	}
	ctx, cancel := context.WithTimeout(c.Context, overrideTimeout)
	defer cancel()
	if err := known(ctx, client, service, c.String("on")); err != nil {
		return err
	}
	kv := client.KV()
	before, _, err := kv.Get(path, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("read %s: %w", path, err)
	}
	if _, err := kv.Put(&api.KVPair{Key: path, Value: []byte(value)}, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("set %s: %w", path, err)
	}
	was := "the labels decided before"
	if before != nil {
		was = fmt.Sprintf("was %q", before.Value)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s = %s (%s)\n", path, value, was)
	return err
}

// known refuses a service or an instance that the catalog does not have: it is most likely a slip.
func known(ctx context.Context, client *api.Client, service, instance string) error {
	rows, _, err := client.Catalog().Service(service, "", (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("look up service %s: %w", service, err)
	}
	if len(rows) == 0 {
		return fmt.Errorf("set: the catalog has no service %q; see: consul catalog services", service)
	}
	ids := make([]string, len(rows))
	for i, row := range rows {
		if ids[i] = row.ServiceID; instance == row.ServiceID {
			return nil
		}
	}
	if instance != "" {
		return fmt.Errorf("set: service %s has no instance %q; it has %s", service, instance, strings.Join(ids, ", "))
	}
	return nil
}

func unset(c *cli.Context, client *api.Client) error {
	if c.NArg() != 2 {
		return daemon.Usagef("unset: want SERVICE KEY behind the options, such as: confgen unset web weight")
	}
	path, err := overridePath(c)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context, overrideTimeout)
	defer cancel()
	kv := client.KV()
	before, _, err := kv.Get(path, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	switch {
	case err != nil:
		return fmt.Errorf("read %s: %w", path, err)
	case before == nil:
		return fmt.Errorf("unset %s: %w; see: confgen overrides", path, errNotSet)
	}
	if _, err := kv.Delete(path, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
		return fmt.Errorf("unset %s: %w", path, err)
	}
	_, err = fmt.Fprintf(c.App.Writer, "%s is no longer set (was %q)\n", path, before.Value)
	return err
}

func overrides(c *cli.Context, client *api.Client) error {
	if c.NArg() > 1 {
		return daemon.Usagef("overrides: want at most one SERVICE")
	}
	prefix := route.OverridePrefix
	if service := c.Args().First(); service != "" {
		prefix += service + "/"
	}
	ctx, cancel := context.WithTimeout(c.Context, overrideTimeout)
	defer cancel()
	pairs, _, err := client.KV().List(prefix, (&api.QueryOptions{RequireConsistent: true}).WithContext(ctx))
	if err != nil {
		return fmt.Errorf("list %s: %w", prefix, err)
	}
	w := tabwriter.NewWriter(c.App.Writer, 0, 0, 2, ' ', 0)
	shown := 0
	for _, pair := range pairs {
		path := strings.TrimPrefix(pair.Key, route.OverridePrefix)
		at := strings.LastIndexByte(path, '/')
		if strings.HasSuffix(path, "/") || path == "" {
			continue // a folder, made by Consul's own user interface
		}
		shown++
		fmt.Fprintf(w, "%s\t%s\t%s\n", cmp.Or(path[:max(at, 0)], "?"), path[at+1:], pair.Value)
	}
	if shown == 0 {
		fmt.Fprintln(w, "nothing is set: the labels decide")
	}
	return w.Flush()
}
