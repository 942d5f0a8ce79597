"""The variables with which a test on a cluster is told where and how."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kind.settings import DEFAULT_NAME, NODE_IMAGES, Settings, from_environment


def test_without_variables_a_new_cluster_is_made_and_removed() -> None:
    settings = from_environment({})
    assert settings == Settings()
    assert (settings.name, settings.node_image, settings.keep, settings.existing) == (DEFAULT_NAME, NODE_IMAGES[-1], False, False)
    assert settings.loads_images


def test_a_cluster_of_kinds_that_is_there(tmp_path: Path) -> None:
    settings = from_environment({"TUTORLOOP_KIND_CLUSTER": "mine", "TUTORLOOP_KIND_KEEP": "1"})
    assert settings.name == "mine" and settings.existing and settings.keep


def test_any_other_cluster_needs_pushed_images(tmp_path: Path) -> None:
    table = tmp_path / "images.json"
    with pytest.raises(ValueError, match="also needs TUTORLOOP_IMAGES"):
        from_environment({"TUTORLOOP_KIND_CONTEXT": "team"})
    with pytest.raises(ValueError, match="no such file"):
        from_environment({"TUTORLOOP_IMAGES": str(table)})
    table.write_text("{}")
    settings = from_environment({"TUTORLOOP_KIND_CONTEXT": "team", "TUTORLOOP_IMAGES": str(table)})
    assert settings.context == "team" and settings.table == table and not settings.loads_images


def test_two_clusters_are_one_too_many() -> None:
    with pytest.raises(ValueError, match="set one of them"):
        from_environment({"TUTORLOOP_KIND_CLUSTER": "a", "TUTORLOOP_KIND_CONTEXT": "b"})


def test_archives_are_files_or_folders_of_them(tmp_path: Path) -> None:
    for name in ("b.tar", "a.tar", "notes.txt"):
        (tmp_path / name).touch()
    single = tmp_path / "b.tar"
    settings = from_environment({"TUTORLOOP_IMAGE_ARCHIVE": f"{tmp_path}:{single}", "TUTORLOOP_IMAGE_PREFIX": "mirror:5000/"})
    assert settings.archives == (tmp_path / "a.tar", single, single) and settings.prefix == "mirror:5000"
    with pytest.raises(ValueError, match="neither a tarball nor a folder"):
        from_environment({"TUTORLOOP_IMAGE_ARCHIVE": str(tmp_path / "none.tar")})


def test_patience_is_a_number() -> None:
    assert from_environment({"TUTORLOOP_KIND_PATIENCE": "2.5"}).patience == 2.5
    with pytest.raises(ValueError, match="no number"):
        from_environment({"TUTORLOOP_KIND_PATIENCE": "very"})
