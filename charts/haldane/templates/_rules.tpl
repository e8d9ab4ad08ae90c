{{/* Generated from src/controller/rbac.rs; a test compares the two. */}}
{{- define "haldane.rules" -}}
# The releases; read to confirm a status before writes that follow from it, patched for finalizers and to take back requests that were obeyed.
- apiGroups: ["flagger.app"]
  resources: ["canaries"]
  verbs: ["get", "list", "watch", "patch"]
# Where a release stands.
- apiGroups: ["flagger.app"]
  resources: ["canaries/status"]
  verbs: ["patch"]
# Asked for by servers that check who makes a Canary the owner of an object.
- apiGroups: ["flagger.app"]
  resources: ["canaries/finalizers"]
  verbs: ["update"]
# What releases are measured by, and who is told.
- apiGroups: ["flagger.app"]
  resources: ["metrictemplates", "alertproviders"]
  verbs: ["list", "watch"]
# Targets are read when a release begins, and scaled; primaries are made and promoted.
- apiGroups: ["apps"]
  resources: ["deployments", "daemonsets"]
  verbs: ["get", "list", "watch", "create", "patch"]
# Which pods are of the wanted revision; only metadata is asked for.
- apiGroups: ["apps"]
  resources: ["replicasets"]
  verbs: ["list", "watch"]
# The apex, primary and canary services.
- apiGroups: [""]
  resources: ["services"]
  verbs: ["get", "list", "watch", "create", "patch"]
# Whether pods can be reached before they get traffic.
- apiGroups: ["discovery.k8s.io"]
  resources: ["endpointslices"]
  verbs: ["list", "watch"]
# Credentials of metrics servers and alert channels, read by name when needed.
- apiGroups: [""]
  resources: ["secrets"]
  verbs: ["get"]
{{- if .Values.configTracking.enabled }}
# Copies for primaries. Only metadata is listed and watched, never contents, but RBAC cannot tell the two apart.
- apiGroups: [""]
  resources: ["secrets"]
  verbs: ["list", "watch", "create", "patch"]
{{- end }}
{{- if .Values.configTracking.enabled }}
# Copies for primaries; only metadata is listed and watched.
- apiGroups: [""]
  resources: ["configmaps"]
  verbs: ["get", "list", "watch", "create", "patch"]
{{- end }}
# Autoscalers of primaries.
- apiGroups: ["autoscaling"]
  resources: ["horizontalpodautoscalers"]
  verbs: ["get", "list", "watch", "create", "patch"]
# Autoscalers of primaries; those of targets are paused.
- apiGroups: ["keda.sh"]
  resources: ["scaledobjects"]
  verbs: ["get", "list", "watch", "create", "patch"]
# Routes; read before the capacity goes that they may send users to.
- apiGroups: ["networking.istio.io"]
  resources: ["virtualservices", "destinationrules"]
  verbs: ["get", "list", "watch", "create", "patch"]
# Routes; read before the capacity goes that they may send users to.
- apiGroups: ["gateway.networking.k8s.io"]
  resources: ["httproutes"]
  verbs: ["get", "list", "watch", "create", "patch"]
# What happened, for people.
- apiGroups: [""]
  resources: ["events"]
  verbs: ["create"]
{{- end }}
{{- define "haldane.ownRules" -}}
# Who leads.
- apiGroups: ["coordination.k8s.io"]
  resources: ["leases"]
  verbs: ["get", "create", "update"]
{{- end }}
