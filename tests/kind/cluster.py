"""kind and kubectl: one method a command, each with a time limit."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.kind import node_images
from tests.kind.commands import CommandError, run, say

TWO_NODES = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": [{"role": "control-plane"}, {"role": "worker"}]}
"""Two, so that "on the node with GPUs" says something."""
CONTROL_PLANE = "node-role.kubernetes.io/control-plane"


@dataclass(frozen=True)
class Kubectl:
    """One cluster.

    Attributes:
        context: Kube context; ``current`` for the one that is chosen.
        kubeconfig: Its file; None for the user's own.
    """

    context: str
    kubeconfig: Path | None = None

    def command(self, *arguments: str) -> list[str]:
        """The whole command line."""
        chosen = [] if self.context == "current" else ["--context", self.context]
        file = ["--kubeconfig", str(self.kubeconfig)] if self.kubeconfig else []
        return ["kubectl", *file, *chosen, *arguments]

    def __call__(self, *arguments: str, text: str | None = None, seconds: float = 120, quiet: bool = False) -> str:
        """Run a command; see :func:`tests.kind.commands.run`."""
        return run(self.command(*arguments), text=text, seconds=seconds, quiet=quiet)

    def get(self, kind: str, namespace: str = "", *, name: str = "", labels: str = "") -> Any:
        """An object, or the list of objects of a kind.

        Args:
            kind: As kubectl names it.
            namespace: Empty for what belongs to none.
            name: Empty for a list.
            labels: Selector of a list.
        """
        where = ["--namespace", namespace] if namespace else []
        which = [name] if name else []
        chosen = ["--selector", labels] if labels else []
        answer = json.loads(self("get", kind, *which, *where, *chosen, "--output", "json", "--request-timeout", "60s", quiet=True))
        return answer if name else answer["items"]

    def apply(self, text: str, *, seconds: float = 300) -> None:
        """Apply YAML: on the server's side, since KFP's definitions are larger than an annotation may be."""
        self(
            "apply",
            "--server-side",
            "--force-conflicts",
            "--field-manager",
            "tutorloop-kind",
            "--filename",
            "-",
            text=text,
            seconds=seconds,
        )

    def delete(self, kind: str, namespace: str, *names: str, now: bool = False, seconds: float = 180) -> None:
        """Delete objects, if they are there.

        Args:
            kind: As kubectl names it.
            namespace: Theirs.
            names: Of the objects.
            now: Do not let pods end by themselves; as when their node is lost.
            seconds: How long it may take.
        """
        force = ["--grace-period", "0", "--force"] if now else []
        self("delete", kind, *names, "--namespace", namespace, "--ignore-not-found", *force, seconds=seconds)

    def wait(self, what: str, condition: str, namespace: str = "", *, seconds: float = 120) -> None:
        """``kubectl wait``."""
        where = ["--namespace", namespace] if namespace else []
        self("wait", what, "--for", f"condition={condition}", *where, "--timeout", f"{seconds:g}s", seconds=seconds + 30)

    def patch_status(self, kind: str, name: str, patch: Sequence[dict[str, Any]]) -> None:
        """Change the status of an object of the cluster by a JSON patch."""
        self("patch", kind, name, "--subresource", "status", "--type", "json", "--patch", json.dumps(list(patch)))


@dataclass(frozen=True)
class Kind:
    """A kind cluster.

    Attributes:
        name: Its name.
        kubeconfig: File for its credentials: the user's own stays as it is.
    """

    name: str
    kubeconfig: Path

    @property
    def kubectl(self) -> Kubectl:
        """For this cluster."""
        return Kubectl(f"kind-{self.name}", self.kubeconfig)

    def exists(self) -> bool:
        """Whether it is there."""
        return self.name in run(["kind", "get", "clusters"], seconds=60).split()

    def create(self, node_image: str, *, seconds: float = 600) -> None:
        """Make it, and let pods run on every node."""
        with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
            yaml.safe_dump(TWO_NODES, file)
            file.flush()
            command = ["kind", "create", "cluster", "--name", self.name, "--image", node_image, "--config", file.name]
            # Retained when it does not come up: its logs say why. Whoever made it removes it.
            run([*command, "--kubeconfig", str(self.kubeconfig), "--wait", f"{seconds:g}s", "--retain"], seconds=seconds + 300)
        try:
            self.kubectl("taint", "nodes", "--all", f"{CONTROL_PLANE}:NoSchedule-")
        except CommandError as error:
            # Says so for each node that has no taint, and has removed the others by then.
            if "not found" not in str(error):
                raise

    def export(self) -> None:
        """Write the credentials of a cluster that is there."""
        run(["kind", "export", "kubeconfig", "--name", self.name, "--kubeconfig", str(self.kubeconfig)], seconds=60)

    def load_images(self, references: Sequence[str], *, seconds: float = 1200) -> None:
        """Bring those images of this machine's docker into every node that are new there."""
        if not (references := node_images.new(node_images.of_docker(references), node_images.held(self.name))):
            say("every node has our images")
            return
        run(["kind", "load", "docker-image", "--name", self.name, *references], seconds=seconds)

    def load_archive(self, archive: Path, *, seconds: float = 1200) -> None:
        """Bring the images of a tarball into every node, unless they are there."""
        images = node_images.of_archive(archive)
        if images and not node_images.new(images, node_images.held(self.name)):
            say(f"every node has the images of {archive.name}")
            return
        run(["kind", "load", "image-archive", "--name", self.name, str(archive)], seconds=seconds)

    def delete(self) -> None:
        """Remove it, if it is there."""
        run(["kind", "delete", "cluster", "--name", self.name, "--kubeconfig", str(self.kubeconfig)], seconds=300)
        say(f"cluster {self.name} is gone")
