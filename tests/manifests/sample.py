"""A small cluster in memory that keeps every rule, for tests that break one of them at a time."""

from __future__ import annotations

import copy
from typing import Any

import yaml

from tests.manifests.objects import Object

_SAMPLE = """
apiVersion: v1
kind: Namespace
metadata: {name: home}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: server, namespace: home}
automountServiceAccountToken: false
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings, namespace: home}
data: {mode: quiet, peer: "http://server.home:80/path"}
---
apiVersion: v1
kind: Service
metadata: {name: server, namespace: home}
spec:
  selector: {app: server}
  ports: [{name: web, port: 80, targetPort: http}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: server, namespace: home, labels: {app.kubernetes.io/part-of: tutorloop}}
spec:
  selector: {matchLabels: {app: server}}
  template:
    metadata: {labels: {app: server}}
    spec:
      serviceAccountName: server
      automountServiceAccountToken: false
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      volumes:
        - {name: tmp, emptyDir: {sizeLimit: 1Gi}}
        - {name: settings, configMap: {name: settings, items: [{key: mode, path: mode}]}}
        - {name: data, persistentVolumeClaim: {claimName: data}}
      containers:
        - name: main
          image: example/server:1.2
          args: ["--peer=http://server:80"]
          ports: [{name: http, containerPort: 8080}]
          env:
            - {name: MODE, valueFrom: {configMapKeyRef: {name: settings, key: mode}}}
            - {name: KEY, valueFrom: {secretKeyRef: {name: keys, key: api-key}}}
          readinessProbe: {httpGet: {path: /, port: http}}
          livenessProbe: {httpGet: {path: /, port: http}}
          resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: "1", memory: 64Mi}}
          securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: task, namespace: home, labels: {app.kubernetes.io/part-of: tutorloop}}
spec:
  schedule: "0 * * * *"
  concurrencyPolicy: Forbid
  startingDeadlineSeconds: 60
  jobTemplate:
    spec:
      backoffLimit: 1
      activeDeadlineSeconds: 60
      template:
        metadata: {labels: {app: task}}
        spec:
          serviceAccountName: server
          automountServiceAccountToken: false
          restartPolicy: Never
          securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
          containers:
            - name: main
              image: example/task:1.2
              resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {cpu: "1", memory: 64Mi}}
              securityContext: {readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: data, namespace: home}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: home}
stringData: {api-key: x}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: reader, namespace: home}
rules: [{apiGroups: [""], resources: [secrets], resourceNames: [keys], verbs: [get]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: reader, namespace: home}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: reader}
subjects: [{kind: ServiceAccount, name: server, namespace: home}]
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: server, namespace: home}
spec: {maxUnavailable: 1, selector: {matchLabels: {app: server}}}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: server, namespace: home}
spec:
  podSelector: {matchLabels: {app: server}}
  policyTypes: [Ingress]
  ingress: [{from: [{podSelector: {matchLabels: {app: task}}}], ports: [{port: http}]}]
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: server, namespace: home}
spec: {selector: {matchLabels: {}}, endpoints: [{port: web}]}
"""

REMOVED = object()
"""As a value for `changed`: take the field away."""


def cluster() -> list[Object]:
    """A fresh copy of the sample."""
    return copy.deepcopy(list(yaml.safe_load_all(_SAMPLE)))


def changed(items: list[Object], kind: str, path: str, value: Any) -> list[Object]:
    """Change one field of the first object of a kind.

    Args:
        items: The objects, changed in place.
        kind: Of the object.
        path: Keys and list indices with `/` between them.
        value: The new value, or REMOVED.

    Returns:
        The same list.
    """
    target: Any = next(item for item in items if item["kind"] == kind)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split("/")]
    for part in parents:
        target = target[part]
    if value is REMOVED:
        del target[last]
    else:
        target[last] = value
    return items
