{{- define "sallyport.selectorLabels" -}}
app.kubernetes.io/name: sallyport
app.kubernetes.io/component: operator
{{- end }}

{{- define "sallyport.labels" -}}
{{ include "sallyport.selectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sallyport.portal.selectorLabels" -}}
app.kubernetes.io/name: sallyport
app.kubernetes.io/component: portal
{{- end }}

{{- define "sallyport.portal.labels" -}}
{{ include "sallyport.portal.selectorLabels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "sallyport.image" -}}
{{- with .Values.image -}}
{{- if .digest -}}
{{ .repository }}@{{ .digest }}
{{- else -}}
{{ .repository }}:{{ .tag | default $.Chart.AppVersion }}
{{- end -}}
{{- end -}}
{{- end }}

{{/* Parts of CEL that the admission policies share. */}}

{{/* The pod that a request's token is bound to: a token issued by hand, or impersonation, has none. */}}
{{- define "sallyport.cel.pod" -}}
request.userInfo.?extra[?'authentication.kubernetes.io/pod-name'].orValue([])
{{- end }}

{{- define "sallyport.cel.operator" -}}
request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:sallyport' && variables.pod.size() == 1 && variables.pod[0].startsWith('sallyport-')
{{- end }}

{{/* The approval page, in its own pod. */}}
{{- define "sallyport.cel.portal" -}}
request.userInfo.username == 'system:serviceaccount:{{ .Release.Namespace }}:sallyport-portal' && variables.pod.size() == 1 && variables.pod[0].startsWith('sallyport-portal-')
{{- end }}

{{/* A proxy of the object's own namespace, in one of its own pods: ServiceAccount sallyport-x, pod sallyport-x-N. */}}
{{- define "sallyport.cel.proxy" -}}
request.userInfo.username.startsWith('system:serviceaccount:' + request.namespace + ':sallyport-') && variables.pod.size() == 1 && variables.pod[0].startsWith(request.userInfo.username.substring(request.userInfo.username.lastIndexOf(':') + 1) + '-')
{{- end }}

{{/* Controllers of Kubernetes itself: under names of their own or all in one, and what clusters add. */}}
{{- define "sallyport.cel.controllers" -}}
{{- $names := list "system:kube-controller-manager" -}}
{{- range .names }}{{- $names = append $names (printf "system:serviceaccount:kube-system:%s" .) }}{{- end -}}
{{- $names = concat $names .context.Values.admission.extraKubernetesControllers -}}
request.userInfo.username in [{{ range $i, $name := $names }}{{ if $i }}, {{ end }}{{ $name | squote }}{{ end }}]
{{- end }}
