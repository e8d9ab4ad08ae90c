{{- define "haldane.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "haldane.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "haldane.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "haldane.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "haldane.selector" -}}
app.kubernetes.io/name: {{ include "haldane.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "haldane.labels" -}}
{{ include "haldane.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "haldane.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "haldane.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* The watched namespaces as a JSON list; empty for all. */}}
{{- define "haldane.namespaces" -}}
{{- $namespaces := .Values.namespaces }}
{{- if .Values.namespace }}
{{- $namespaces = append $namespaces .Values.namespace }}
{{- end }}
{{- $namespaces | uniq | sortAlpha | toJson }}
{{- end }}

{{/* Cluster-wide names hold the namespace, so that releases of one name can live side by side. */}}
{{- define "haldane.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "haldane.fullname" .) }}
{{- end }}
