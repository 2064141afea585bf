# registrator in catalog mode: one token for all nodes, or one for each.

# Its own node, and those of others when it is elected to take silent ones out.
node_prefix "" {
  policy = "write"
}

# What containers are called nobody knows beforehand. Narrow it and what it does not cover is refused,
# counted and tried again, and the rest is registered.
service_prefix "" {
  policy = "write"
}

# The session that proves that the node lives.
session_prefix "" {
  policy = "write"
}

# The keys that nodes hold with their sessions.
key_prefix "fairway/nodes/" {
  policy = "write"
}

# The lock of the one that watches over the others.
key "fairway/reaper" {
  policy = "write"
}

# Labels of Swarm services, which managers share with workers.
key_prefix "fairway/swarm/" {
  policy = "write"
}

# Which services a node has just changed, so that front ends need not search for it. Without this rule all
# is registered as well, and seen some milliseconds later.
key_prefix "fairway/changed/" {
  policy = "write"
}
