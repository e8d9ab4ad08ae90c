#!/usr/bin/env bash
# Runs every check and test of the project, and first installs what they need.
#   tests/run.sh                     everything
#   tests/run.sh --without-cluster   not the tests that need a real API server
#   tests/run.sh --quick             format, lints and tests only: the loop while writing code
# Exit status: 0 everything asked for ran and passed; 1 something failed; 2 wrong use; 3 something was left out, as the summary says.
set -uo pipefail
cd "$(dirname "$0")/.." || exit 1
# shellcheck source=cluster/versions
. tests/cluster/versions

quick='' with_cluster=yes
for argument; do
  case $argument in
    --quick) quick=yes ;;
    --without-cluster) with_cluster='' ;;
    *) sed -n '2,6s/^# *//p' "$0" >&2; exit 2 ;;
  esac
done

work=$(mktemp -d "${TMPDIR:-/tmp}/haldane-tests.XXXXXX")
clean_up() {
  local plane
  for plane in cluster bare published; do
    [ ! -d "$work/$plane" ] || tests/cluster/control-plane.sh down "$work/$plane"
  done
  if [ -e "$work/keep" ]; then echo "The control plane's state and logs: $work/cluster"; else rm -rf "$work"; fi
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP

# Each stage runs in a shell of its own that ends at its first failing command.
summary=() failed=0 left_out=0
stage() { # title, function
  local started=$SECONDS outcome
  printf '\n=== %s\n' "$1"
  ( set -e; "$2" )
  case $? in
    0) outcome=passed ;;
    3) outcome="LEFT OUT: $(cat "$work/reason")"; left_out=1 ;;
    *) outcome=FAILED; failed=1 ;;
  esac
  summary+=("$(printf '%5d s  %-22s %s' $((SECONDS - started)) "$1" "$outcome")")
  echo "${summary[-1]}"
}
leave_out() { # reason
  echo "$*" >"$work/reason"
  exit 3
}
# Installs the Debian package when the program is missing; leaves the stage out when that is not possible.
need() { # program, package
  if command -v "$1" >/dev/null; then return; fi
  command -v apt-get >/dev/null || leave_out "no $1, and no apt-get to install it"
  local root=()
  if [ "$(id -u)" != 0 ]; then
    root=(sudo -n) # never asks for a password: nobody may be there to type it
    "${root[@]}" true 2>/dev/null || leave_out "no $1: install it with 'apt-get install $2', or run this as root"
  fi
  "${root[@]}" apt-get install -q -y --no-install-recommends "$2" ||
    { "${root[@]}" apt-get update -q && "${root[@]}" apt-get install -q -y --no-install-recommends "$2"; }
}
# Go is needed only for what the cache does not hold yet.
need_go_for() { # folders of the cache...
  local folder have missing=''
  for folder; do [ -d "$folder" ] || missing=yes; done
  if [ -z "$missing" ]; then return; fi
  have=$(go env GOVERSION 2>/dev/null) || leave_out "no Go: install $GO_AT_LEAST or newer"
  have=${have#go}
  [ "$(printf '%s\n' "$GO_AT_LEAST" "$have" | sort -V | head -n 1)" = "$GO_AT_LEAST" ] || leave_out "Go $have is too old: install $GO_AT_LEAST or newer"
}

tools() {
  command -v cargo >/dev/null || { echo "no cargo: install Rust (rustup.rs)" >&2; return 1; }
  local component
  for component in fmt clippy; do
    cargo $component --version >/dev/null 2>&1 || rustup component add "${component/fmt/rustfmt}"
  done
  need cc gcc # ring compiles its assembly
}
format() { cargo fmt --all --check; }
lints() { cargo clippy --locked --all-targets -- -D warnings; }
# Generated cases are the same in every run, so that a red run is the change's own; PROPTEST_RNG_SEED=N searches elsewhere.
tests() { env -u HALDANE_FAULT_RUNS PROPTEST_RNG_SEED="${PROPTEST_RNG_SEED:-1}" cargo test --locked --no-fail-fast; }
# Every test of tests/faults with more runs than the stage before: 20,000 crashes, 10,000 random schedules, and so on.
faults() { HALDANE_FAULT_RUNS=${HALDANE_FAULT_RUNS:-20000} cargo test --locked --profile trials --test faults -- --nocapture --test-threads=1; }
documentation() { RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps; }
dependencies() {
  tests/cluster/build.sh cargo-deny
  "$BIN_CARGO_DENY/cargo-deny" --locked check bans licenses sources
}
report() {
  need chromium chromium
  cargo test --locked --test sim -- --ignored report_opens
}
chart() {
  need_go_for "$BIN_HELM"
  tests/cluster/build.sh helm
  "$BIN_HELM/helm" lint --strict charts/haldane
  HALDANE_TEST_HELM=$BIN_HELM/helm cargo test --locked --test chart -- --include-ignored
}
# What stands in for Kubernetes and Prometheus in the simulated cluster, side by side with the real ones.
conformance() {
  need_go_for "$BIN_KUBERNETES" "$BIN_ETCD" "$CRD_FOLDER"
  need openssl openssl
  tests/cluster/build.sh prometheus || leave_out "no Prometheus, for the reason above"
  tests/cluster/build.sh kubernetes etcd crds
  OWNER=$$ tests/cluster/control-plane.sh up "$work/bare" --bare
  eval "$(tests/cluster/control-plane.sh env "$work/bare")"
  cargo test --locked --test conformance -- --ignored
  tests/cluster/control-plane.sh down "$work/bare"
  # Once more with routes as their projects publish them, on a server that knows no others.
  OWNER=$$ tests/cluster/control-plane.sh up "$work/published" --bare
  eval "$(tests/cluster/control-plane.sh env "$work/published")"
  local kind
  for kind in httproutes virtualservices; do
    HALDANE_TEST_CRDS=$CRD_FOLDER HALDANE_KIND=$kind cargo test --locked --test conformance -- --ignored generated_scripts
  done
  tests/cluster/control-plane.sh down "$work/published"
}
cluster() {
  need_go_for "$BIN_KUBERNETES" "$BIN_ETCD" "$BIN_HELM" "$CRD_FOLDER"
  need openssl openssl
  tests/cluster/build.sh prometheus || leave_out "no Prometheus, for the reason above"
  tests/cluster/build.sh kubernetes etcd crds helm
  cargo build --locked
  OWNER=$$ tests/cluster/control-plane.sh up "$work/cluster"
  eval "$(tests/cluster/control-plane.sh env "$work/cluster")"
  tests/cluster/control-plane.sh status "$work/cluster"
  export HALDANE_TEST_BIN=${CARGO_TARGET_DIR:-$PWD/target}/debug/haldane HALDANE_TEST_HELM=$BIN_HELM/helm
  touch "$work/keep"
  # Most of a cluster test is waiting, so more of them than cores. A hanging one ends before the machine's patience does.
  timeout --foreground --kill-after=30s 40m cargo test --locked --test cluster -- --include-ignored --test-threads=4
  rm "$work/keep"
}

stage "tools" tools
stage "format" format
stage "lints" lints
stage "tests" tests
if [ -z "$quick" ]; then
  stage "faults" faults
  stage "documentation" documentation
  stage "dependencies" dependencies
  stage "report in a browser" report
  stage "chart" chart
  if [ -n "$with_cluster" ]; then
    stage "conformance" conformance
    stage "cluster tests" cluster
  fi
fi

printf '\n=== summary\n'
printf '%s\n' "${summary[@]}"
if [ $failed = 1 ]; then exit 1; fi
if [ $left_out = 1 ]; then exit 3; fi
