# shellcheck shell=bash
# Sourced by the scripts that start Docker Engines: what an engine makes outside
# its own folders is noted, so that it can be taken away again.

# note_absent FILE PATH... adds to FILE those PATHs that do not exist. A path is
# noted before those below it.
note_absent() {
	local file=$1 path
	shift
	for path; do
		[[ -e $path ]] || echo "$path" >>"$file"
	done
}

# remove_noted FILE removes what was noted: files, and of folders only what
# stayed empty, since others may have moved in.
remove_noted() {
	local path
	[[ -e $1 ]] || return 0
	while read -r path; do
		[[ ! -f $path ]] || rm -f "$path"
		[[ ! -d $path ]] || find "$path" -depth -type d -empty -delete
	done < <(tac "$1")
	rm -f "$1"
}
