# Sourced by scripts/demo: the demo on a Swarm of several nodes, which
# scripts/cluster makes on this machine.

cluster() { "$here/cluster" --name demo "$@"; }
swarm() { cluster docker cluster-master "$@"; }

swarm_up() {
	steps=6
	host=cluster.test
	need docker curl jq go make
	need_root
	trap swarm_trouble EXIT

	step "five machines: a Consul server and a Swarm of four nodes"
	cluster up
	front=http://$(cluster ip frontend)
	export "$(cluster env cluster-master)"

	step "programs and images, onto every node"
	programs
	haproxy_image
	cluster load --from "$DOCKER_HOST" fairway/registrator fairway/confgen fairway/web "$HAPROXY_IMAGE" >/dev/null

	step "docker stack deploy -c examples/stack.yml fairway"
	CONSUL_HTTP_ADDR=$(cluster ip consul):8500 CONFGEN_STATS_USER=demo CONFGEN_STATS_PASSWORD=demo \
		docker stack deploy --resolve-image never -c "$root/examples/stack.yml" fairway 2>&1 | sed /--detach/d |
		while read -r line; do show "$line"; done
	scale 1
	rotation "$host" 2

	step "docker service scale fairway_web=3"
	scale 3
	rotation "$host" 6

	step "docker service scale fairway_web=1, under load"
	under_load "$host" scale 1

	step "and three again"
	scale 3

	trap - EXIT
	swarm_summary
}

# scale N waits until Consul calls N containers passing, and those N answer, and
# nobody else.
scale() {
	started=$EPOCHREALTIME
	swarm service scale --detach "fairway_web=$1" >/dev/null
	eventually 90 "$1 web containers pass" passing "$1" || exit 1
	eventually 30 "$1 web containers answer" answered_by "$host" "$1" || exit 1
	show "$1 passing and answering after $(since "$started") s"
}

passing() {
	[[ $(curl -sf -m 5 "http://$(cluster ip consul):8500/v1/health/service/fairway_web?passing" | jq length) -eq $1 ]]
}

swarm_trouble() {
	local status=$?
	trap - EXIT
	if ((status != 0)) && cluster status >/dev/null 2>&1; then
		say "--- docker stack ps fairway:"
		swarm stack ps --format '{{.Name}} {{.Node}} {{.CurrentState}} {{.Error}}' fairway >&2 || true
	fi
	exit "$status"
}

swarm_summary() {
	cat <<END

Consul's catalog (consul catalog services, consul catalog nodes):
$(cluster consul catalog services | sed 's/^/  /')

$(cluster consul catalog nodes | sed 's/^/  /')

It all goes on running, $(since "$began") s after the start:
  the application  curl -H 'Host: $host' $front/
  HAProxy's stats  $front/haproxy?stats  (user demo, password demo)
  Consul           http://$(cluster ip consul):8500/

Scale it yourself, and watch who answers:
  scripts/cluster --name demo docker cluster-master service scale fairway_web=2
  curl -s -D - -o /dev/null -H 'Host: $host' $front/

make demo-down SWARM=1 removes every trace.
END
}

swarm_down() {
	cluster down
	rm -rf "$made"
	rmdir "${made%/*}" 2>/dev/null || true
	say "demo: down"
}
