"""Parameters that become constants of a package: it does the same as before without being given them, wherever they were used."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from kfp import compiler

from pipelines.packages.binding import bind, bound
from tests.support import bound_sample

GIVEN: dict[str, Any] = {"shards": ["x", "y"], "more": {"a": 1.0}, "count": 3.0, "mode": "full", "parts": [{"a": "left"}, {"a": "right"}]}
WHOLE = "full:left+3.0,right+3.0:x-1.0,y-1.0:x-1.0,y-1.0"


def run(package: Path, given: dict[str, Any]) -> Any:
    """What a package puts out; in a process of its own, since ``kfp.local`` is set up once a process."""
    done = subprocess.run(
        [sys.executable, "-m", bound_sample.__name__, str(package), json.dumps(given)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("names", [(), ("shards", "more"), tuple(GIVEN)])
def test_a_package_with_constants_does_what_it_did(names: tuple[str, ...], tmp_path: Path) -> None:
    package = tmp_path / "package.yaml"
    compiler.Compiler().compile(bound_sample.sample, str(package))
    spec = yaml.safe_load(package.read_text())
    bind(spec, {name: GIVEN[name] for name in names})
    assert set(spec["root"].get("inputDefinitions", {}).get("parameters", {})) == set(GIVEN) - set(names)
    package.write_text(yaml.safe_dump(spec))
    assert run(package, {name: value for name, value in GIVEN.items() if name not in names}) == WHOLE
    for name in ("shards", "more"):
        assert bound(spec, name) == (GIVEN[name] if name in names else None)


def test_a_parameter_that_is_not_there_cannot_become_a_constant(tmp_path: Path) -> None:
    package = tmp_path / "package.yaml"
    compiler.Compiler().compile(bound_sample.sample, str(package))
    with pytest.raises(KeyError, match="moon"):
        bind(yaml.safe_load(package.read_text()), {"moon": 1.0})
