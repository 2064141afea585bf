# Confgen's configuration file: confgen --config confgen.hcl
#
# This file is the manual, and a test reads it. A setting that is written out says
# something other than its default. One behind "#" and a space says its default. One
# behind "#:" has no default, or one that is made from other settings: it is an example.
#
# Every setting is also a flag and an environment variable, for the one proxy of a
# confgen without a file: timeouts { server = … } is --timeout-server and
# CONFGEN_TIMEOUT_SERVER. docs/flags-confgen.md says more of each.
#
# Times are texts: "500ms", "10s", "1h30m". env("NAME") is an environment variable, which
# has to be set. Relative paths begin where confgen was started. A mistake ends the start
# with file:line:column and the nearest name that there is. SIGHUP has the file read
# again: proxies whose settings have changed go on with the new ones, the others do not
# notice, and a file with a mistake changes nothing.

# ---------------------------------------------------------------- the whole program
# These may also be given as flags or variables beside a file, and then those count.
# They cannot change while confgen runs.

consul {
  address = "consul-1:8500,consul-2:8500" # several are tried in turn; unix:///path, https://…
  #: token     = env("TOKEN")
  #: token_file = "/run/secrets/consul-token" # read again whenever it changes
  # ssl        = false                        # https for addresses without a scheme
  # ssl_verify = true
  #: ca_cert         = "/etc/fairway/ca.pem"
  #: ca_path         = "/etc/fairway/ca"
  #: client_cert     = "/etc/fairway/client.pem"
  #: client_key      = "/etc/fairway/client.key"
  #: tls_server_name = "server.dc1.consul"
  #: datacenter      = "dc1"
  #: namespace       = "default" # Consul Enterprise
  #: partition       = "default"
  # connections = 8
}

# routing_prefix = "fairway" # labels begin with it
# empty_grace    = "30s"     # an empty catalog is believed only after this time
# template_connections = 16  # to Consul, for what templates ask for besides routes
#: state_dir     = "/var/lib/confgen" # of the saved snapshot; default: .confgen in the first proxy's dir
# log_level      = "info"
# log_json       = false
http_addr = "127.0.0.1:9102" # of /metrics, /healthz, /readyz and /status

# What is not believed at once: a service that loses its instances keeps them meanwhile.
guards {
  # grace = "30s"    # "0s" believes it at once
  # share = 100      # percent of a service's instances that must be lost at once
  # mode  = "accept" # or "approve": only confgen approve ends it
  # total = 0        # percent of all instances whose loss at once has every service keep them
  #: services = ["shop=50%:2m:approve"] # share, grace and mode of single services
}

# ---------------------------------------------------------------- every proxy
# What stands here is as if it stood in each proxy that does not say otherwise. Blocks
# with a name, such as entrypoints, come in addition to the proxy's own.

defaults {
  access_log = true
  timeouts {
    server = "2m"
  }
  #: user_list "staff" { file = "/run/secrets/staff" }
}

# ---------------------------------------------------------------- one proxy
# The name tells it apart in logs, in metrics (label proxy) and for confgen status,
# and it is the instance that routing labels may name.

proxy "edge" {
  # kind    = "haproxy" # or "nginx"
  dir       = "/fairway/edge" # as confgen sees it; no two proxies may have the same
  #: proxy_dir = "/etc/haproxy" # the same folder as the proxy sees it
  #: templates = ["/etc/fairway/templates"] # files and folders that override defaults; later ones win
  # no_default_templates = false # true: make no files but those of templates
  # in_place  = false # write into files that are bind-mounted one by one
  #: instance = "edge" # default: the proxy's name

  # How it is reached.
  #: reload        = "master" # or pidfile, container:NAME, command:PROGRAM ARGS, child; master[:SOCKET], pidfile[:FILE]
  #: command       = ["haproxy"] # confgen runs it as a child, as confgen run -- haproxy does
  # on_proxy_exit  = "restart" # or "exit": what confgen does when its child ends
  #: run_dir       = "/fairway/edge" # of sockets and pid file
  #: proxy_run_dir = "/run/haproxy"  # the same folder as the proxy sees it
  #: stats_socket  = "/fairway/edge/haproxy.sock" # "none": every change is a reload
  #: generation_socket = "/fairway/edge/nginx-generation.sock" # nginx
  #: proxy_version = "1.27.4" # of nginx; default: asked of it when it is on PATH
  #: check_command = "haproxy -c -f {{file}}" # "none" for no check
  # check_timeout   = "20s"
  # reload_interval = "1s"
  # reload_timeout  = "30s"
  # old_workers     = 5
  # hard_stop_after = "30s" # how long an old worker may finish requests
  # test_bind       = false
  # resync          = "10s"
  #: docker_host      = "unix:///var/run/docker.sock" # for reload = "container:NAME"
  #: docker_cert_path = "/etc/fairway/docker"

  # What it listens on. Without a block: web on port 80 and, with certificates, websecure
  # on port 8443.
  entrypoint "web" {
    port = 80
  }
  entrypoint "inner" {
    address = "127.0.0.1" # default: every address
    port    = 8080
    # tls   = false
  }
  #: certificates        = ["/certs", "/run/secrets/shop.pem"] # folders and files: NAME.pem, or NAME.crt and NAME.key
  #: default_certificate = "shop" # for hosts without one, which are refused otherwise
  #: system_authorities  = "/etc/ssl/certs/ca-certificates.crt" # for proto=https; default: where the system has them
  #: tcp_ports           = ["5432", "6000-6010"] # that the label tcp may name
  #: stream_module       = "/usr/lib/nginx/modules/ngx_stream_module.so" # nginx: where it is not built in
  #: tls_certificates    = "/certs" # instead of a store: a PEM file that only the proxy reads; for HAProxy also a folder
  # max_conn = 0 # 0 leaves it to the proxy

  # Whom it knows and believes.
  #: user_list "admins" { file = "/run/secrets/admins" } # lines of user:hash; label auth=admins
  #: error_pages "brand" { folder = "/etc/fairway/brand" } # 503.html, …; label errors=brand
  trusted_proxies = ["10.0.0.0/8"] # whose X-Forwarded-For is believed
  #: allow_snippets = ["shop"]     # services whose labels may hold raw configuration; "*" for all
  # no_last_resort = false
  # panic_share = 0 # percent of a service's instances that must be passing for checks to be believed

  #: stats {
  #:   user          = "admin"
  #:   password      = env("STATS_PASSWORD")
  #:   password_file = "/run/secrets/stats"
  #:   entrypoint    = "web"
  #: }

  timeouts {
    connect      = "1s"
    # client     = "30s"
    # request    = "10s"
    # keep_alive = "10s"
    # queue      = "10s"
    # tunnel     = "1h"
    # check      = "1s"
  }
  # check_interval = "2s"
}

# Another one, of another kind, from the same catalog and the same connections to Consul.
proxy "inner" {
  kind = "nginx"
  dir  = "/fairway/inner"
  entrypoint "web" {
    address = "10.0.0.5"
    port    = 80
  }
}
