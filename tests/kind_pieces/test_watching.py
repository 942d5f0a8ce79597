"""Pods as they change, from a real process that tells them as kubectl does."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from tests.kind.cluster import Kubectl
from tests.kind.watching import PodWatch, events_of
from tests.kind_pieces.programs import script

KUBECTL = """
import json, pathlib, sys, time
state = pathlib.Path({folder!r}) / "starts"
state.write_text((state.read_text() if state.exists() else "") + "x")
for phase in ("Pending", "Running"):
    print(json.dumps({{"type": "MODIFIED", "object": {{"phase": phase}}}}), flush=True)
print(json.dumps({{"type": "ERROR", "object": {{"code": 410}}}}), flush=True)
if len(state.read_text()) > 1:
    time.sleep(600)
"""


@pytest.mark.parametrize("indent", [None, 4])
def test_values_one_after_another_are_told_apart(indent: int | None) -> None:
    values = [{"type": "ADDED", "object": {"text": "a } b { c", "list": [{}, {"x": 1}]}}, {"type": "DELETED", "object": {}}]
    text = "\n".join(json.dumps(value, indent=indent) for value in values) + "\n"
    assert list(events_of(io.StringIO(text))) == values


def test_a_watch_that_ends_is_begun_again_and_ends_with_its_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "kubectl", KUBECTL.format(folder=str(tmp_path)))
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with PodWatch(Kubectl("lab"), "kubeflow", "pipeline/runid=r") as watch:
        seen: list[str] = []
        while len(seen) < 4:
            if found := watch.next(5):
                seen.append(found["phase"])
        assert seen == ["Pending", "Running"] * 2
        assert watch.next(0.05) is None
        assert watch.process_id and Path(f"/proc/{watch.process_id}").exists()
        process = watch.process_id
    assert not Path(f"/proc/{process}").exists()
