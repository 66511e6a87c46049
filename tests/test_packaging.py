"""The package's lists and pins agree with what lies on disk, so that nothing new can be forgotten."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

import muse_eval
from muse_eval import plugins
from muse_eval.types import AnyMethod

ROOT = Path(__file__).resolve().parents[1]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SETUPTOOLS = PYPROJECT["tool"]["setuptools"]
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")


def canonical(requirement: str) -> str:
    """Return the normalised name at the head of a requirement."""
    name = NAME.match(requirement)
    assert name is not None, requirement
    return re.sub(r"[-_.]+", "-", name[0]).lower()


@pytest.mark.parametrize("name", ["metrics", "tasks"])
def test_linked_folders_are_relative_links(name: str) -> None:
    if (ROOT / "PKG-INFO").is_file():
        pytest.skip("an sdist holds no links: its package-dir does the same")
    link = ROOT / "muse_eval" / name
    assert link.is_symlink(), f"muse_eval/{name} must be committed as a link (git config core.symlinks true)"
    assert str(link.readlink()) == f"../{name}"


def test_package_list_is_what_lies_on_disk() -> None:
    inside = [path.parent for path in (ROOT / "muse_eval").rglob("__init__.py")]
    found = {".".join(path.relative_to(ROOT).parts) for path in inside}
    found |= {f"muse_eval.{name}" for name in ("metrics", "tasks")}
    assert sorted(SETUPTOOLS["packages"]) == sorted(found)


def test_every_module_lies_in_a_package() -> None:
    loose = {path.parent for path in (ROOT / "muse_eval").rglob("*.py")}
    assert [path for path in loose if not (path / "__init__.py").is_file()] == []


def test_mapped_packages_stand_at_the_root() -> None:
    mapped = {name: folder for name, folder in SETUPTOOLS["package-dir"].items() if name != "muse_eval"}
    assert mapped == {"muse_eval.metrics": "metrics", "muse_eval.tasks": "tasks"}


def test_every_data_file_of_a_package_is_declared() -> None:
    declared = SETUPTOOLS["package-data"]
    for name in SETUPTOOLS["packages"]:
        folder = ROOT / SETUPTOOLS["package-dir"].get(name, name.replace(".", "/"))
        data = [path for path in folder.iterdir() if path.is_file() and path.suffix not in (".py", ".pyc")]
        for path in data:
            assert any(path.match(pattern) for pattern in declared.get(name, [])), f"{path} would not ship"


def test_every_task_file_is_found_and_named_as_it_says() -> None:
    files = sorted(path.stem for path in (ROOT / "tasks").glob("*.yaml"))
    assert plugins.task_names() == files
    assert [plugins.task(name).name for name in files] == files


def defining(folder: Path, attribute: str) -> list[str]:
    """List the modules of a folder that set ``attribute``."""
    files = sorted(folder.glob("*.py"))
    return [f.stem for f in files if re.search(rf"(?m)^{attribute}\b", f.read_text(encoding="utf-8"))]


def test_every_metric_file_is_found() -> None:
    names = defining(ROOT / "metrics", "METRIC")
    assert names
    assert plugins.metric_names() == names
    for name in names:
        assert set(plugins.metric(name).few_shot) <= set(plugins.metric(name).roles)


def test_every_method_file_is_found() -> None:
    losses = defining(ROOT / "muse_eval" / "unlearning" / "methods", "METHOD")
    assert losses
    assert {plugins.split_method(name)[0] for name in plugins.method_names()} == set(losses)
    for name in plugins.method_names():
        assert isinstance(plugins.method(name)[1], AnyMethod)
        assert plugins.method_summary(name).endswith(".")


def test_versions_agree() -> None:
    assert PYPROJECT["project"]["version"] == muse_eval.__version__


@pytest.mark.slow
def test_what_is_found_late_is_offered_by_completion() -> None:
    # Offering it loads nothing: completion answers at once.
    code = "import sys, muse_eval as m; print({*m.__all__} <= {*dir(m)}, 'muse_eval.api' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True False\n"
    assert "__version__" in dir(muse_eval)


def test_typing_marker_is_packaged() -> None:
    assert (ROOT / "muse_eval" / "py.typed").is_file()
    assert "py.typed" in SETUPTOOLS["package-data"]["muse_eval"]


def pins() -> dict[str, str]:
    """Read the exact versions of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    assert all(len(pair) == 2 for pair in pairs), "constraints.txt holds exact pins alone: name==version"
    return {canonical(name): version for name, version in pairs}


def test_constraints_pin_every_direct_dependency() -> None:
    project = PYPROJECT["project"]
    wanted = [*PYPROJECT["build-system"]["requires"], *project["dependencies"]]
    wanted += project["optional-dependencies"]["dev"]
    assert [name for name in wanted if canonical(name) not in pins()] == []


def test_constraints_pin_what_is_allowed() -> None:
    from packaging.requirements import Requirement

    project = PYPROJECT["project"]
    known = pins()
    for line in [*project["dependencies"], *project["optional-dependencies"]["dev"]]:
        requirement = Requirement(line)
        assert requirement.specifier.contains(known[canonical(requirement.name)]), line


def test_constraints_name_no_local_build() -> None:
    assert [name for name, version in pins().items() if "+" in version] == []
