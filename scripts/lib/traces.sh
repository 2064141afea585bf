# shellcheck shell=bash
# Sourced by the scripts that start Docker Engines: what engines make outside
# their own folders is noted for the whole machine, so that the last one to go
# takes it away again.

noted=/var/lib/fairway-made

# one_at_a_time holds the machine-wide lock until the script ends or calls
# all_at_once: address ranges and notes are shared by all clusters.
one_at_a_time() {
	exec 8</var/lib
	flock 8
}

all_at_once() { exec 8<&-; }

# note_absent PATH... notes those PATHs that do not exist, outer folders first.
note_absent() {
	local path
	for path; do
		[[ -e $path ]] || echo "$path" >>"$noted"
	done
}

# remove_noted removes what was noted: files, and of folders only what stayed
# empty, since others may have moved in. While a host of any cluster stands it
# waits for a later call: to remove a folder that a host has mounted something
# on would take that mount away.
remove_noted() {
	local path
	[[ -e $noted ]] || return 0
	! ip netns list | grep -q '^fairway\.' || return 0
	while read -r path; do
		[[ ! -f $path ]] || rm -f "$path"
		[[ ! -d $path ]] || find "$path" -depth -type d -empty -delete
	done < <(tac "$noted")
	rm -f "$noted"
}
