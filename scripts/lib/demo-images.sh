# Sourced by scripts/demo: programs and images.

# engine makes sure that docker reaches an engine of this machine.
engine() {
	local link
	if ! docker info >/dev/null 2>&1; then note engine started; fi
	"$here/engine" up
	link=$("$here/engine" env)
	[[ -z $link ]] || export "${link?}"
	case ${DOCKER_HOST:-unix:} in
	unix:*) ;;
	*) die "docker reaches the engine at $DOCKER_HOST; the demo needs one on this machine" ;;
	esac
	show "Docker Engine $(docker version --format '{{.Server.Version}}')"
}

# note KIND NAME remembers that the demo made it, for down.
note() {
	mkdir -p "${made%/*}"
	grep -qxF "$1 $2" "$made" 2>/dev/null || echo "$1 $2" >>"$made"
}

noted() { [[ ! -e $made ]] || sed -n "s/^$1 //p" "$made"; }

# note_image IMAGE is called before an image is made.
note_image() { docker image inspect "$1" >/dev/null 2>&1 || note image "$1"; }

# programs builds what goes into the images, and the load client for here.
programs() {
	local arch image
	arch=$(docker version --format '{{.Server.Arch}}')
	make --silent --no-print-directory -C "$root" build-linux ARCHS="$arch"
	(cd "$root" && go build -trimpath -o bin/load ./scripts/load)
	for image in registrator confgen web; do
		note_image "fairway/$image:latest"
		note_image "fairway/$image:latest-$arch"
	done
	"$here/images" "linux/$arch" | while read -r line; do show "$line"; done
}

# haproxy_image settles which HAProxy image to use: the one the caller named, the
# official one if the engine has it, one made of this machine's HAProxy, or the
# official one from its registry.
haproxy_image() {
	local official=haproxy:2.8 version
	if [[ -n ${HAPROXY_IMAGE:-} ]]; then
		:
	elif docker image inspect "$official" >/dev/null 2>&1; then
		HAPROXY_IMAGE=$official
	elif command -v haproxy busybox >/dev/null && [[ $(uname -s) == Linux ]]; then
		HAPROXY_IMAGE=fairway-test/haproxy:debian
		note_image "$HAPROXY_IMAGE"
		"$here/proxy-image" haproxy >/dev/null
	else
		HAPROXY_IMAGE=$official
		note_image "$official"
		docker pull --quiet "$official" >/dev/null
	fi
	export HAPROXY_IMAGE
	version=$(docker run --rm --entrypoint haproxy "$HAPROXY_IMAGE" -v) || die "no HAProxy in the image $HAPROXY_IMAGE"
	show "$HAPROXY_IMAGE: $(sed -n '1s/ [0-9/]* - .*//p' <<<"$version")"
}

consul_image() {
	local version
	note_image fairway-demo/consul:latest
	"$here/consul-image" fairway-demo/consul:latest
	version=$(docker run --rm fairway-demo/consul version) || die "Consul does not run in a container"
	show "fairway-demo/consul: ${version%%$'\n'*}"
}

# note_ids notes what the noted images are now: one that is replaced later loses
# its name, and stays as long as somebody's container uses it.
note_ids() {
	local image id
	for image in $(noted image | grep -v '^sha256:'); do
		id=$(docker image inspect --format '{{.Id}}' "$image" 2>/dev/null) || continue
		note image "$id"
	done
}

# remove_images removes what was not there before.
remove_images() {
	local image
	for image in $(noted image); do
		docker image rm "$image" >/dev/null 2>&1 || ! docker image inspect "$image" >/dev/null 2>&1 || say "demo: $image is in use and stays"
	done
}
