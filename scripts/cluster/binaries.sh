#!/bin/sh
# Prints the folder that holds the programs of a Kubernetes cluster: KUBEBUILDER_ASSETS where it is set and serves, else the
# cache, else builds them there from the pinned Go modules in test/cluster/binaries (about 15 minutes once, on two cores).
#   binaries.sh control     etcd, kube-apiserver, kubectl: enough for the API
#   binaries.sh node        all of a cluster with a node: and kube-controller-manager, kube-scheduler, kubelet, kube-proxy, coredns
#   binaries.sh --check SET exit 1 instead of building what is missing
set -eu
here=$(CDPATH= cd -- "$(dirname -- "$0")/../../test/cluster/binaries" && pwd)
check=
[ "${1:-}" = --check ] && { check=1; shift; }
case ${1:-control} in
control) wanted='etcd kube-apiserver kubectl' ;;
node) wanted='etcd kube-apiserver kubectl kube-controller-manager kube-scheduler kubelet kube-proxy coredns' ;;
*) echo "usage: binaries.sh [--check] control|node" >&2; exit 2 ;;
esac

complete() { for name in $wanted; do [ -x "$1/$name" ] || return 1; done; }
if [ -n "${KUBEBUILDER_ASSETS:-}" ] && complete "$KUBEBUILDER_ASSETS"; then echo "$KUBEBUILDER_ASSETS"; exit 0; fi

version=$(awk '$2 == "k8s.io/kubernetes" || $1 == "k8s.io/kubernetes" {print $NF; exit}' "$here/kubernetes/go.mod")
pins=$(cat "$here"/*/go.mod "$here"/*/go.sum "$here"/*/main.go "$here"/*/*/main.go | sha256sum | cut -c1-12)
cache=${SALLYPORT_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/sallyport}/kubernetes-$version-$pins
if complete "$cache"; then echo "$cache"; exit 0; fi
[ -z "$check" ] || exit 1
command -v go >/dev/null 2>&1 || { echo "Building a cluster needs Go (https://go.dev/dl), or KUBEBUILDER_ASSETS with $wanted" >&2; exit 1; }

mkdir -p "$cache"
minor=$(echo "$version" | cut -d. -f2)
flags="-X k8s.io/component-base/version.gitVersion=$version -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=$minor"
flags="$flags -X k8s.io/client-go/pkg/version.gitVersion=$version -X k8s.io/client-go/pkg/version.gitMajor=1 -X k8s.io/client-go/pkg/version.gitMinor=$minor"
count=0
total=$(echo "$wanted" | wc -w)
for name in $wanted; do
  count=$((count + 1))
  [ -x "$cache/$name" ] && continue
  began=$(date +%s)
  printf '[%s/%s] Building %s ' "$count" "$total" "$name" >&2
  case $name in
  etcd | coredns) folder=$here/$name package=. ;;
  *) folder=$here/kubernetes package=./$name ;;
  esac
  # Built beside and renamed, so that an interrupted build leaves nothing that looks whole.
  (cd "$folder" && CGO_ENABLED=0 GOWORK=off go build -mod=readonly -trimpath -buildvcs=false -ldflags "-s -w $flags" -o "$cache/.$name" "$package") >"$cache/$name.log" 2>&1 ||
    { echo failed >&2; tail -20 "$cache/$name.log" >&2; exit 1; }
  mv "$cache/.$name" "$cache/$name"
  rm -f "$cache/$name.log"
  echo "($(($(date +%s) - began)) s)" >&2
done
echo "$cache"
