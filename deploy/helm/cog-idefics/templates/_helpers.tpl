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

{{- define "idefics.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{/* What checkov asks for and this chart does not do, with the reason (tests/deploy/test_policy.py). */}}
{{- define "idefics.waived" -}}
checkov.io/skip1: CKV_K8S_11=a CPU limit would stop all threads of a step for parts of each 100 ms; the request is what it gets
{{- if not .Values.image.digest }}
checkov.io/skip2: CKV_K8S_43=image.digest pins the image; a chart cannot know it
checkov.io/skip3: CKV_K8S_15=tags are versions and do not move, and a node that has the image starts it without the registry
{{- end }}
{{- if not .Values.networkPolicy.enabled }}
checkov.io/skip4: CKV2_K8S_6=networkPolicy.enabled is for who knows in which namespaces clients are
{{- end }}
{{- end -}}
