#!/bin/sh
# Each platform in a job of its own, one job that publishes. Any CI that keeps files from one job to the next runs it:
#
#   job 1:  ci.sh build linux/amd64     keeps part-amd64.tar
#   job 2:  ci.sh build linux/arm64     keeps part-arm64.tar
#   job 3:  ci.sh publish app:1.0       needs both files
set -eu
case $1 in
build)
	manifold build -q --platform "$2" --output "type=oci,dest=part-${2##*/}.tar" "$(dirname "$0")"
	;;
push) # the other way: the bytes go to the registry at once, a small file from job to job
	manifold build -q --platform "$2" --output "type=image,name=$3,push=true,push-by-digest=true" --metadata-file "part-${2##*/}.json" "$(dirname "$0")"
	;;
publish)
	manifold create -q -t "$2" --expect linux/amd64,linux/arm64 --verify strict part-amd64.tar part-arm64.tar
	;;
publish-pushed)
	manifold create -q -t "$2" --expect linux/amd64,linux/arm64 --verify strict -f part-amd64.json -f part-arm64.json
	;;
esac
