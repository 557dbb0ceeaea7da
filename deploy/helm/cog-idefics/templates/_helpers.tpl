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
