"""The repository's promises: what the documents say is on the disk, and the rules of the house hold."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "emo2"
MODULES = sorted(SOURCE.rglob("*.py"))
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
IMPORT_NAMES = {"opencv-python-headless": "cv2", "pillow": "PIL"}
OF_THE_EXTRAS = {
    "studio": ("studio/", "hands/cut_standin.py"),
    "full": ("speech/load.py", "download.py"),
    "train": ("train", "data/", "portrait/data.py", "portrait/augment.py"),
    "metrics": ("metrics/",),
}
"""Where the packages of an extra may be imported; everything else works without them."""


def tracked(pattern: str) -> list[Path]:
    """Files of that pattern, without environments and build folders."""
    skipped = {".venv", "build", "dist", ".git"}
    return [p for p in sorted(ROOT.rglob(pattern)) if not skipped & set(p.relative_to(ROOT).parts)]


def code_block(text: str, begins: str) -> str:
    """The fenced block whose first line starts so."""
    for block in re.findall(r"```[a-z ]*\n(.*?)```", text, flags=re.DOTALL):
        if block.startswith(begins):
            return block
    raise AssertionError(f"no block that begins with {begins!r}")


def paths_of_tree(block: str) -> list[Path]:
    """The paths an ASCII tree names."""
    found, parents = [], []
    for line in block.splitlines()[1:]:
        match = re.match(r"^([│ ]*)(?:├──|└──) (\S+(?: \S+)*)", line)
        if match is None:
            continue
        depth = len(match[1]) // 4
        names = match[2].split(" ")
        parents = [*parents[:depth], names[0]]
        found += [Path(*parents[:depth], name) for name in names]
    return found


def test_the_tree_in_the_readme_is_on_the_disk() -> None:
    paths = paths_of_tree(code_block((ROOT / "README.md").read_text(), "emo2/"))
    assert len(paths) > 20
    assert [str(p) for p in paths if not (ROOT / p).exists()] == []


def test_every_module_is_in_the_readmes_tree() -> None:
    shown = paths_of_tree(code_block((ROOT / "README.md").read_text(), "emo2/"))
    missing = [
        str(p.relative_to(ROOT))
        for p in MODULES
        if p.name != "__init__.py"
        and p.relative_to(ROOT) not in shown
        and not any(folder in shown for folder in p.relative_to(ROOT).parents if folder.parts[2:])
    ]
    assert missing == []


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "docs/design.md"])
def test_documents_name_only_files_that_exist(document: str) -> None:
    text = (ROOT / document).read_text()
    named = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    assert [n for n in named if not ((ROOT / document).parent / n).exists()] == []


def test_documents_that_the_code_names_exist() -> None:
    named = {n for m in MODULES for n in re.findall(r"docs/[a-z-]+\.md", m.read_text())}
    assert sorted(n for n in named if not (ROOT / n).exists()) == []


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_every_module_says_what_it_is(module: Path) -> None:
    assert ast.get_docstring(ast.parse(module.read_text()))


@pytest.mark.parametrize("module", MODULES, ids=lambda p: str(p.relative_to(SOURCE)))
def test_modules_and_functions_stay_small(module: Path) -> None:
    text = module.read_text()
    assert len(text.splitlines()) <= 400
    functions = [
        n
        for n in ast.walk(ast.parse(text))
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    long = [f.name for f in functions if (f.end_lineno or 0) - f.lineno + 1 > 60]
    assert long == []


def test_no_module_asks_which_preset_it_runs() -> None:
    allowed = {"config.py", "weights.py", "cli.py"}
    askers = []
    for module in MODULES:
        for node in ast.walk(ast.parse(module.read_text())):
            if isinstance(node, ast.Compare) and module.name not in allowed:
                sides = [node.left, *node.comparators]
                values = {s.value for s in sides if isinstance(s, ast.Constant)}
                if values & {"compact", "full"}:
                    askers.append(f"{module.name}:{node.lineno}")
    assert askers == []


def test_names_say_something() -> None:
    empty = {"utils", "util", "helper", "helpers", "manager", "common", "misc"}
    assert [str(m) for m in MODULES if empty & set(m.with_suffix("").parts[-3:])] == []


def test_help_needs_no_torch() -> None:
    code = (
        "import sys; from emo2.cli import build_parser; build_parser().format_help();"
        "print(sorted({'torch', 'numpy', 'av', 'diffusers'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": str(ROOT / "src")},
    )
    assert run.stdout.strip() == "[]", run.stderr


def test_console_scripts_exist() -> None:
    for target in PROJECT["project"]["scripts"].values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_the_public_names_exist() -> None:
    import emo2

    assert [name for name in emo2.__all__ if not hasattr(emo2, name)] == []
    assert not hasattr(emo2, "no_such_name")


def test_the_version_is_said_once() -> None:
    import emo2

    assert emo2.__version__ == PROJECT["project"]["version"]


def imported(path: Path) -> set[str]:
    """Top-level names of other people's packages that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.split(".")[0])
    return names - set(sys.stdlib_module_names) - {"emo2"}


