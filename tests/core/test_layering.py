"""Who may import whom, and that importing costs nothing."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "dragnoise_core"
# Each folder, and the others that it may import beside the core's own modules.
LAYERS = {
    "demo": (),
    "standalone": ("demo",),
    "bench": ("standalone", "demo"),
    "commands": ("bench", "standalone", "demo"),
}


def relative_imports(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.level, node.module or "", [alias.name for alias in node.names]


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_the_core_knows_no_host_and_only_its_ends_know_diffusers(path):
    top_levels = {name.split(".")[0] for name in imported_modules(path)}
    assert not top_levels & {"comfy", "comfy_api", "comfy_extras", "folder_paths", "nodes", "execution", "server"}
    if path.relative_to(CORE).parts[0] not in LAYERS:
        assert not top_levels & {"diffusers", "transformers", "tqdm", "huggingface_hub"}


@pytest.mark.parametrize("path", sorted(CORE.rglob("*.py")), ids=lambda path: str(path.relative_to(CORE)))
def test_imports_go_one_way(path):
    allowed = LAYERS.get(layer_of(path), ())
    for level, module, _ in relative_imports(path):
        package = path.relative_to(CORE).parts[:-1]
        target = (*package[: len(package) - level + 1], *module.split("."))[0]
        assert target not in LAYERS or target == layer_of(path) or target in allowed, f"{path.name} imports {target}"


def test_no_modules_import_each_other_in_a_circle():
    modules = {path.relative_to(CORE).with_suffix("").parts: path for path in CORE.rglob("*.py")}
    graph = {}
    for name, path in modules.items():
        package = name[:-1]
        targets = set()
        for level, module, names in relative_imports(path):
            base = (*package[: len(package) - level + 1], *filter(None, module.split(".")))
            packages = {(*parts[:-1],) for parts in modules}
            assert base in modules or base in packages, f"{path.name} imports {module}, which is not there"
            # `from .folder import module` as well as `from .module import name`.
            targets |= {target for target in (base, *((*base, one) for one in names)) if target in modules}
        graph[name] = targets
    list(TopologicalSorter(graph).static_order())  # raises CycleError


def test_every_module_imports():
    code = (
        "import importlib, pkgutil, dragnoise_core; "
        "[importlib.import_module(m.name) for m in pkgutil.walk_packages(dragnoise_core.__path__, 'dragnoise_core.')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)


def layer_of(path):
    first, *rest = path.relative_to(CORE).parts
    return first if rest else "core"


@pytest.mark.parametrize("path", sorted((ROOT / "nodes").glob("*.py")), ids=lambda path: path.stem)
def test_node_files_leave_the_host_to_their_host_folder(path):
    top_levels = {name.split(".")[0] for name in imported_modules(path)}
    assert not top_levels & {"comfy", "comfy_extras", "node_helpers", "latent_preview", "nodes", "execution", "server"}
    if path.stem != "__init__":
        for level, module, *_ in relative_imports(path):
            assert (level, module.split(".")[0]) in ((1, "host"), (2, "dragnoise_core")), f"imports {module}"


def test_the_pack_imports_without_its_host():
    code = (
        "import importlib.util, sys; "
        f"spec = importlib.util.spec_from_file_location('pack', {str(ROOT / '__init__.py')!r}, "
        f"submodule_search_locations=[{str(ROOT)!r}]); "
        "pack = importlib.util.module_from_spec(spec); sys.modules['pack'] = pack; spec.loader.exec_module(pack); "
        "assert callable(pack.comfy_entrypoint) and pack.WEB_DIRECTORY == './js'; "
        "assert not {'torch', 'comfy', 'diffusers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")
