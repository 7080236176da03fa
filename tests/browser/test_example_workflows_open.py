"""The example workflows in the real page: they open without a word, and send what they hold."""

import pytest
from find_host import find_host
from host_page import HostPage, get, newest_frontend, running_host
from PIL import Image
from workflow_files import EXAMPLES, input_definitions, read_workflow, to_prompt

HOST = find_host()
if HOST is None:
    pytest.skip("BROWSER TESTS ON COMFYUI SKIPPED: no ComfyUI found; set COMFYUI_PATH", allow_module_level=True)

CHOSEN = {"ckpt_name": "checkpoints", "lora_name": "loras"}
COMPLAINTS = """() => [...document.querySelectorAll("[role=dialog], .p-dialog, .p-toast-message")]
    .map((element) => element.innerText).filter((text) => text.trim())"""


@pytest.fixture(scope="module", params=["oldest-canvas", "newest-vue"])
def page(request, browser, tmp_path_factory):
    is_newest = request.param == "newest-vue"
    try:
        frontend = newest_frontend() if is_newest else None
    except OSError as error:
        pytest.skip(f"NEWEST FRONTEND SKIPPED: {error}")
    base = tmp_path_factory.mktemp("base") / "comfy"
    with running_host(HOST, base, frontend) as url:
        Image.new("RGB", (64, 64)).save(base / "input" / "example.png")
        # The names are all that opening needs.
        for path in EXAMPLES:
            for _, values in to_prompt(read_workflow(path), get(url, "/object_info")).values():
                for name, folder in CHOSEN.items():
                    if name in values:
                        (base / "models" / folder).mkdir(parents=True, exist_ok=True)
                        (base / "models" / folder / values[name]).touch()
        context = browser.new_context(viewport={"width": 1400, "height": 900})
        yield HostPage(context.new_page(), url, is_newest, is_vue=is_newest)
        context.close()


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_opens_and_sends_what_it_holds(page, path):
    page.clear()
    workflow, definitions = read_workflow(path), get(page.url, "/object_info")
    page.load(workflow)
    page.page.wait_for_timeout(500)
    assert page.js(COMPLAINTS) == []
    assert page.errors == []
    sent = page.js("async () => (await app.graphToPrompt()).output")
    expected = to_prompt(workflow, definitions)
    assert {number: node["class_type"] for number, node in sent.items()} == {
        n: kind for n, (kind, _) in expected.items()
    }
    for number, (kind, values) in expected.items():
        own = input_definitions(definitions[kind])
        assert {name: value for name, value in sent[number]["inputs"].items() if name in own} == values
