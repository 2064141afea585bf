# Sourced by scripts/demo: the demo on one Docker Engine.
#
# HAProxy, confgen and registrator use the machine's own network, and registrator
# registers the ports that containers publish at the address of Docker's bridge:
# so the front end reaches whatever was published, on whichever network it is,
# and whatever becomes of this machine's other addresses. Where containers cannot
# use the machine's network (Docker Desktop, rootless Docker) all parts stand on
# Docker's default bridge, and containers there are reached directly.

label=org.fairway.demo
prefix=fairway-demo
host=cluster.test
# What a browser resolves to this machine without being told.
browser_host=cluster.localhost

local_up() {
	steps=8
	need docker curl jq go make

	step "Docker"
	engine
	choose_network
	# A port in use is found out before what runs is touched, unless we use it.
	noted port | grep -qx "$PORT" || port_free PORT "$PORT"
	noted port | grep -qx "$CONSUL_PORT" || port_free CONSUL_PORT "$CONSUL_PORT"
	remove_containers
	port_free PORT "$PORT"
	port_free CONSUL_PORT "$CONSUL_PORT"
	note port "$PORT"
	note port "$CONSUL_PORT"
	trap local_trouble EXIT

	step "programs and images"
	programs
	haproxy_image
	consul_image
	note_ids

	step "Consul, in development mode, on 127.0.0.1:$CONSUL_PORT"
	start_consul

	step "registrator: containers of this machine into Consul"
	start_registrator
	show "node $(consul nodes | awk 'NR > 1 && $1 != "consul" { print $1, $2 }') is in the catalog"

	step "HAProxy with confgen: from Consul to the front end, on 127.0.0.1:$PORT"
	start_front_end
	show "an unknown host is answered with $(curl -s -o /dev/null -m 5 -w '%{http_code}' -H 'Host: nobody.test' "$front/")"

	step "a web container, then three of them"
	web 1
	first_answer "$host" web-1
	web 2
	first_answer "$host" web-2
	web 3
	first_answer "$host" web-3
	eventually 20 "three containers answer" answered_by "$host" 3
	rotation "$host" 6

	step "one of three is stopped, under load"
	under_load "$host" stop_web 2
	show "left: $(consul_instances)"

	step "and started again"
	docker start "$prefix-web-2" >/dev/null
	started=$EPOCHREALTIME
	first_answer "$host" web-2

	trap - EXIT
	local_summary
}

# choose_network settles how the parts reach each other, the containers and Docker.
choose_network() {
	local info
	socket=$(docker context inspect --format '{{.Endpoints.docker.Host}}')
	socket=${socket#unix://}
	info=$(docker info --format '{{.OperatingSystem}} {{.SecurityOptions}}')
	if [[ -n ${FAIRWAY_DEMO_NETWORK:-} ]]; then
		network=$FAIRWAY_DEMO_NETWORK
	elif [[ $(uname -s) != Linux || $info == *"Docker Desktop"* || $info == *rootless* ]]; then
		network=bridge
	else
		network=host
	fi
	# Its containers live in a virtual machine, where the socket is the usual one.
	[[ $info != *"Docker Desktop"* ]] || socket=/var/run/docker.sock
	front=http://127.0.0.1:$PORT
	user=65532:65532
	case $network in
	host)
		parts=(--network host)
		publish=()
		bind=127.0.0.1:$PORT
		# A port below 1024 of the machine itself is root's.
		((10#$PORT >= 1024)) || user=0:0
		;;
	bridge)
		parts=()
		publish=(--publish "127.0.0.1:$PORT:80")
		bind=:80
		;;
	*) bad_usage "FAIRWAY_DEMO_NETWORK \"$network\": want host or bridge" ;;
	esac
}

# port_free VARIABLE PORT
port_free() {
	! (exec 3<>"/dev/tcp/127.0.0.1/$2") 2>/dev/null ||
		die "port $2 of 127.0.0.1 is taken by another program; choose another one: make demo $1=$((10#$2 + 1))"
}

# run NAME ARGUMENT... starts a container of the demo.
run() {
	local name=$1
	shift
	docker run --detach --name "$prefix-$name" --label "$label=1" --restart unless-stopped "$@" >/dev/null
}

start_consul() {
	# Its catalog is for the front end's services, not for its own ports.
	run consul --publish "127.0.0.1:$CONSUL_PORT:8500" --label SERVICE_IGNORE=true fairway-demo/consul \
		agent -dev -ui -node=consul -client=0.0.0.0 -log-level=warn -hcl='disable_update_check = true'
	eventually 30 "wait for Consul" consul_leads || exit 1
	show "consul catalog services: $(consul services | xargs)"
	consul_inside=127.0.0.1:$CONSUL_PORT
	[[ $network == host ]] || consul_inside=$(docker inspect --format '{{.NetworkSettings.IPAddress}}' "$prefix-consul"):8500
}

