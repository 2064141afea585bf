# shellcheck shell=bash disable=SC2154 # name, state, range … are set by scripts/cluster
# Sourced by scripts/cluster: the hosts, their power and what runs on them.

consul_hosts() {
	local n
	echo consul
	for ((n = 2; n <= consul_servers; n++)); do echo "consul-$n"; done
}

engine_hosts() {
	local n
	printf '%s\n' cluster-master frontend app-server-1 db-1
	for ((n = 2; n <= extra_nodes + 1; n++)); do echo "app-server-$n"; done
}

all_hosts() { consul_hosts; engine_hosts; }

is_consul() { [[ $1 == consul || $1 == consul-* ]]; }

# host_number HOST is the last byte of its address: Consul servers from 10,
# Docker nodes from 20.
host_number() {
	case $1 in
	consul) echo 10 ;;
	consul-*) echo $((9 + ${1#consul-})) ;;
	cluster-master) echo 20 ;;
	frontend) echo 21 ;;
	app-server-1) echo 22 ;;
	db-1) echo 23 ;;
	app-server-*) echo $((22 + ${1#app-server-})) ;;
	*) return 1 ;;
	esac
}

host_address() { echo "$range.$(host_number "$1")"; }
host_state() { echo "$state/$1"; }
host_socket() { echo "$state/$1/docker.sock"; }
host_cgroup() { echo "/fairway.$name/$1"; }

# powered HOST is true while the host's first process lives. That a PID is ours
# and not a stranger's that got the same number shows in its network namespace.
powered() {
	local pid
	pid=$(cat "$(host_state "$1")/pid" 2>/dev/null) || return 1
	[[ /proc/$pid/ns/net -ef /run/netns/$(namespace "$1") ]]
}

host_pid() { cat "$(host_state "$1")/pid"; }

power_on() {
	local host=$1 dir command
	powered "$host" && return
	dir=$(host_state "$host")
	mkdir -p "$dir/data"
	rm -f "$dir/pid" "$dir/docker.sock"
	plug "$host"
	if is_consul "$host"; then
		consul_command "$host"
		command=(consul "${command[@]}")
	else
		command=(engine dockerd --pidfile /run/docker.pid --dns "$range.1" --exec-opt native.cgroupdriver=cgroupfs
			-H "unix://$dir/docker.sock" -H unix:///run/docker.sock)
	fi
	# Its own session and no open files of ours: a host outlives whoever started it.
	setsid nsenter --net="/run/netns/$(namespace "$host")" \
		unshare --uts --ipc --mount --pid --fork --kill-child \
		"$here/lib/host-init" "$dir" "$host" "$(host_cgroup "$host")" "${command[@]}" \
		</dev/null >>"$dir/log" 2>&1 9>&- &
	disown
}

# mount_points makes the folders that every host covers with its own (see
# host-init), where the machine has no Docker yet.
mount_points() {
	local folders=(/etc/docker /var/lib/docker /opt/containerd)
	note_absent "${folders[@]}"
	mkdir -p "${folders[@]}"
}

# power_off HOST pulls the plug: SIGKILL for all that runs there, containers
# included. Disks keep what was written; the network state goes, as it would.
power_off() {
	local host=$1 ns pid
	ns=$(namespace "$host")
	if powered "$host"; then
		pid=$(host_pid "$host")
		kill -KILL "$pid"
		eventually 20 "stop $host" gone "$pid"
	fi
	if [[ -e /run/netns/$ns ]]; then
		# What was started with exec and left, or an init that never got to its PID file.
		ip netns pids "$ns" | xargs -r kill -KILL 2>/dev/null || true
	fi
	unplug "$host"
	rm -f "$(host_state "$host")/pid"
	remove_cgroups "$(host_cgroup "$host")"
}

gone() { ! kill -0 "$1" 2>/dev/null; }

# remove_cgroups PATH removes the tree in every hierarchy (v1 has one per
# controller). Killed processes leave their groups a moment later.
remove_cgroups() {
	local root
	for root in /sys/fs/cgroup/"$1" /sys/fs/cgroup/*/"$1"; do
		[[ -d $root ]] || continue
		eventually 10 "remove the cgroup $root" remove_cgroup "$root" || true
	done
}

remove_cgroup() {
	find "$1" -depth -type d -exec rmdir {} \; 2>/dev/null || true
	[[ ! -d $1 ]]
}

# consul_command HOST sets the array command. The raft timings are those for
# production servers; Consul's own default suits the smallest of machines.
consul_command() {
	local peer
	command=("$consul_binary" agent -server -ui -node="$1" -datacenter=dc1
		-bootstrap-expect="$consul_servers" -bind="$(host_address "$1")" -client=0.0.0.0
		-data-dir="$(host_state "$1")/data" -log-level=info
		-hcl='performance { raft_multiplier = 1 } disable_update_check = true')
	for peer in $(consul_hosts); do
		[[ $peer == "$1" ]] || command+=(-retry-join="$(host_address "$peer")" -retry-interval=1s)
	done
}

consul_url() { echo "http://$(host_address "${1:-consul}"):8500"; }

consul_answers() { curl -sf -m 2 "$(consul_url "$1")/v1/status/leader"; }
consul_leads() { [[ $(consul_answers "$1") == *:* ]]; }
engine_answers() { curl -sf -m 2 --unix-socket "$(host_socket "$1")" http://docker/_ping; }

# ready HOST waits until what runs there answers.
ready() {
	local host=$1 question=engine_answers
	is_consul "$host" && question=consul_answers
	if ! eventually 60 "start $host" "$question" "$host"; then
		say "the end of $(host_state "$host")/log:"
		tail -n 20 "$(host_state "$host")/log" >&2 || true
		return 1
	fi
}
