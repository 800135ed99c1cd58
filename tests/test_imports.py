"""The direction of imports in `spt`: which folder may import which, no cycles, none inside functions, no heavy ones."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from tests.conftest import REPO

FOUNDATION = [
    *("command_help", "console", "distributed", "errors", "explain_error", "figure_style", "files"),
    *("hub_errors", "hydra_targets", "numerics_version", "path_overrides", "paths", "recipes"),
    "terminal_table",
]
COMMANDS = "command evaluate inspect predict prune push reproduce runs train report.__main__ __main__".split()

# Which parts a part may import, beside itself. A part is a folder, a module beside the folders, or a group of these.
ALLOWED = {
    "foundation": set(),
    "modeling": {"foundation"},
    "methods": {"foundation", "modeling"},
    "tasks": {"foundation", "modeling"},
    "sweeps": {"foundation"},
    "records": {"foundation"},
    "adapters": {"foundation", "modeling", "methods", "tasks", "records"},
    "training": {"foundation", "modeling", "methods", "tasks", "adapters", "records", "sweeps"},
    "insight": {"foundation", "modeling", "tasks", "adapters", "records", "training"},
    "grid": {"foundation", "records", "sweeps", "training", "insight"},
    "report": {"foundation", "records", "grid"},
}

# Commands answer --help without torch, so they import inside functions. The public API imports at first use.
MAY_IMPORT_INSIDE_FUNCTIONS = {*COMMANDS, ""}
EXCEPTIONS = {("modeling.lora", "peft")}

HEAVY = {"torch", "transformers", "datasets"}
LIGHT_MODULES = {
    "command",
    "records.schema",
    "records.fingerprint",
    "sweeps.multirun",
    "training.trainer_schema",
    *FOUNDATION,
}
LIGHT_FOLDERS = ("report", "grid")
NOT_LIGHT = {"grid.launch_runs", "grid.gpu_speed"}


def module_name(path: Path) -> str:
    """The dotted name below `spt`: "records.schema"; "records" for its __init__, "" for that of spt."""
    parts = path.relative_to(REPO / "spt").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in sorted((REPO / "spt").rglob("*.py"))}


def part(module: str) -> str:
    if module in COMMANDS:
        return "commands"
    if module in FOUNDATION or module == "":
        return "foundation"
    return module.partition(".")[0]


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def walk(node: ast.AST, inside_function: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Each import below a node, and whether it is inside a function; imports for type checkers alone are left out."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, inside_function
        elif is_type_checking(child):
            yield from (each for branch in child.orelse for each in walk(branch, inside_function))
        else:
            yield from walk(child, inside_function or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef))


@cache
def imports(module: str) -> list[tuple[str, bool]]:
    """The modules of `spt` (as "spt.records.schema") and of other packages that a module imports."""
    names = []
    for node, inside_function in walk(ast.parse(MODULES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names += [(alias.name, inside_function) for alias in node.names]
            continue
        assert node.level == 0, f"{module}: a relative import"
        for alias in node.names:
            name = f"{node.module}.{alias.name}"
            is_module = name.removeprefix("spt.") in MODULES and name.startswith("spt.")
            names.append((name if is_module else str(node.module), inside_function))
    return names


def own(module: str, inside_functions: bool = True) -> set[str]:
    """The modules of `spt` that a module imports, by their names below `spt`."""
    return {
        name.removeprefix("spt").removeprefix(".")
        for name, inside in imports(module)
        if name.partition(".")[0] == "spt" and (inside_functions or not inside)
    }


LIGHT = [name for name in MODULES if name in LIGHT_MODULES or name.partition(".")[0] in LIGHT_FOLDERS]


@pytest.mark.parametrize("module", MODULES)
def test_arrows_between_folders_are_in_the_table(module):
    folder = part(module)
    if folder != "commands":
        allowed = ALLOWED[folder] | {folder}
        # `spt` itself has the version, and imports nothing when it is imported.
        assert {target for target in own(module) if target and part(target) not in allowed} == set()


def test_no_module_imports_itself_through_others():
    def reaches(module: str) -> set[str]:
        reached, todo = set(), list(own(module))
        while todo:
            if (name := todo.pop()) not in reached:
                reached.add(name)
                todo += own(name)
        return reached

    assert {module for module in MODULES if module in reaches(module)} == set()


@pytest.mark.parametrize("module", [module for module in MODULES if module not in MAY_IMPORT_INSIDE_FUNCTIONS])
def test_imports_stand_at_the_top(module):
    packages = {
        name if name.startswith("spt") else name.partition(".")[0] for name, inside in imports(module) if inside
    }
    assert {package for package in packages if (module, package) not in EXCEPTIONS} == set()


@pytest.mark.parametrize("module", [module for module in LIGHT if module not in NOT_LIGHT])
def test_light_modules_reach_no_heavy_package(module):
    chains, todo = {}, [(module, module)]
    reached = set()
    while todo:
        name, chain = todo.pop()
        if name in reached:
            continue
        reached.add(name)
        for imported, inside_function in imports(name):
            package, _, below = imported.partition(".")
            if inside_function:
                continue
            if package in HEAVY:
                chains[package] = f"{chain} -> {package}"
            if package == "spt":
                # The import of a module runs the __init__ of its folder first.
                todo += [(each, f"{chain} -> {each}") for each in {below.rpartition(".")[0], below}]
    assert chains == {}
