"""The list of third-party images, and a mirror for them."""

from __future__ import annotations

import yaml

from pipelines.images.table import REPOSITORIES
from tests.kind.images import full_name, images_of, mirrored, put_mirror

TEXT = """
apiVersion: apps/v1
kind: Deployment
metadata: {name: ml-pipeline}
spec:
  template:
    spec:
      initContainers:
        - {name: wait, image: docker.io/alpine:3.23}
      containers:
        - name: api
          image: ghcr.io/kubeflow/kfp-api-server:2.17.0
          env:
            - {name: V2_DRIVER_IMAGE, value: ghcr.io/kubeflow/kfp-driver:2.17.0}
            - {name: OTHER_IMAGE_SETTING, value: not-an-image}
        - {name: ours, image: tutorloop/sync-python:0123}
        - {name: pushed, image: "ghcr.io/acme/tutorloop/sync-python@sha256:00"}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: workflow-controller}
spec:
  template:
    spec:
      containers:
        - name: controller
          image: quay.io/argoproj/workflow-controller:v4.0.5
          args: [--configmap, x, --executor-image, quay.io/argoproj/argoexec:v4.0.5]
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: mysql}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: mysql, image: "mysql:8.4"}]}}}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: text}
data: {about: "mysql:8.4-alpine and registry.example/mysql:8.4 are others"}
"""
IMAGES = [
    "docker.io/alpine:3.23",
    "ghcr.io/kubeflow/kfp-api-server:2.17.0",
    "ghcr.io/kubeflow/kfp-driver:2.17.0",
    "mysql:8.4",
    "quay.io/argoproj/argoexec:v4.0.5",
    "quay.io/argoproj/workflow-controller:v4.0.5",
]


def test_images_are_found_wherever_pods_drivers_and_executors_are_named_and_ours_are_left_out() -> None:
    assert images_of(yaml.safe_load_all(TEXT)) == IMAGES


def test_a_mirror_has_each_image_below_its_full_name() -> None:
    assert full_name("mysql:8.4") == "docker.io/library/mysql:8.4"
    assert full_name("minio/minio:1") == "docker.io/minio/minio:1"
    assert full_name("localhost/x:1") == "localhost/x:1" and full_name("host:5000/x") == "host:5000/x"
    assert mirrored("quay.io/a/b:1", "mirror:5000") == "mirror:5000/quay.io/a/b:1"


def test_the_mirror_is_put_in_everywhere_and_nowhere_else() -> None:
    changed = put_mirror(TEXT, "mirror:5000/cache")
    assert images_of(yaml.safe_load_all(changed)) == sorted(mirrored(image, "mirror:5000/cache") for image in IMAGES)
    about = list(yaml.safe_load_all(changed))[-1]["data"]["about"]
    assert about == "mysql:8.4-alpine and registry.example/mysql:8.4 are others"
    assert "tutorloop/sync-python:0123" in changed and "cache/tutorloop" not in changed
    assert put_mirror(TEXT, "") == TEXT


def test_all_our_images_are_known_as_ours_by_their_names_alone() -> None:
    names = [f"{prefix}{name}{suffix}" for name in REPOSITORIES.values() for prefix in ("", "mirror:5000/acme/") for suffix in (":1", "")]
    assert images_of({"name": "x", "image": name} for name in names) == []
