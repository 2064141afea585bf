# confgen beside a proxy: it only reads. A template that reads keys of its own needs key_prefix for them.

service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}

# What operators set live with confgen set.
key_prefix "fairway/override/" {
  policy = "read"
}

# What registrators say of their last changes. Without it the same is found, some milliseconds later.
key_prefix "fairway/changed/" {
  policy = "read"
}