consul() { docker exec "$prefix-consul" /bin/consul catalog "$@"; }
consul_leads() { [[ $(curl -sf -m 2 "http://127.0.0.1:$CONSUL_PORT/v1/status/leader") == *:* ]]; }

# consul_instances names the web containers that Consul calls passing.
consul_instances() {
	curl -sf -m 5 "http://127.0.0.1:$CONSUL_PORT/v1/health/service/web?passing" | jq -r '.[].Service.ID' | sort | xargs
}

start_registrator() {
	local where
	where=(--ip "$(docker inspect --format '{{.NetworkSettings.Gateway}}' "$prefix-consul")")
	[[ $network == host ]] || where+=(--network bridge)
	run registrator "${parts[@]}" --user 0:0 --volume "$socket:/var/run/docker.sock:ro" \
		fairway/registrator --consul-addr "$consul_inside" --http-addr off "${where[@]}"
	eventually 30 "wait for registrator" node_registered || exit 1
}

node_registered() { consul nodes | awk 'NR > 1 && $1 != "consul" { found = 1 } END { exit !found }'; }

start_front_end() {
	# The empty volume takes over the owner of /fairway in confgen's image, so
	# confgen comes first; HAProxy waits for its first configuration.
	run confgen "${parts[@]}" --user "$user" --volume "$prefix:/fairway" \
		--env CONFGEN_STATS_USER=demo --env CONFGEN_STATS_PASSWORD=demo \
		fairway/confgen --consul-addr "$consul_inside" --http-addr off --entrypoint "web=$bind"
	run haproxy "${parts[@]}" "${publish[@]}" --user "$user" --volume "$prefix:/fairway" --stop-signal SIGUSR1 \
		--entrypoint /bin/sh "$HAPROXY_IMAGE" -c "trap 'exit 0' TERM USR1
			ulimit -n 65536 2>/dev/null || true
			until [ -s /fairway/haproxy.cfg ]; do sleep 0.1; done
			exec haproxy -W -S /fairway/master.sock,mode,600 -f /fairway/haproxy.cfg"
	eventually 30 "wait for HAProxy on 127.0.0.1:$PORT" answers_at_all || exit 1
}

answers_at_all() { curl -s -m 2 -o /dev/null "$front/"; }

# web N starts the Nth web container as a user would: a random port and a label.
web() {
	run "web-$1" --hostname "web-$1" --publish-all --label "fairway.host=$host,$browser_host" fairway/web
	started=$EPOCHREALTIME
	show "web-$1 started"
}

# stop_web N takes the container away as an operator would; it drains for 3 s.
stop_web() { docker stop -t 30 "$prefix-web-$1" >/dev/null; }

remove_containers() {
	local ids
	ids=$(docker ps --all --quiet --filter "label=$label")
	# shellcheck disable=SC2086 # ids are words
	[[ -z $ids ]] || docker rm --force --volumes $ids >/dev/null
	docker volume rm --force "$prefix" >/dev/null
}

# local_trouble shows what the parts said last when the demo did not come to its end.
local_trouble() {
	local status=$? part
	trap - EXIT
	if ((status != 0)); then
		for part in $(docker ps --all --filter "label=$label" --format '{{.Names}}' 2>/dev/null); do
			say "--- the end of what $part said:"
			docker logs --tail 5 "$part" >&2 || true
		done
	fi
	exit "$status"
}

local_summary() {
	cat <<END

Consul's catalog (consul catalog services):
$(consul services | sed 's/^/  /')

It all goes on running, $(since "$began") s after the start:
  the application  http://$browser_host:$PORT/  or  curl -H 'Host: $host' $front/
  HAProxy's stats  $front/haproxy?stats  (user demo, password demo)
  Consul           http://127.0.0.1:$CONSUL_PORT/

Now add something of your own; one label, and it is routed:
  docker run -d -P --label fairway.host=my.test fairway/web
  curl -H 'Host: my.test' $front/

scripts/demo down, or make demo-down, removes every trace.
END
	if [[ -n ${DOCKER_HOST:-} ]]; then printf '\ndocker speaks to the engine at %s\n' "$DOCKER_HOST"; fi
}

local_down() {
	if docker info >/dev/null 2>&1 || { use_own_engine && docker info >/dev/null 2>&1; }; then
		remove_containers
		remove_images
	fi
	[[ -z $(noted engine) ]] || "$here/engine" down
	rm -rf "$made"
	rmdir "${made%/*}" 2>/dev/null || true
	say "demo: down"
}

# use_own_engine points docker at the engine that up started, if it needs pointing.
use_own_engine() {
	local link
	link=$("$here/engine" env)
	[[ -n $link ]] && export "${link?}"
}
