# Sourced by scripts/demo: how it shows what happens. What happens goes to
# standard output; what went wrong, to standard error.

began=$EPOCHREALTIME
step=0

# step TITLE begins the next step.
step() {
	step=$((step + 1))
	printf '[%d/%d] %s\n' "$step" "$steps" "$*"
}

show() { printf '      %s\n' "$*"; }

# since START prints the seconds from START, a value of EPOCHREALTIME.
since() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.1f", to - from }'; }
since_ms() { awk -v from="$1" -v to="$EPOCHREALTIME" 'BEGIN { printf "%.0f", (to - from) * 1000 }'; }

# ask HOST asks the front end once and prints "container address node".
ask() {
	curl -sf -m 5 -o /dev/null -D - -H "Host: $1" "$front/" | tr -d '\r' | awk -F': ' '
		tolower($1) == "x-served-by" { by = $2 }
		tolower($1) == "x-served-address" { address = $2 }
		tolower($1) == "x-served-node" { node = $2 }
		END { if (by == "") exit 1; print by, address, node }'
}

# answering HOST prints how many different containers answer a dozen requests.
answering() {
	local n
	for n in {1..12}; do ask "$1"; done | sort -u | wc -l
}

answered_by() { [[ $(answering "$1") -eq $2 ]]; }

# rotation HOST N shows who answers N requests in turn.
rotation() {
	local n by address node
	for ((n = 1; n <= $2; n++)); do
		read -r by address node < <(ask "$1") || die "request $n for $1 was not answered"
		show "request $n  answered by $by, $address${node:+ on $node}"
	done
}

# under_load HOST COMMAND... runs COMMAND in the middle of a load by clients that
# never ask twice, and shows how many of their requests failed.
under_load() {
	local host=$1 report pid
	shift
	report=$(mktemp)
	"$root/bin/load" -url "$front/" -host "$host" -keepalive 4 -new 4 -rate 600 -json >"$report" &
	pid=$!
	sleep 1
	"$@"
	sleep 1
	kill -INT "$pid"
	wait "$pid" || die "the load client ended with an error"
	jq -r '"\(.requests) requests, \(.failed) failed; \(.latency_ms.p50) ms at the median, \(.latency_ms.p99) ms at p99"' "$report" |
		while read -r line; do show "$line"; done
	jq -r '.failures[:3][]? | "failed after \(.took_ms) ms, \(.client): \(.kind // .status) \(.detail // "")"' "$report" |
		while read -r line; do show "$line"; done
	failed=$(jq .failed "$report")
	rm -f "$report"
}

# first_answer HOST NAME waits until the container NAME answers; started is when
# the command that started it returned.
first_answer() {
	local deadline=$((SECONDS + 30))
	until [[ $(ask "$1") == "$2 "* ]]; do
		((SECONDS < deadline)) || die "$2 has not answered within 30 s"
	done
	show "its first answer came $(since_ms "$started") ms after Docker had started it"
}
