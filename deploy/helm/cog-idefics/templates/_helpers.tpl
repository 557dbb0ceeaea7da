{{/* SPDX-License-Identifier: Apache-2.0 */}}
{{- define "idefics.name" -}}
{{- printf "%s" .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "idefics.labels" -}}
app.kubernetes.io/name: cog-idefics
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "idefics.selector" -}}
app.kubernetes.io/name: cog-idefics
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* Of (dict "image" … "context" .). */}}
{{- define "idefics.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else -}}
{{ .image.repository }}:{{ .image.tag | default .context.Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* Not the server's pods', by which services and budgets know them. */}}
{{- define "idefics.exportSelector" -}}
app.kubernetes.io/name: cog-idefics-export
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "idefics.exportLabels" -}}
{{ include "idefics.exportSelector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "idefics.onVolume" -}}
{{- if has .Values.model.source (list "pvc" "export") }}yes{{ end -}}
{{- end -}}

{{- define "idefics.ownClaim" -}}
{{- if and (include "idefics.onVolume" .) (not .Values.model.claim) }}yes{{ end -}}
{{- end -}}

{{- define "idefics.claim" -}}
{{- if .Values.model.claim -}}
{{ .Values.model.claim }}
{{- else -}}
{{- $size := required "model.claim names the PersistentVolumeClaim with the bundle, or model.volume.size asks for one" .Values.model.volume.size -}}
{{ include "idefics.name" . | trunc 56 | trimSuffix "-" }}-models
{{- end -}}
{{- end -}}

{{- define "idefics.exportName" -}}
{{- if eq .Values.model.source "export" }}{{ regexReplaceAll "@.*$" .Values.export.repository "" | base }}{{ end -}}
{{- end -}}

{{/* The bundle's folder. That of an export has a key of what decides its content: another revision
     is made beside the old one, which pods go on reading and a rollback finds. */}}
{{- define "idefics.bundle" -}}
{{- .Values.model.path -}}
{{- if eq .Values.model.source "export" -}}
{{- $format := index .Chart.Annotations "cog-idefics/bundle-format" -}}
/{{ include "idefics.exportName" . }}-{{ list .Values.export.repository .Values.export.args $format | toJson | sha256sum | trunc 8 }}
{{- end -}}
{{- end -}}

{{/* What all pods of the chart have. */}}
{{- define "idefics.pod" -}}
serviceAccountName: {{ include "idefics.name" . }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "idefics.rights" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* What checkov asks for and this chart does not do, with the reason (tests/deploy/test_policy.py).
     Of (dict "image" … "context" .). */}}
{{- define "idefics.waived" -}}
checkov.io/skip1: CKV_K8S_11=a CPU limit would stop all threads of a step for parts of each 100 ms; the request is what it gets
{{- if not .image.digest }}
checkov.io/skip2: CKV_K8S_43=image.digest pins the image; a chart cannot know it
checkov.io/skip3: CKV_K8S_15=tags are versions and do not move, and a node that has the image starts it without the registry
{{- end }}
{{- if not .context.Values.networkPolicy.enabled }}
checkov.io/skip4: CKV2_K8S_6=networkPolicy.enabled is for who knows in which namespaces clients are
{{- end }}
{{- end -}}

{{/* Names, and what the server may fetch from (server/fetch/url_policy.cc), once more, out of its reach. */}}
{{- define "idefics.wayOut" -}}
- to:
  - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
    podSelector: {matchLabels: {k8s-app: kube-dns}}
  ports:
  - {port: 53, protocol: UDP}
  - {port: 53, protocol: TCP}
- to:
  {{- if .Values.networkPolicy.privateEgress }}
  - ipBlock: {cidr: 0.0.0.0/0}
  {{- else }}
  - ipBlock:
      cidr: 0.0.0.0/0
      except: [0.0.0.0/8, 10.0.0.0/8, 100.64.0.0/10, 127.0.0.0/8, 169.254.0.0/16, 168.63.129.16/32,
               172.16.0.0/12, 192.0.0.0/24, 192.0.2.0/24, 192.88.99.0/24, 192.168.0.0/16,
               198.18.0.0/15, 198.51.100.0/24, 203.0.113.0/24, 224.0.0.0/3]
  - ipBlock:
      cidr: 2000::/3
      except: [2001::/32, 2001:2::/48, 2001:db8::/32, 2002::/16]
  {{- end }}
  ports:
  - {port: 80, protocol: TCP}
  - {port: 443, protocol: TCP}
{{- end -}}
