"""Each check refuses a pipeline that is wrong in its way and takes the same pipeline without that; Kubeflow's compiler takes both."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from components.core.errors import InputError
from pipelines.packages.checks import argument_sizes, layers, names, pods, problems, require, structure
from pipelines.packages.checks.ir import Package
from pipelines.packages.compile import COMPILED
from tests.conftest import ROOT
from tests.unit.packages.checks import samples
from tests.unit.packages.checks.samples import chain, compiled, pod

PACKAGES = [*COMPILED.glob("*.yaml"), *ROOT.glob("manifests/overlays/*/release/packages/*.yaml")]
Check = Callable[[Package], Iterator[str]]


@pytest.mark.parametrize("path", [path for path in PACKAGES if path.stem != "kustomization"], ids=lambda path: path.stem)
def test_every_package_in_git_runs_on_a_cluster(path: Path) -> None:
    assert list(problems(path.read_text())) == []


@pytest.mark.parametrize(
    ("check", "build", "said"),
    [
        (structure.runs_everywhere, samples.loop_over_a_named_output, "named output 'items'"),
        (structure.runs_everywhere, samples.loop_in_an_exit_handler, "12390"),
        (structure.runs_everywhere, samples.importer_in_a_loop, "10860"),
        (structure.runs_everywhere, samples.only_artifacts_for_a_nested_pipeline, "only arguments"),
        (structure.runs_everywhere, samples.one_of_two_branches, "OneOf"),
        (structure.runs_everywhere, samples.with_cache_key, "cache key"),
        (structure.runs_everywhere, samples.sharded("source"), ""),
        (structure.runs_everywhere, samples.two_that_differ, ""),
        (pods.accepted, pod(samples.number_as_resource), "Declare it a str"),
        (pods.accepted, pod(samples.request_above_limit), "more memory than its limit"),
        (pods.accepted, pod(samples.needed_secret), "cannot do without keys"),
        (pods.accepted, pod(samples.root_user), "runs as root"),
        (pods.accepted, pod(samples.odd_volume), "'2 GB'"),
        (pods.accepted, pod(samples.text_as_resource), ""),
        (pods.accepted, pod(samples.request_equal_to_limit), ""),
        (pods.accepted, pod(samples.optional_secret), ""),
        (names.accepted, pod(samples.long_label), "Kubernetes refuses"),
        (names.accepted, samples.two_that_differ, ""),
        (layers.readable, chain(layers.TASKS + 1), f"{layers.TASKS + 1} tasks"),
        (layers.readable, chain(layers.TASKS), ""),
        (layers.readable, samples.many_artifacts, "artifacts, more than"),
        (layers.readable, samples.one_box, "only one box"),
    ],
)
def test_each_check_refuses_what_is_wrong_in_its_way(check: Check, build: Callable[..., None], said: str) -> None:
    found = list(check(Package.parse(compiled(build))))
    assert bool(found) == bool(said), found
    assert all(said in problem for problem in found), found


@pytest.mark.parametrize("check", [structure.runs_everywhere, structure.defaults_are_values, pods.accepted, names.accepted])
def test_what_is_right_passes_every_check(check: Check) -> None:
    assert list(check(Package.parse(compiled(samples.two_that_differ)))) == []


@pytest.mark.parametrize("length", [names.PIPELINE, names.PIPELINE + 1])
def test_the_pipelines_name_leaves_room_for_the_workflows(length: int) -> None:
    found = list(names.accepted(Package.parse(compiled(samples.two_that_differ, name="p" * length))))
    assert bool(found) == (length > names.PIPELINE)


def test_names_that_kubeflow_makes_are_not_too_long_for_argo() -> None:
    text = compiled(samples.two_that_differ).replace("nested-different", "n" * 118)
    assert [problem for problem in names.accepted(Package.parse(text)) if "nnn-driver" not in problem] == []
    longer = list(names.accepted(Package.parse(text.replace("n" * 118, "n" * 122))))
    assert longer and all("-driver'" in problem and "129 characters" in problem for problem in longer)


def changed(change: Callable[[dict[str, Any]], Any], build: Callable[..., None] = samples.two_of_one_component) -> Package:
    spec = next(yaml.safe_load_all(compiled(build)))
    change(spec)
    return Package.parse(yaml.safe_dump(spec))


def parameters(spec: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = spec["root"]["inputDefinitions"]["parameters"]
    return found


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda spec: parameters(spec)["text"].pop("defaultValue"), "real default"),
        (lambda spec: parameters(spec)["text"].update(defaultValue=3), "correct one of the two"),
        (lambda spec: parameters(spec)["number"].update(defaultValue=0.5), "correct one of the two"),
        (lambda spec: parameters(spec)["number"].update(defaultValue=True), "correct one of the two"),
        (lambda spec: parameters(spec)["parts"].update(defaultValue=[{"a": None}]), "null in it"),
        (
            lambda spec: spec["components"]["comp-make"]["inputDefinitions"]["parameters"].update(more={"parameterType": "STRING"}),
            "no default",
        ),
        (
            lambda spec: spec["components"]["comp-make"]["inputDefinitions"]["parameters"].update(
                more={"parameterType": "NUMBER_INTEGER", "isOptional": True}
            ),
            "0 or -1",
        ),
        (lambda spec: spec["root"]["dag"]["tasks"]["take"]["inputs"]["artifacts"].pop("first"), "not given the artifact 'first'"),
        (lambda spec: None, ""),
    ],
)
def test_defaults_are_values_of_their_type(change: Callable[[dict[str, Any]], Any], said: str) -> None:
    found = list(structure.defaults_are_values(changed(change)))
    assert len(found) == bool(said) and all(said in problem for problem in found), found


@pytest.mark.parametrize("length", [40_000, 200_000])
def test_an_argument_that_linux_would_refuse_is_found_before(length: int) -> None:
    def lengthen(spec: dict[str, Any]) -> None:
        parameters(spec)["text"]["defaultValue"] = "x" * length

    found = list(argument_sizes.short_enough(changed(lengthen, samples.two_that_differ)))
    assert bool(found) == (length > argument_sizes.MAX_ARG_STRLEN)


def test_a_package_is_refused_with_every_reason_at_once() -> None:
    with pytest.raises(InputError, match="mine") as refused:
        require(compiled(samples.twice), "mine")
    assert "two names" in str(refused.value)
    with pytest.raises(InputError, match="no compiled package"):
        require("a: 1", "mine")
