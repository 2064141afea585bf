# A person who changes routing live: confgen set, unset and overrides.

# confgen set refuses services that the catalog does not have.
service_prefix "" {
  policy = "read"
}

node_prefix "" {
  policy = "read"
}

key_prefix "fairway/override/" {
  policy = "write"
}
