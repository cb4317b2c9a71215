"""The house keeps its own rules. They are read from the source; nothing of it is imported or run."""

from __future__ import annotations

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

import pytest

from tests.conftest import REPO

TOPS = ("cnnkit", "toolkit", "exporters", "serve")
# where a plug-in's word stands as a literal outside its own file, and why
WORDS_MEANT = {
    ("toolkit/backends/__init__.py", "ort"): "opens what nobody named a backend for",
    ("toolkit/graphs/__init__.py", "onnx"): "the format that graphs are exchanged in",
    (
        "toolkit/tensorrt/__init__.py",
        "trt",
    ): "the format of engines, which their backend and two exporters share",
    ("toolkit/sites.py", "web"): "the format of folders that an exporter writes and the server shows",
    ("toolkit/clusters/__init__.py", "local"): "runs what nobody named a cluster for",
    ("serve/hosting/__init__.py", "local"): "serves what nobody named a place for",
}
# where a network's, a data set's or a cluster's name stands outside its own file, and why
NAMES_MEANT: dict[tuple[str, str], str] = {
    ("toolkit/opening.py", "lenet"): "what to type where nothing was trained yet",
    ("toolkit/zoo.py", "lenet"): "an example of a network's file",
    ("toolkit/training/__init__.py", "resnets"): "the help of the option that takes ImageNet's weights",
    ("toolkit/transfer.py", "resnet18"): "the one network here that ImageNet's weights fit",
}
PACKAGES = ("timm", "torchvision")
# modules that are imported by a name in a variable: what no checker of imports can see
IMPORTS_BY_NAME = {
    "cnnkit/__init__.py": "public names, lazily; the stub beside it says the same to checkers",
    "toolkit/catalog.py": "plug-ins, found by listing their folder",
    "toolkit/tensorrt/flavours.py": "one of two packages that have the same interface",
}
# keys of open tables that are read by a word of their own, and why
AGREED_KEYS = {
    ("toolkit/backends/_openvino_engine.py", "chosen: 'streams'"): "a backend reads its own setting",
    ("toolkit/choosing/choose.py", "stages: 'files'"): "a stage's seconds, which only people read",
    ("toolkit/importing/weights.py", "recipes: 'textbook'"): "a recipe's name, as it is typed",
    ("toolkit/models/__init__.py", "recipes: 'default'"): "a recipe's name, as it is typed",
    ("toolkit/training_time.py", "recipes: 'default'"): "a recipe's name, as it is typed",
    ("toolkit/profiling/comparing/differences.py", "gbytes_s: 'memory'"): "beside the caches' names",
    ("toolkit/profiling/reports/drawn.py", "gflops: 'fp32'"): "a precision",
    ("toolkit/training/run.py", "kept: 'compute'"): "what a file of an older release has",
    ("toolkit/training/sweep_plan.py", "axes: 'device'"): "a setting's name, as it is typed",
    ("toolkit/training/sweep_plan.py", "axes: 'threads'"): "a setting's name, as it is typed",
}
# code of a user that its user named
RUNS_FILES = {"toolkit/zoo.py": "a user's own Python file, named by --model-file"}
BY_NAME = frozenset({"import_module", "__import__", "run_module", "run_path"})
FROM_FILE = frozenset({"spec_from_file_location", "module_from_spec", "exec_module"})


@functools.cache
def sources() -> dict[str, ast.Module]:
    """Return every source file's syntax tree by its path."""
    files = (path for top in TOPS for path in sorted((REPO / top).rglob("*.py")))
    return {path.relative_to(REPO).as_posix(): ast.parse(path.read_bytes()) for path in files}


@functools.cache
def nodes(path: str) -> tuple[ast.AST, ...]:
    """Return every node of a source file."""
    return tuple(ast.walk(sources()[path]))


