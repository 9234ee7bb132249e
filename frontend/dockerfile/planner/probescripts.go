package planner

// The programs that stand in for others while a probe runs. They are scripts of the shell that the image has.

// installers are the programs that install packages and are put off.
const installers = "apk apt-get apt dnf microdnf yum tdnf zypper npm pnpm yarn pip pip3"

// installerProbe stands in for a program that installs packages: it notes what it is asked, unless that is past. What npm, pip and their kin are asked
// besides is done, after what was noted.
const installerProbe = `#!/bin/sh
name=${0##*/}
case "$name:$1" in
npm:ci | npm:i | npm:install | pnpm:i | pnpm:install | yarn:install | yarn: | pip:install | pip3:install) ;;
npm:* | pnpm:* | yarn:* | pip:* | pip3:*)
	/tmp/.manifold/settle || exit 1
	PATH=$MANIFOLD_REST
	export PATH
	exec "$name" "$@" ;;
esac
exec /tmp/.manifold/later "$name" "$@"
`

// laterProbe notes a command for settleProbe to run where it was called. Once that has run, what was noted is done, and anything else runs at once.
const laterProbe = `#!/bin/sh
quoted() { printf " '%s'" "$(printf %s "$1" | sed "s/'/'\\\\''/g")"; }
line="cd --$(quoted "$PWD") &&$(for a; do quoted "$a"; done)"
if [ -e /tmp/.manifold/settled ]; then
	if [ -e /tmp/.manifold/installs ] && grep -qxF -- "$line" /tmp/.manifold/installs; then exit 0; fi
	PATH=$MANIFOLD_REST
	export PATH
	exec "$@"
fi
printf '%s\n' "$line" >>/tmp/.manifold/installs
`

// settleProbe runs what the package installers were asked, once. One that fails is no answer.
const settleProbe = `#!/bin/sh
PATH=$MANIFOLD_REST
export PATH
if [ -e /tmp/.manifold/settled ]; then [ ! -e /tmp/.manifold/failed ]; exit; fi
: >/tmp/.manifold/settled
[ -s /tmp/.manifold/installs ] || exit 0
sh -e /tmp/.manifold/installs >/tmp/.manifold/installed 2>&1 || { cat /tmp/.manifold/installed >&2; : >/tmp/.manifold/failed; exit 1; }
`

// goProbe stands in for go: what compiles it does not run but asks about, everything else is go's own.
const goProbe = `#!/bin/sh
PATH=$MANIFOLD_REST
export PATH
command -v go >/dev/null 2>&1 || /tmp/.manifold/settle || exit 1
# What is asked below fetches the modules that it needs.
if [ "$1 $2" = "mod download" ]; then exec /tmp/.manifold/later go "$@"; fi
[ "$MANIFOLD_PROBE" = cgo ] || exec go "$@"
trouble() { grep -v '^go: downloading' /tmp/.manifold/error | head -n 1; }
dir=
if [ "$1" = -C ]; then dir=$2; cd "$2" || exit 1; shift 2; fi
sub=$1
say() { printf '%s\n' "$1" >>/tmp/.manifold/answer; }
case "$sub" in
build|install|run|test) shift ;;
generate)
	shift
	if go generate -n "$@" >/tmp/.manifold/generate 2>/tmp/.manifold/error; then
		say generate
		/tmp/.manifold/settle || exit 1
		cc=$(go env CC)
		command -v "${cc%% *}" >/dev/null 2>&1 || say nocc
		sed 's/^/run /' /tmp/.manifold/generate >>/tmp/.manifold/answer
		exec go generate "$@"
	fi
	say "error $(trouble)"
	exit 1 ;;
list)
	/tmp/.manifold/settle || exit 1 # it may ask for what was to be downloaded
	exec go "$@" ;;
*) exec go "$@" ;;
esac
# Later commands may look for what this one would have made.
stub() {
	case "$1" in */) mkdir -p "$1"; set -- "$1$2" ;; esac
	if [ -d "$1" ]; then set -- "$1/$2"; fi
	mkdir -p "$(dirname "$1")" && [ -e "$1" ] || { printf '#!/bin/sh\n' >"$1"; chmod +x "$1"; }
}
test=
[ "$sub" = test ] && test=-test
keep=
out=
while [ $# -gt 0 ]; do
	case "$1" in
	-tags=*|-mod=*|-modfile=*|-overlay=*|--tags=*|--mod=*|--modfile=*|--overlay=*) keep="$keep $1" ;;
	-tags|-mod|-modfile|-overlay|--tags|--mod|--modfile|--overlay) keep="$keep $1=$(printf %s "$2" | tr ' ' ,)"; shift ;;
	-C) cd "$2" || exit 1; shift ;;
	-o=*) out=${1#-o=} ;;
	-o) out=$2; shift ;;
	-p|-asmflags|-buildmode|-compiler|-gccgoflags|-gcflags|-installsuffix|-ldflags|-pgo|-pkgdir|-toolexec|-exec) shift ;;
	-covermode|-coverpkg|-coverprofile|-run|-bench|-benchtime|-count|-cpu|-parallel|-timeout|-skip|-shuffle|-list|-fuzz|-fuzztime|-vet|-outputdir) shift ;;
	-*) ;;
	*) break ;;
	esac
	shift
done
name=$(basename "${1:-$PWD}")
name=${name%@*}
[ "$name" = . ] && name=$(basename "$PWD")
[ "$name" = ... ] && name=all
case "$sub" in
build) stub "${out:-./}" "$name" ;;
install) stub "${GOBIN:-$(go env GOPATH)/bin}/" "$name" ;;
esac
CGO_ENABLED=1
export CGO_ENABLED
if [ "$sub" = run ]; then
	case "$1" in
	*.go) files=; for a in "$@"; do case "$a" in *.go) files="$files $a" ;; *) break ;; esac; done; set -- $files ;;
	*) set -- "$1" ;;
	esac
fi
case "$1" in
*@*)
	work=$(mktemp -d) && cd "$work" && go mod init probe >/dev/null 2>&1 && go get "$@" >/dev/null 2>&1 || { say "error go get $*"; exit 0; }
	for a in "$@"; do set -- "$@" "${a%@*}"; shift; done ;;
esac
ask() { go list $test -deps $keep -f '{{if and .CgoFiles (not .Standard)}}{{.ImportPath}}{{end}}' -- "$@" 2>/tmp/.manifold/error; }
hascc() { cc=$(go env CC); command -v "${cc%% *}" >/dev/null 2>&1; }
found=$(ask "$@") || { /tmp/.manifold/settle || exit 1; found=$(ask "$@"); } || {
	# Without a C compiler nothing is built with C, whatever go list cannot tell.
	if hascc; then say "error $(trouble)"; else say pure; fi
	[ "$sub" != run ] || CGO_ENABLED=0 exec go run $keep "$@"
	exit 0
}
# A program that runs others may run go itself.
if [ -z "$found" ] && [ "$sub" = run ] && go list -deps $keep -- "$@" 2>/dev/null | grep -qx os/exec; then
	if hascc || { /tmp/.manifold/settle && hascc; }; then
		say "runs $1"
		exit 0
	fi
fi
if [ -z "$found" ]; then
	say pure
elif hascc || { /tmp/.manifold/settle && hascc; }; then
	say "cgo $(printf '%s\n' "$found" | head -n 1)"
	exit 0
elif [ -e /tmp/.manifold/failed ]; then
	exit 1
else
	say pure
fi
[ "$sub" != run ] || CGO_ENABLED=0 exec go run $keep "$@"
`

