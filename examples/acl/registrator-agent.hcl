# registrator in agent mode: it registers with the Consul agent of its own node. The agent needs a
# token of its own (node identity, or node:write) to keep the catalog equal to what it holds.

# What it registers; the agent syncs each row with the token it was registered with.
service_prefix "" {
  policy = "write"
}

# To see its own rows, and to be woken when one changes.
node_prefix "" {
  policy = "read"
}

# To ask the agent who it is: --mode auto chooses by that.
agent_prefix "" {
  policy = "read"
}

# Labels of Swarm services, which managers share with workers.
key_prefix "fairway/swarm/" {
  policy = "write"
}