def walked(kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[tuple[str, ast.AST]]:
    """Yield every node of a kind with the file that it stands in."""
    for path in sources():
        yield from ((path, node) for node in nodes(path) if isinstance(node, kind))


def docstrings(path: str) -> set[ast.AST]:
    """Return a file's nodes that are docstrings."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    bodies = (node.body for node in nodes(path) if isinstance(node, kinds))
    return {body[0].value for body in bodies if body and isinstance(body[0], ast.Expr)}


def plugins(folder: str) -> dict[str, str]:
    """Return the words of a folder's plug-ins by their files."""
    files = (path for path in (REPO / folder).glob("*.py") if path.stem[0] != "_")
    return {path.relative_to(REPO).as_posix(): path.stem for path in files}


def plugin_of(path: str, plugins: Iterable[str]) -> str:
    """Return the file of the plug-in whose companion a file is; the file itself where it is nobody's."""
    starts = {one: str(Path(one).with_name(f"_{Path(one).stem}_")) for one in plugins}
    return next((one for one, start in starts.items() if path.startswith(start)), path)


def test_no_plugins_word_stands_outside_its_own_file() -> None:
    """A plug-in may name the formats that it opens or is made from, and no backend but itself.

    Its companions (`_<plug-in>_*.py` beside it) are the plug-in's own.
    """
    backends, exporters = plugins("toolkit/backends"), plugins("exporters")
    places = plugins("toolkit/clusters") | plugins("serve/hosting")
    words = {*backends.values(), *exporters.values(), *places.values()}
    assert {"ort", "pytorch", "trt", "triton", "onnx", "ray", "local"} <= words
    formats = set(exporters.values()) - set(backends.values())
    own = {path: {word, *formats} for path, word in (*backends.items(), *exporters.items())}
    own |= {path: {word} for path, word in places.items()}
    found = set()
    for path in sources():
        told = docstrings(path)
        literals = {node.value for node in nodes(path) if isinstance(node, ast.Constant) and node not in told}
        found |= {(path, word) for word in words & literals - own.get(plugin_of(path, own), set())}
    assert found == set(WORDS_MEANT)


def test_no_network_data_set_or_cluster_is_named_outside_its_own_file() -> None:
    """Not even within a sentence or a command: what is true of one of them is a field of its spec."""
    data_sets = {
        stem.replace("_", "-")
        for path, stem in plugins("toolkit/datasets").items()
        if not any(isinstance(node, ast.keyword) and node.arg == "scheme" for node in nodes(path))
    }
    # packages of networks are named as packages are
    networks = set(plugins("toolkit/models").values()) - set(PACKAGES)
    clusters = set(plugins("toolkit/clusters").values()) - {"local"}
    assert {"fashion-mnist", "cifar10", "lenet", "resnet", "ray"} <= data_sets | networks | clusters
    names = "|".join(
        sorted(data_sets | {rf"(?:{'|'.join(networks)})[0-9s]*" for _ in "1"} | clusters, key=len)
    )
    pattern = re.compile(rf"(?<![\w-])(?:{names})(?![\w-])")
    homes = (
        "toolkit/models/",
        "toolkit/datasets/",
        "toolkit/clusters/",
        "serve/hosting/_ray",
        "serve/hosting/ray",
    )
    found = set()
    for path in sources():
        told = docstrings(path)
        texts = (node.value for node in nodes(path) if isinstance(node, ast.Constant) and node not in told)
        if not path.startswith(homes):
            found |= {
                (path, name) for text in texts if isinstance(text, str) for name in pattern.findall(text)
            }
    assert found == set(NAMES_MEANT)


def test_nobody_opens_a_private_door_of_another_folder() -> None:
    found = []
    for path, node in walked(ast.ImportFrom):
        module = (node.module or "").split(".")
        if module[0] not in TOPS:
            continue
        for name in (alias.name for alias in node.names):
            whole = [*module, name]
            private = next((i for i, part in enumerate(whole) if part[0] == "_" and part[:2] != "__"), None)
            if private is None:
                continue
            place = REPO.joinpath(*whole[:private])
            folder = place if place.is_dir() else place.parent
            if folder != (REPO / path).parent:
                found.append(f"{path}:{node.lineno} {'.'.join(whole)}")
    assert found == []


def test_no_private_name_is_reached_through_an_import() -> None:
    found = []
    for path in sources():
        known = set()
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in TOPS:
                known |= {alias.asname or alias.name for alias in node.names}
        for node in nodes(path):
            if isinstance(node, ast.Attribute) and node.attr[0] == "_" and node.attr[:2] != "__":
                root = ast.unparse(node.value).split(".")[0].split("(")[0]
                if root in known:
                    found.append(f"{path}:{node.lineno} {ast.unparse(node)}")
    assert found == []


def test_no_two_classes_share_a_name() -> None:
    found = defaultdict(list)
    for path, node in walked(ast.ClassDef):
        found[node.name].append(f"{path}:{node.lineno}")
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def test_no_import_is_hidden_from_the_checker() -> None:
    by_name, from_file = set(), set()
    for path, node in walked(ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if called in BY_NAME:
            by_name.add(path)
            assert not isinstance(node.args[0], ast.Constant | ast.JoinedStr), f"{path}:{node.lineno}"
        if called in FROM_FILE:
            from_file.add(path)
        assert getattr(node.func, "id", "") not in ("exec", "eval"), f"{path}:{node.lineno}"
    assert by_name == set(IMPORTS_BY_NAME)
    assert from_file == set(RUNS_FILES)


def test_no_module_of_the_house_is_handed_on_as_a_value() -> None:
    """What a function does with a module that it is given, no checker of imports sees."""
    found = []
    for path in sources():
        modules = set()
        for node in nodes(path):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in TOPS:
                place = REPO.joinpath(*str(node.module).split("."))
                names = {alias.name: alias.asname or alias.name for alias in node.names}
                modules |= {
                    name
                    for one, name in names.items()
                    if (place / f"{one}.py").is_file() or (place / one).is_dir()
                }
        stored = (
            node for node in nodes(path) if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load)
        )
        own = {node.id for node in stored} | {node.arg for node in nodes(path) if isinstance(node, ast.arg)}
        opened = {node.value for node in nodes(path) if isinstance(node, ast.Attribute)}
        found += [
            f"{path}:{node.lineno} {node.id}"
            for node in nodes(path)
            if isinstance(node, ast.Name) and node.id in modules - own and node not in opened
        ]
    assert found == []


def test_no_field_is_a_dict_with_agreed_keys() -> None:
    """Unknown keys of a file are kept, in fields of that name, and nothing is steered by them."""
    found = []
    for path, node in walked(ast.ClassDef):
        for field in (part for part in node.body if isinstance(part, ast.AnnAssign)):
            kind, name = ast.unparse(field.annotation), ast.unparse(field.target)
            anything = any(word in kind for word in ("[str, Any]", "[str, object]"))
            mapping = any(word in kind for word in ("dict", "Mapping"))
            if (anything and name != "kept") or (name == "extra" and mapping):
                found.append(f"{path}:{field.lineno} {node.name}.{name}: {kind}")
    assert found == []


def test_no_field_of_open_keys_is_read_by_a_key_that_is_written_out() -> None:
    """What is read by a word that both sides agree on is a field of a class."""
    fields = {
        ast.unparse(part.target)
        for _, node in walked(ast.ClassDef)
        for part in node.body
        if isinstance(part, ast.AnnAssign)
        and ast.unparse(part.annotation).startswith(("dict[str", "Mapping[str"))
    }
    found = set()
    for path in sources():
        for node in nodes(path):
            if isinstance(node, ast.Subscript):
                read, key = node.value, node.slice
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args:
                if node.func.attr not in ("get", "setdefault", "pop"):
                    continue
                read, key = node.func.value, node.args[0]
            else:
                continue
            word = isinstance(key, ast.Constant) and isinstance(key.value, str)
            if word and isinstance(read, ast.Attribute) and read.attr in fields:
                found.add((path, f"{read.attr}: {ast.unparse(key)}"))
    assert found == set(AGREED_KEYS)


def folders() -> list[Path]:
    """Return every package of the source in the order of the tree: a folder before what lies in it."""
    return [folder for top in TOPS for folder in sorted(p.parent for p in (REPO / top).rglob("__init__.py"))]


@pytest.mark.parametrize("folder", folders(), ids=lambda folder: folder.relative_to(REPO).as_posix())
def test_a_folder_says_in_one_line_what_it_holds(folder: Path) -> None:
    said = purpose(folder)
    assert said.endswith(".")
    assert len(said) > 20


def purpose(folder: Path) -> str:
    """Return the first line of a package's docstring."""
    written = ast.get_docstring(ast.parse((folder / "__init__.py").read_bytes())) or ""
    return written.split("\n", 1)[0]


def tree() -> str:
    """Return the tree as CONTRIBUTING.md prints it: a line for each folder, from its own docstring."""
    lines = []
    for folder in folders():
        parts = folder.relative_to(REPO).parts
        lines.append(f"{'  ' * (len(parts) - 1) + parts[-1] + '/':<16} {purpose(folder)}")
    return "\n".join(lines)


def test_the_printed_tree_is_the_tree() -> None:
    page = REPO / "CONTRIBUTING.md"
    if not page.is_file():
        pytest.skip("CONTRIBUTING.md is not beside the source")
    printed = page.read_text(encoding="utf-8").partition("```text\n")[2].partition("\n```")[0]
    assert printed == tree(), f"CONTRIBUTING.md is to print:\n{tree()}"
