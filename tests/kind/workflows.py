"""The workflows of the cluster under test, through the same client that follows runs in production."""

from __future__ import annotations

from pipelines.kubeflow.cluster_api import Cluster
from tests.kind.cluster import Kubectl


class ClusterUnderTest(Cluster):
    """The workflows of a namespace of the cluster that a kubectl leads to.

    Args:
        kubectl: Names the cluster: its context may not be the one that is chosen, nor its file the user's own.
        namespace: Where Kubeflow runs workflows.
    """

    def __init__(self, kubectl: Kubectl, namespace: str) -> None:
        from kubernetes import client, config

        settings = client.Configuration()
        config.load_kube_config(
            config_file=str(kubectl.kubeconfig) if kubectl.kubeconfig else None,
            context=None if kubectl.context == "current" else kubectl.context,
            client_configuration=settings,
        )
        # Repeats are up to whoever watches.
        settings.retries = False
        api = client.ApiClient(settings)
        self.namespace = namespace
        self._objects = client.CustomObjectsApi(api)
        self._core = client.CoreV1Api(api)
