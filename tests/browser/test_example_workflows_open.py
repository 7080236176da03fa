"""The example workflows in the real page: they open without a word, and send what they hold."""

import pytest
from host_page import get
from PIL import Image
from workflow_files import EXAMPLES, fits, input_definitions, read_workflow, to_prompt

CHOSEN = {"ckpt_name": "checkpoints", "lora_name": "loras"}
COMPLAINTS = """() => [...document.querySelectorAll("[role=dialog], .p-dialog, .p-toast-message")]
    .map((element) => element.innerText).filter((text) => text.trim())"""


@pytest.fixture
def definitions(host):
    """What the server knows of its nodes, with the files in place that the examples name: names are all it takes."""
    Image.new("RGB", (64, 64)).save(host.base / "input" / "example.png")
    (host.base / "input" / "photos").mkdir(exist_ok=True)
    definitions = get(host.url, "/object_info")
    for workflow in (workflow for path in EXAMPLES if fits(workflow := read_workflow(path), definitions)):
        for _, values in to_prompt(workflow, definitions).values():
            for name in values.keys() & CHOSEN.keys():
                folder = host.base / "models" / CHOSEN[name]
                folder.mkdir(parents=True, exist_ok=True)
                (folder / values[name]).touch()
    return get(host.url, "/object_info")


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_it_opens_and_sends_what_it_holds(host, definitions, path):
    workflow = read_workflow(path)
    if not fits(workflow, definitions):
        pytest.skip("for hosts with another Train LoRA")
    host.load(workflow)
    host.page.wait_for_function("(count) => app.graph.nodes.length === count", arg=len(workflow["nodes"]))
    host.frame()
    assert host.js(COMPLAINTS) == []
    sent = host.js("async () => (await app.graphToPrompt()).output")
    expected = to_prompt(workflow, definitions)
    assert {number: node["class_type"] for number, node in sent.items()} == {
        n: kind for n, (kind, _) in expected.items()
    }
    for number, (kind, values) in expected.items():
        own = input_definitions(definitions[kind])
        assert {name: value for name, value in sent[number]["inputs"].items() if name in own} == values
