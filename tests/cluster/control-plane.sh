#!/usr/bin/env bash
# A real Kubernetes control plane without a node: etcd, kube-apiserver (RBAC on), kube-controller-manager, on 127.0.0.1 only.
#   control-plane.sh up DIR [--bare]        start it; all its state, keys and logs lie under DIR. With --bare the API server is alone:
#                                           no controllers, no admission of service accounts, no definitions: what was sent is what stays
#   control-plane.sh env DIR                print what a shell or test needs, for: eval "$(control-plane.sh env DIR)"
#   control-plane.sh user DIR NAME [GROUP]  make a user by client certificate and print the path of its kubeconfig
#   control-plane.sh status DIR | down DIR
# Ports are three free ones in a row, or those from PORT_BASE on, so that several can run side by side.
# With OWNER=PID, `up` also leaves a guard that takes everything down once that process is gone, however it died.
# Needs openssl and what build.sh built. No root.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=versions
. "$here/versions"
command=${1:-} dir=${2:-}
if [ -z "$dir" ]; then sed -n '3,7s/^# *//p' "$0" >&2; exit 2; fi
if [ "$command" = up ]; then mkdir -p "$dir"; fi
if [ "$command" = down ] && [ ! -d "$dir" ]; then exit 0; fi
dir=$(cd "$dir" && pwd)

kubectl() { "$BIN_KUBERNETES/kubectl" --kubeconfig "$dir/admin.kubeconfig" "$@"; }

