//go:build tools

// Package tools pins the etcd that the cluster tests run: 3.6, since Kubernetes 1.34 wants its consistent reads and streaming lists.
package tools

import _ "go.etcd.io/etcd/server/v3"