// makeProbe stands in for make: it prints what make would run, and how make leaves Go's variables. What make runs all the
// same, because a makefile's $(shell) says so, goes through shellProbe.
const makeProbe = `#!/bin/sh
PATH=$MANIFOLD_REST
export PATH
/tmp/.manifold/settle || exit 1 # a makefile may ask what is there
[ "$MANIFOLD_PROBE" = make ] || exec make "$@"
echo m >>/tmp/.manifold/answer
if out=$(make -nw SHELL=/tmp/.manifold/shell "$@" 2>/tmp/.manifold/error); then
	printf '%s\n' "$out" | sed 's/^/p/' >>/tmp/.manifold/answer
else
	printf 'e%s\n' "$(grep -v '^go: downloading' /tmp/.manifold/error | head -n 1)" >>/tmp/.manifold/answer
fi
# What recipes find in their environment, where one makefile is all there is: without the targets, and with one that says it.
names='GOOS|GOARCH|GOARM|GOAMD64|GO386|GOMIPS|GOMIPS64|GOPPC64|GORISCV64|CGO_ENABLED|GOFLAGS|GOBIN|CC|CXX|GOCACHE'
all=.
if [ "$(printf '%s\n' "$out" | grep -c 'Entering directory')" -le 1 ]; then
	n=$#
	valued=
	while [ "$n" -gt 0 ]; do
		n=$((n - 1))
		word=$1
		shift
		case "$valued$word" in
		v*) set -- "$@" "$word"; valued= ;;
		-f | -C | -I | -o | -W | -l) set -- "$@" "$word"; valued=v ;;
		-* | *=*) set -- "$@" "$word" ;;
		esac
	done
	if env=$(make -s --no-print-directory --eval='manifold-says-env: ; @env' "$@" manifold-says-env 2>/dev/null); then
		printf '%s\n' "$env" | sed -nE "s/^($names)=(.*)$/v\\1=\\2/p" >>/tmp/.manifold/answer
		all='^#|^[^=:]+: '
	fi
fi
make -npq SHELL=/tmp/.manifold/shell "$@" 2>/dev/null | grep -v '^	' | grep -E "$all" |
	sed -nE 's/^(# *|[^=#]*[ :])?(GOOS|GOARCH|GOARM|GOAMD64|GO386|GOMIPS|GOMIPS64|GOPPC64|GORISCV64|CGO_ENABLED|GOFLAGS|GOBIN|CC|CXX|GOCACHE) *[:+?]*= *(.*)$/v\2=\3/p' |
	sed -E '/^vCC=(cc|gcc)$/d;/^vCXX=(c|g)[+][+]$/d' >>/tmp/.manifold/answer
exit 0
`

// shellProbe stands in for the shell that make uses: it notes what it is given and runs it.
const shellProbe = `#!/bin/sh
for last; do :; done
printf '%s\n' "$last" | sed 's/^/s/' >>/tmp/.manifold/answer
if command -v bash >/dev/null 2>&1; then exec bash "$@"; fi
exec /bin/sh "$@"
`
