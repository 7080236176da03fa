"""Every example workflow: well formed for the browser, and run on the real server."""

import re

import numpy
import pytest
from PIL import Image
from real_host import RealHost
from tiny_checkpoint import write_checkpoint, write_lora
from workflow_files import (
    EXAMPLES,
    NOTES,
    fits,
    input_definitions,
    read_workflow,
    real_nodes,
    to_prompt,
    widget_values,
)

CHECKPOINT = "v1-5-pruned-emaonly-fp16.safetensors"
LORA = "your_lora.safetensors"
# A random checkpoint needs its files, and says nothing more at full size.
SMALL = {"megapixels": 0.01, "steps": 4, "iterations": 4}
TRAINING_STEPS = 4
TITLE_HEIGHT = 30
ARRIVED = 6  # pixels of a 256-pixel picture; the drags are 15 to 45 long

each_workflow = pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    base = tmp_path_factory.mktemp("workflows")
    write_checkpoint(base / "models" / "checkpoints" / CHECKPOINT)
    write_lora(base / "models" / "loras" / LORA)
    (base / "input").mkdir()
    picture = Image.linear_gradient("L").convert("RGB")
    picture.save(base / "input" / "example.png")
    write_folder(base / "input" / "photos", picture)
    with RealHost(base) as running:
        yield running
    (base / "models" / "checkpoints" / CHECKPOINT).unlink()


def write_folder(folder, picture):
    folder.mkdir()
    for name, size, points in (
        ("a", (256, 192), "[[[60, 60], [90, 80]]]"),
        ("b", (128, 256), "[[[50, 90], [70, 60]]]"),
    ):
        picture.resize(size).save(folder / f"{name}.png")
        (folder / f"{name}.json").write_text(points)


@pytest.fixture(scope="module")
def definitions(host):
    return host.get("/object_info")


@pytest.fixture
def workflow(path, definitions):
    workflow = read_workflow(path)
    if not fits(workflow, definitions):
        pytest.skip("for hosts with another Train LoRA")
    return workflow


def test_one_workflow_fits_this_hosts_own_training(definitions):
    training = [path for path in EXAMPLES if "TrainLoraNode" in path.read_text(encoding="utf-8")]
    assert len(training) == 2 and sum(fits(read_workflow(path), definitions) for path in training) == 1


@each_workflow
def test_nodes_are_the_hosts_and_links_fit(workflow, definitions):
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}
    seen = set()
    for node in real_nodes(workflow):
        definition = definitions[node["type"]]
        # The browser adds buttons and displays of its own, which take no link.
        own = {entry["name"] for entry in node["inputs"] if "widget" not in entry or entry["link"] is not None}
        inputs, ours = set(input_definitions(definition)), node["type"].startswith("DragNoise")
        assert own <= inputs and (not ours or inputs <= {entry["name"] for entry in node["inputs"]})
        outputs = [(entry["name"], entry["type"]) for entry in node["outputs"]]
        defined = list(zip(definition["output_name"], definition["output"], strict=True))
        # A newer host's own nodes may have gained inputs and outputs.
        assert outputs == (defined if ours else defined[: len(outputs)])
        for slot, entry in enumerate(node["inputs"]):
            if entry["link"] is not None:
                _, source, output, target, index, kind = links[entry["link"]]
                assert (target, index) == (node["id"], slot)
                assert nodes[source]["outputs"][output]["type"] == kind
                assert entry["link"] in nodes[source]["outputs"][output]["links"]
                assert entry["type"] in (kind, "*")
                seen.add(entry["link"])
            elif "widget" not in entry:
                assert entry["name"] in definition["input"].get("optional", {}), f"{node['type']}: {entry['name']}"
    assert seen == set(links)


@each_workflow
def test_values_are_legal(workflow, definitions):
    for node in real_nodes(workflow):
        values = widget_values(node, definitions[node["type"]])
        for name, (kind, options) in input_definitions(definitions[node["type"]]).items():
            choices = kind if isinstance(kind, list) else options.get("options")
            if name in values and choices is not None:
                assert values[name] in choices
            elif kind in ("INT", "FLOAT"):
                assert options.get("min", values[name]) <= values[name] <= options.get("max", values[name])


@each_workflow
def test_the_graph_reads_from_left_to_right(path):
    workflow = read_workflow(path)
    nodes = {node["id"]: node for node in workflow["nodes"]}
    boxes = {id_: (x, y - TITLE_HEIGHT, x + w, y + h) for id_, ((x, y), (w, h)) in
             ((id_, (node["pos"], node["size"])) for id_, node in nodes.items())}  # fmt: skip
    for first in boxes:
        for second in boxes:
            left, top, right, bottom = boxes[first]
            x, y, x_end, y_end = boxes[second]
            assert first >= second or right <= x or x_end <= left or bottom <= y or y_end <= top, (first, second)
    for _, source, _, target, *_ in workflow["links"]:
        assert nodes[source]["pos"][0] <= nodes[target]["pos"][0]
    assert all(group["title"] for group in workflow["groups"])
    notes = [node for node in nodes.values() if node["type"] in NOTES]
    assert len(notes) == 1 and "**" in notes[0]["widgets_values"][0]


@each_workflow
def test_it_runs(path, workflow, host, definitions):
    types = {node["type"] for node in real_nodes(workflow)}
    demo = "DragNoiseDemoModel" in types
    prompt = to_prompt(workflow, definitions, **({} if demo else SMALL))
    for kind, values in prompt.values():
        if kind == "TrainLoraNode":
            values["steps"] = TRAINING_STEPS
    run = host.run(prompt)
    assert run.error is None, run.error
    shown = {node["title"]: run.outputs[str(node["id"])]["images"] for node in real_nodes(workflow)
             if node["type"] in ("PreviewImage", "SaveImage")}  # fmt: skip
    assert all(shown.values())
    for node in real_nodes(workflow):
        if node["type"] in ("DragNoiseEdit", "DragNoiseOptimize"):
            report = run.outputs[str(node["id"])]["text"][0]
            left = [float(number) for number in re.findall(r"(\d+\.\d) px left$", report, re.MULTILINE)]
            assert left and (not demo or max(left) < ARRIVED), report
    if path.stem == "10_whole_folder":
        assert [(file["subfolder"], file["filename"]) for file in shown["After"]] == [
            ("photos", "a_00001_.png"), ("photos", "b_00001_.png")
        ]  # fmt: skip
        assert [picture(host, file).shape[:2] for file in shown["The drags"]] == [
            picture(host, file).shape[:2] for file in shown["After"]
        ]
    if path.stem == "08_middle_block_study":
        pictures = {title: picture(host, files[0]) for title, files in shown.items()}
        difference = {title: float(numpy.abs(p - pictures["Original"]).mean()) for title, p in pictures.items()}
        assert difference.pop("Original") == 0
        assert min(difference, key=difference.get) == "Block: middle"


def picture(host, file) -> numpy.ndarray:
    folder = host.base / file["type"] / file["subfolder"]
    return numpy.asarray(Image.open(folder / file["filename"]).convert("RGB"), dtype=float)
