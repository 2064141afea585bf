# shellcheck shell=bash
# Sourced by the scripts: how they speak, and how they end.
# Exit codes are the programs' own: 0 done, 1 something went wrong, 2 wrong usage.

# Where distributions do not put a user's PATH.
PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin

say() { printf '%s\n' "$*" >&2; }

die() {
	say "${0##*/}: $*"
	exit 1
}

bad_usage() {
	say "${0##*/}: $*"
	say "Try: $0 help"
	exit 2
}

# help_asked ARGUMENT... prints the comment at the head of a script whose first
# argument asks for help.
help_asked() {
	case ${1:-} in
	help | -h | --help)
		sed -n '2,/^[^#]/s/^# \{0,1\}//p' "$0"
		exit 0
		;;
	esac
}

# need PROGRAM... ends the script when one is missing, and says where it comes from.
need() {
	local program
	for program; do
		command -v "$program" >/dev/null || die "the program $program is missing; run scripts/setup"
	done
}

need_root() {
	[[ $EUID -eq 0 ]] || die "network namespaces and Docker Engines need root; run it with sudo"
}

# eventually SECONDS WHAT COMMAND... polls COMMAND until it succeeds.
eventually() {
	local deadline=$((SECONDS + $1)) what=$2
	shift 2
	until "$@" >/dev/null 2>&1; do
		if ((SECONDS >= deadline)); then
			say "${0##*/}: $what: no success in time: $*"
			return 1
		fi
		sleep 0.1
	done
}

# in_parallel FUNCTION ARGUMENT... calls FUNCTION once per ARGUMENT, all at the
# same time, and fails when any of them did.
in_parallel() {
	local call=$1 failed=0 pids=() argument pid
	shift
	for argument; do
		"$call" "$argument" &
		pids+=($!)
	done
	for pid in "${pids[@]}"; do
		wait "$pid" || failed=1
	done
	return "$failed"
}
