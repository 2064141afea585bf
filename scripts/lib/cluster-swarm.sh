# shellcheck shell=bash disable=SC2154 # name, state, range … are set by scripts/cluster
# Sourced by scripts/cluster: the Swarm that the Docker nodes form.

# docker_on HOST ARGUMENT... speaks to the host's engine whatever the caller's
# environment and contexts point at.
docker_on() {
	local host=$1
	shift
	env -u DOCKER_CONTEXT -u DOCKER_TLS_VERIFY -u DOCKER_CERT_PATH \
		DOCKER_HOST="unix://$(host_socket "$host")" docker "$@"
}

swarm_state() { docker_on "$1" info --format '{{.Swarm.LocalNodeState}}'; }
in_swarm() { [[ $(swarm_state "$1") == active ]]; }

# swarm_settled HOST: an engine that was in a Swarm is "pending" until it is again.
swarm_settled() { [[ $(swarm_state "$1") != pending ]]; }

swarm_create() {
	eventually 30 "look at the Swarm of cluster-master" swarm_settled cluster-master
	in_swarm cluster-master && return
	docker_on cluster-master swarm init --advertise-addr "$(host_address cluster-master)" >/dev/null
}

swarm_join() {
	local host=$1
	[[ $host == cluster-master ]] && return
	eventually 30 "look at the Swarm of $host" swarm_settled "$host"
	in_swarm "$host" && return
	docker_on "$host" swarm join --token "$worker_token" --advertise-addr "$(host_address "$host")" \
		"$(host_address cluster-master):2377" >/dev/null
}

swarm_form() {
	local hosts
	mapfile -t hosts < <(engine_hosts)
	swarm_create
	worker_token=$(docker_on cluster-master swarm join-token --quiet worker)
	in_parallel swarm_join "${hosts[@]}"
	eventually 30 "see ${#hosts[@]} ready nodes" swarm_complete "${#hosts[@]}"
	docker_on cluster-master node update --label-add instance=entrypoint frontend >/dev/null
}

swarm_complete() {
	[[ $(docker_on cluster-master node ls --format '{{.Status}}' | grep -c '^Ready$') -eq $1 ]]
}