start() { # name, program, flags...
  local name=$1; shift
  setsid "$@" >"$dir/log/$name.log" 2>&1 </dev/null &
  echo $! >"$dir/run/$name.pid"
}
# A pid file alone proves nothing: the number may have been given to another process since.
running() { # name
  local pid; pid=$(cat "$dir/run/$1.pid" 2>/dev/null) && grep -qF -- "$dir" "/proc/$pid/cmdline" 2>/dev/null
}
# Polls until the command succeeds; gives up at once when a program has died, or after a minute.
await() { # description, command...
  local what=$1 deadline=$((SECONDS + 60)); shift
  until "$@" >/dev/null 2>&1; do
    for name in etcd kube-apiserver kube-controller-manager; do
      if [ -e "$dir/run/$name.pid" ] && ! running "$name"; then give_up "$name ended"; fi
    done
    [ $SECONDS -lt $deadline ] || give_up "$what: not within a minute"
    sleep 0.1
  done
}
give_up() {
  echo "control-plane.sh: $1" >&2
  tail -n 15 "$dir"/log/*.log >&2
  down
  exit 1
}

port_is_free() { ! (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
choose_ports() { # below the range that the kernel hands out to clients
  local base=${PORT_BASE:-}
  until [ -n "$base" ]; do
    base=$((RANDOM % 12000 + 20000))
    port_is_free $base && port_is_free $((base + 1)) && port_is_free $((base + 2)) || base=
  done
  echo "$base" >"$dir/port-base"
}
read_ports() {
  local base; base=$(cat "$dir/port-base" 2>/dev/null) || { echo "control-plane.sh: nothing was started in $dir" >&2; exit 1; }
  server=https://127.0.0.1:$base etcd=http://127.0.0.1:$((base + 1)) etcd_peer=http://127.0.0.1:$((base + 2)) port=$base
}

new_key() { openssl ecparam -genkey -name prime256v1 -noout | openssl pkcs8 -topk8 -nocrypt -out "$1"; }
certify() { # file without suffix, subject, extension
  new_key "$1.key"
  openssl req -new -key "$1.key" -subj "$2" |
    openssl x509 -req -CA "$dir/pki/ca.crt" -CAkey "$dir/pki/ca.key" -CAcreateserial -days 30 -extfile <(echo "$3") -out "$1.crt" 2>/dev/null
}
pki() {
  new_key "$dir/pki/ca.key"
  openssl req -x509 -new -key "$dir/pki/ca.key" -subj /CN=test-ca -days 30 -out "$dir/pki/ca.crt"
  new_key "$dir/pki/service-account.key"
  openssl pkey -in "$dir/pki/service-account.key" -pubout -out "$dir/pki/service-account.pub"
  certify "$dir/pki/server" /CN=kube-apiserver 'subjectAltName=IP:127.0.0.1,DNS:localhost,DNS:kubernetes.default.svc'
}
kubeconfig() { # file, user's credentials as JSON
  local ca; ca=$(base64 -w0 <"$dir/pki/ca.crt")
  cat >"$1" <<E2
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "$server", certificate-authority-data: $ca}}]
users: [{name: user, user: $2}]
contexts: [{name: test, context: {cluster: test, user: user}}]
current-context: test
E2
}

up() { # --bare
  local name admission=TaintNodesByCondition
  case ${1:-} in
    '') ;;
    --bare) admission+=,ServiceAccount ;;
    *) echo "control-plane.sh: up takes a folder and --bare, not $1" >&2; exit 2 ;;
  esac
  for name in etcd kube-apiserver kube-controller-manager; do
    if running $name; then echo "control-plane.sh: $name already runs in $dir" >&2; exit 1; fi
  done
  rm -rf "$dir"/{etcd,log,pki,run,users}
  mkdir -p "$dir"/{log,pki,run,users}
  choose_ports
  read_ports
  pki
  printf '%s\n' 'admin-token,admin,1,system:masters' 'controller-token,system:kube-controller-manager,2' >"$dir/pki/tokens.csv"
  kubeconfig "$dir/admin.kubeconfig" '{token: admin-token}'
  kubeconfig "$dir/pki/controller.kubeconfig" '{token: controller-token}'

  start etcd "$BIN_ETCD/etcd" --name=test --data-dir="$dir/etcd" --unsafe-no-fsync --log-level=warn \
    --listen-client-urls="$etcd" --advertise-client-urls="$etcd" \
    --listen-peer-urls="$etcd_peer" --initial-advertise-peer-urls="$etcd_peer" --initial-cluster="test=$etcd_peer"
  start kube-apiserver "$BIN_KUBERNETES/kube-apiserver" --etcd-servers="$etcd" --secure-port="$port" \
    --bind-address=127.0.0.1 --advertise-address=127.0.0.1 --endpoint-reconciler-type=none --service-cluster-ip-range=10.96.0.0/16 \
    --tls-cert-file="$dir/pki/server.crt" --tls-private-key-file="$dir/pki/server.key" \
    --client-ca-file="$dir/pki/ca.crt" --token-auth-file="$dir/pki/tokens.csv" --authorization-mode=RBAC \
    --service-account-issuer=https://kubernetes.default.svc --service-account-key-file="$dir/pki/service-account.pub" \
    --service-account-signing-key-file="$dir/pki/service-account.key" \
    --disable-admission-plugins=$admission --max-requests-inflight=3000 --max-mutating-requests-inflight=1000
  await "the API server's readiness" kubectl get --raw /readyz
  if [ -z "${1:-}" ]; then controllers; else touch "$dir/run/bare"; fi
  if [ -n "${OWNER:-}" ]; then
    # shellcheck disable=SC2016 # expanded by the guard
    setsid bash -c 'tail --pid="$1" -f /dev/null; exec "$2" down "$3"' guard "$OWNER" "$here/control-plane.sh" "$dir" >/dev/null 2>&1 </dev/null &
  fi
}

controllers() {
  # The Node has no kubelet: what watches Nodes' heartbeats would evict or delete the tests' pods.
  start kube-controller-manager "$BIN_KUBERNETES/kube-controller-manager" --kubeconfig="$dir/pki/controller.kubeconfig" \
    --bind-address=127.0.0.1 --secure-port=0 --leader-elect=false --use-service-account-credentials \
    --service-account-private-key-file="$dir/pki/service-account.key" --root-ca-file="$dir/pki/ca.crt" \
    --controllers='*,-node-lifecycle-controller,-taint-eviction-controller,-pod-garbage-collector-controller' \
    --flex-volume-plugin-dir="$dir/flexvolume" --kube-api-qps=200 --kube-api-burst=400 --horizontal-pod-autoscaler-sync-period=2s \
    --concurrent-deployment-syncs=10 --concurrent-replicaset-syncs=10 --concurrent-service-endpoint-syncs=10
  kubectl create --validate=false -f "$CRD_FOLDER" >"$dir/log/crds.log"
  kubectl wait --for=condition=Established --all customresourcedefinitions --timeout=60s >>"$dir/log/crds.log"
  kubectl create --validate=false -f - >>"$dir/log/crds.log" <<<'{"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node"}}'
  await "the service account of namespace default" kubectl get serviceaccount default
}

down() {
  local name tries
  for name in kube-controller-manager kube-apiserver etcd; do
    if running $name; then kill "$(cat "$dir/run/$name.pid")" || true; fi
    for tries in {1..100}; do # ten seconds, then by force
      running $name || break
      [ "$tries" -lt 100 ] || kill -9 "$(cat "$dir/run/$name.pid")" || true
      sleep 0.1
    done
    rm -f "$dir/run/$name.pid"
  done
}

status() {
  local name rc=0
  for name in etcd kube-apiserver kube-controller-manager; do
    if running $name; then
      awk -v name=$name '/VmRSS/ {printf "%s: running, %d MiB\n", name, $2 / 1024}' "/proc/$(cat "$dir/run/$name.pid")/status"
    elif [ "$name" != kube-controller-manager ] || [ ! -e "$dir/run/bare" ]; then
      echo "$name: not running"; rc=1
    fi
  done
  return $rc
}

user() { # name, group
  local file=$dir/users/$1
  read_ports
  certify "$file" "/CN=$1${2:+/O=$2}" extendedKeyUsage=clientAuth
  kubeconfig "$file.kubeconfig" "{client-certificate-data: $(base64 -w0 <"$file.crt"), client-key-data: $(base64 -w0 <"$file.key")}"
  echo "$file.kubeconfig"
}

env() {
  read_ports
  printf 'export %s=%q\n' KUBECONFIG "$dir/admin.kubeconfig" HALDANE_TEST_KUBECONFIG "$dir/admin.kubeconfig" \
    HALDANE_TEST_CLUSTER_DIR "$dir" HALDANE_TEST_KUBECTL "$BIN_KUBERNETES/kubectl" HALDANE_TEST_PROMETHEUS "$BIN_PROMETHEUS/prometheus" \
    HALDANE_TEST_PROMTOOL "$BIN_PROMETHEUS/promtool"
}

case $command in
  up) up "${3:-}" ;;
  down | status | env) "$command" ;;
  user) user "${3:?name of the user}" "${4:-}" ;;
  *) echo "control-plane.sh: unknown command $command" >&2; exit 2 ;;
esac
