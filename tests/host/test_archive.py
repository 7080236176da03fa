"""The registry's archive, installed into the host as the Manager does: the start-here workflow runs from it."""

import sys

import pytest
from find_host import PACK
from real_host import RealHost
from workflow_files import EXAMPLES, read_workflow, real_nodes, to_prompt

sys.path.append(str(PACK / ".ci"))
from release import build_archive  # noqa: E402

NAME = "dragnoise"


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    if not (PACK / ".git").exists():
        pytest.skip("the archive is made from a git checkout")
    base = tmp_path_factory.mktemp("installed")
    build_archive(PACK, base / "custom_nodes" / NAME)
    with RealHost(base, NAME) as running:
        yield running


def test_the_start_here_workflow_runs_from_the_archive(host):
    pack = host.base / "custom_nodes" / NAME
    assert not pack.is_symlink() and not (pack / "tests").exists()
    (start,) = [path for path in EXAMPLES if path.stem == "01_start_here"]
    workflow = read_workflow(pack / "example_workflows" / start.name)
    run = host.run(to_prompt(workflow, host.get("/object_info")))
    assert run.error is None
    shown = [node["id"] for node in real_nodes(workflow) if node["type"] in ("PreviewImage", "SaveImage")]
    assert shown and all(run.outputs[str(number)]["images"] for number in shown)


def test_the_browser_gets_the_archives_scripts(host):
    assert f"/extensions/{NAME}/dragnoise.js" in host.get("/extensions")


def test_the_template_browser_shows_the_archives_workflows(host):
    names = {path.stem for path in EXAMPLES}
    assert set(host.get("/workflow_templates")[NAME]) == names
