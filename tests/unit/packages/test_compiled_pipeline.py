"""The compiled packages: what is in Git is what the code compiles to, and it holds nothing that runs differently elsewhere."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.images import AGENTS, GENERATOR, SYNC, TRAINER
from pipelines.packages.compile import COMPILED, KEPT, compile_profile, package_for
from pipelines.packages.slimming import without_docstrings
from pipelines.parameters.options_page import PAGE
from pipelines.parameters.profile import load
from tests.conftest import ROOT

COMPONENT_FILES = sorted([*ROOT.glob("components/*/component.py"), ROOT / "pipelines/parts/component.py"])


def documents(path: Path) -> list[dict[str, Any]]:
    loaded = [document for document in yaml.safe_load_all(path.read_text()) if document]
    for document in loaded:
        document.pop("sdkVersion", None)
    return loaded


@pytest.fixture(scope="module")
def golden() -> dict[str, Any]:
    return documents(COMPILED / "orca_math.yaml")[0]


@pytest.mark.parametrize("name", KEPT)
def test_golden_package_equals_a_fresh_compile(name: str, tmp_path: Path) -> None:
    compile_profile(tmp_path / name, load(KEPT[name]))
    assert documents(tmp_path / name) == documents(COMPILED / name), "run `make compile` and commit the result"


def test_a_run_on_this_machine_takes_the_package_that_is_kept_in_git(tmp_path: Path) -> None:
    assert package_for(load("tiny", ["data_shards=5"]), tmp_path) == COMPILED / "orca_math.yaml"


def test_compile_is_deterministic(tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        compile_profile(tmp_path / name, load("tiny", ["rounds=1"]))
    assert (tmp_path / "a.yaml").read_bytes() == (tmp_path / "b.yaml").read_bytes()


def test_other_numbers_of_rounds_are_unrolled(tmp_path: Path) -> None:
    package = package_for(load("tiny", ["rounds=3"]), tmp_path)
    tasks = documents(package)[0]["root"]["dag"]["tasks"]
    assert sum("practice-round" in name for name in tasks) == 3


def test_nothing_is_installed_at_run_time(golden: dict[str, Any]) -> None:
    text = yaml.safe_dump(golden)
    assert "pip install" not in text
    assert "packages_to_install" not in text


def test_what_nobody_reads_on_a_cluster_is_left_out(golden: dict[str, Any]) -> None:
    sources = [executor["container"]["command"][-1] for executor in golden["deploymentSpec"]["executors"].values()]
    assert sources and not [source for source in sources if '"""' in source]
    definitions = [
        entry
        for component in golden["components"].values()
        for kinds in (component.get("inputDefinitions", {}), component.get("outputDefinitions", {}))
        for kind in kinds.values()
        for entry in kind.values()
    ]
    assert definitions and not [entry for entry in definitions if "description" in entry]


def test_only_docstrings_are_taken_out_of_a_source() -> None:
    head, tail = "import os\n\ndef f(a: int):\n", '    text = """kept"""\n    return text\n\ndef g():\n    return 1\n'
    assert without_docstrings(head + '    """One\n\n    two.\n    """\n' + tail) == head + tail


def test_every_container_has_a_symbolic_image(golden: dict[str, Any]) -> None:
    used = {executor["container"]["image"] for executor in golden["deploymentSpec"]["executors"].values()}
    assert used == {AGENTS, TRAINER, GENERATOR, SYNC}


def test_no_parameter_is_named_like_a_secret(golden: dict[str, Any]) -> None:
    names = {name for component in golden["components"].values() for name in component.get("inputDefinitions", {}).get("parameters", {})}
    assert not [name for name in names if any(word in name.lower() for word in ("key", "secret", "password", "token"))]


def test_one_task_gives_out_what_people_compare(golden: dict[str, Any]) -> None:
    """Kubeflow's Compare runs makes a column of every such artifact."""
    graphs = [golden["root"], *golden["components"].values()]
    used = [task["componentRef"]["name"] for graph in graphs for task in graph.get("dag", {}).get("tasks", {}).values()]
    kinds = {
        name: [item["artifactType"].get("schemaTitle") for item in component.get("outputDefinitions", {}).get("artifacts", {}).values()]
        for name, component in golden["components"].items()
        if "executorLabel" in component
    }
    comparing = [name for name in used if "system.Metrics" in kinds.get(name, [])]
    assert len(comparing) == 1 and kinds[comparing[0]].count("system.Metrics") == 1


def test_the_pipelines_description_leads_to_the_page_of_options(golden: dict[str, Any]) -> None:
    page = PAGE.relative_to(ROOT).as_posix()
    assert page in golden["pipelineInfo"]["description"] and PAGE.is_file()


def test_loops_read_plain_lists_only(golden: dict[str, Any]) -> None:
    """kfp.local cannot loop over a named output of a task (kfp 2.17)."""
    dags = [golden["root"]["dag"]] + [component["dag"] for component in golden["components"].values() if "dag" in component]
    loops = [task["parameterIterator"]["items"] for dag in dags for task in dag["tasks"].values() if "parameterIterator" in task]
    assert loops
    assert all("inputParameter" in items and "-Output" not in items["inputParameter"] for items in loops)


@pytest.mark.parametrize("path", COMPONENT_FILES, ids=lambda path: path.parent.name)
def test_components_are_thin(path: Path) -> None:
    functions = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
    assert functions
    for function in functions:
        body = function.body[1:] if ast.get_docstring(function) else function.body
        lines = {
            line
            for node in body
            if not isinstance(node, ast.ImportFrom | ast.Import)
            for line in (node.lineno, node.end_lineno or node.lineno)
        }
        assert max(lines) - min(lines) < 10, f"{path}: {function.name} does work that belongs into a plain module"
        assert ast.get_docstring(function), f"{path}: {function.name} has no docstring, Kubeflow shows it"
