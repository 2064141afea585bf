# shellcheck shell=bash disable=SC2154 # name, state, range … are set by scripts/cluster
# Sourced by scripts/cluster: the wire between the hosts.
# A bridge is the switch; each host is a network namespace with one cable (a
# veth pair) to it. The bridge has the first address of the range, so the
# machine itself reaches every host, and is their default route.

namespace() { echo "fairway.$name.$1"; }

# Interface names hold 15 bytes: a hash of the cluster's name, then the host's number.
bridge() { echo "fw-$id"; }
cable() { echo "fw-$id-$(host_number "$1")"; }

# The rule lets hosts speak to each other where a Docker Engine of the machine
# has set FORWARD to DROP and bridged packets pass iptables (br_netfilter).
forward_rule() {
	iptables -w "$1" FORWARD -i "$(bridge)" -o "$(bridge)" \
		-m comment --comment "fairway cluster $name" -j ACCEPT 2>/dev/null
}

switch_on() {
	local bridge
	bridge=$(bridge)
	if ! ip link show "$bridge" &>/dev/null; then
		ip link add "$bridge" type bridge forward_delay 0
	fi
	ip addr replace "$range.1/24" dev "$bridge"
	ip link set "$bridge" up
	forward_rule -C || forward_rule -I || die "cannot allow traffic across the bridge $bridge with iptables"
}

switch_off() {
	while forward_rule -D; do :; done
	! ip link show "$(bridge)" &>/dev/null || ip link del "$(bridge)"
}

# plug HOST makes the host's namespace and its cable. The hardware address
# follows from the IP address, so that neighbours' ARP caches stay right when a
# host comes back from a power cut.
plug() {
	local host=$1 ns cable address mac
	ns=$(namespace "$host") cable=$(cable "$host") address=$(host_address "$host")
	[[ ! -e /run/netns/$ns ]] || return 0
	# shellcheck disable=SC2046,SC2183 # four words are meant
	mac=$(printf '02:66:%02x:%02x:%02x:%02x' $(tr . ' ' <<<"$address"))
	ip netns add "$ns"
	ip link add "$cable" type veth peer name eth0 netns "$ns" address "$mac"
	ip -n "$ns" link set lo up
	ip -n "$ns" addr add "$address/24" dev eth0
	ip -n "$ns" link set eth0 up
	ip -n "$ns" route add default via "$range.1"
	ip link set "$cable" up
	[[ -e $(host_state "$host")/cut ]] || ip link set "$cable" master "$(bridge)"
}

unplug() {
	local host=$1 ns
	ns=$(namespace "$host")
	! ip link show "$(cable "$host")" &>/dev/null || ip link del "$(cable "$host")"
	[[ ! -e /run/netns/$ns ]] || ip netns del "$ns"
}

# cut HOST pulls the cable out of the switch: packets vanish, nobody is told.
cut_host() {
	: >"$(host_state "$1")/cut"
	! ip link show "$(cable "$1")" &>/dev/null || ip link set "$(cable "$1")" nomaster
}

heal_host() {
	rm -f "$(host_state "$1")/cut"
	! ip link show "$(cable "$1")" &>/dev/null || ip link set "$(cable "$1")" master "$(bridge)"
}

# free_range prints the first three bytes of the first /24 in 10.97.0.0/16 that
# no route and no other cluster uses.
free_range() {
	local n used
	used=$(ip -4 route show table all; cat "$state_root"/*/config 2>/dev/null || true)
	for n in {0..255}; do
		if ! grep -qF "10.97.$n." <<<"$used"; then
			echo "10.97.$n"
			return
		fi
	done
	die "no free address range in 10.97.0.0/16; name one with --subnet"
}
