"""The range of versions in pyproject.toml is the one that `make test-versions` tests."""

import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.conftest import REPO

DEPENDENCIES = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]["dependencies"]
BOUNDS = {
    canonicalize_name(requirement.name): {bound.operator: bound.version for bound in requirement.specifier}
    for requirement in map(Requirement, DEPENDENCIES)
}


def pins(file: str) -> dict[str, Version]:
    lines = [line for line in (REPO / file).read_text().splitlines() if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in (line.split("==") for line in lines)}


def test_the_lowest_tested_versions_are_the_lower_bounds():
    assert pins("tests/versions/lowest.txt") == {name: Version(bounds[">="]) for name, bounds in BOUNDS.items()}


def test_the_next_release_after_the_newest_tested_is_outside_the_range():
    newest = pins("tests/versions/newest.txt")
    assert newest.keys() == BOUNDS.keys()
    for name, version in newest.items():
        after = {Version(f"{version.major}.{version.minor + 1}"), Version(f"{version.major + 1}")}
        assert Version(BOUNDS[name]["<"]) in after, name


@pytest.mark.parametrize("name", ["torch", "transformers", "accelerate", "datasets", "huggingface-hub", "peft"])
def test_no_untested_minor_release_of_the_models_libraries(name):
    newest = pins("tests/versions/newest.txt")[name]
    assert Version(BOUNDS[name]["<"]) == Version(f"{newest.major}.{newest.minor + 1}")


def test_the_pinned_requirements_are_in_the_range():
    pinned = pins("requirements.txt")
    for requirement in map(Requirement, DEPENDENCIES):
        assert pinned[canonicalize_name(requirement.name)] in requirement.specifier