def declared(requirements: list[str]) -> set[str]:
    """Import names of a list of requirements."""
    names = [re.split(r"[<>=!\[; ]", r)[0] for r in requirements]
    return {IMPORT_NAMES.get(n, n.replace("-", "_")) for n in names}


def test_every_import_is_declared() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    base = declared(PROJECT["project"]["dependencies"])
    undeclared = []
    for module in MODULES:
        known = base | {
            name
            for extra, places in OF_THE_EXTRAS.items()
            if str(module.relative_to(SOURCE)).startswith(places)
            for name in declared(extras[extra])
        }
        undeclared += [
            f"{module.relative_to(SOURCE)}: {n}" for n in sorted(imported(module) - known)
        ]
    assert undeclared == []


def test_every_requirement_is_imported() -> None:
    used = set().union(*(imported(m) for m in MODULES))
    assert sorted(declared(PROJECT["project"]["dependencies"]) - used) == []


def test_requirements_are_ranges_and_the_constraints_pin_them() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    wanted = [*PROJECT["project"]["dependencies"], *(r for rs in extras.values() for r in rs)]
    assert [r for r in wanted if ">=" not in r] == []
    pinned = {
        line.split("==")[0].lower().replace("_", "-")
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if "==" in line
    }
    assert sorted({re.split(r"[<>=!\[; ]", r)[0].lower() for r in wanted} - pinned) == []


def symbols(path: Path) -> set[str]:
    """Names a module defines: its functions, classes, their methods, and its constants."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
        targets = node.targets if isinstance(node, ast.Assign) else []
        names |= {t.id for t in targets if isinstance(t, ast.Name)}
    return names


def test_every_symbol_of_the_paper_map_exists() -> None:
    text = (ROOT / "docs" / "paper.md").read_text()
    claims = re.findall(r"`([\w/]+\.py):([\w.]+)`", text)
    assert len(claims) > 20
    wrong = []
    for file, symbol in claims:
        path = SOURCE / file
        if not path.is_file() or symbol not in symbols(path):
            wrong.append(f"{file}:{symbol}")
    assert wrong == []


def test_no_file_names_a_place_on_somebodys_machine() -> None:
    places = re.compile(r"/(work|root|home)/\w")
    texts = [
        p for pattern in ("*.py", "*.md", "*.toml", "Makefile", "run") for p in tracked(pattern)
    ]
    assert len(texts) > 20
    assert [str(p.relative_to(ROOT)) for p in texts if places.search(p.read_text())] == []


def test_the_shipped_weights_stay_within_the_promised_size() -> None:
    sizes = [p.stat().st_size for p in SOURCE.rglob("*.safetensors")]
    assert sum(sizes) <= 60e6


def test_the_readmes_commands_are_the_makefiles() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    said = set(re.findall(r"`?make ([a-z-]+)", (ROOT / "README.md").read_text()))
    assert said
    assert said <= targets


def test_the_commands_flags_are_as_agreed() -> None:
    """A new flag must show up in review: change tests/flags.txt with it."""
    from emo2.cli import build_parser

    parser = build_parser()
    lines = []
    for name, command in sorted(parser._subparsers._group_actions[0].choices.items()):  # type: ignore[union-attr]
        flags = sorted(a.option_strings[-1] for a in command._actions if a.option_strings)
        lines.append(f"{name}: {' '.join(flags)}")
    assert "\n".join(lines) == (ROOT / "tests" / "flags.txt").read_text().strip()
