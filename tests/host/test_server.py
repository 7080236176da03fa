"""The whole pack on the real server, as a person uses it."""

import json
import math
import re
from pathlib import Path

import pytest
import torch
from dragnoise_pack.dragnoise_core.demo.loader import load_keypoint_regressor
from dragnoise_pack.dragnoise_core.demo.scenes.drags import drag_points, example_drags
from dragnoise_pack.dragnoise_core.drawing import to_tensor
from find_host import PACK
from PIL import Image
from usual_graph import SIDE, failing, graph, numbers, points, without_edit

INTERFACE = Path(__file__).parent / "node_interface.json"


def test_every_node_is_registered_as_agreed(host):
    found = {name: node for name, node in host.get("/object_info").items() if name.startswith("DragNoise")}
    found = {name: node for name, node in found.items() if not name.startswith("DragNoiseTesting")}
    interface = {}
    for name, node in found.items():
        assert node["category"] == "DragNoise"
        assert node["display_name"].startswith("DragNoise ") and node["description"]
        assert all(node["output_tooltips"]) and len(node["output_tooltips"]) == len(node["output"])
        kinds = {}
        for group in ("required", "optional"):
            for key, entry in node["input"].get(group, {}).items():
                kinds[key] = [group, entry[0]]
                assert entry[1]["tooltip"].endswith(".")
        interface[name] = {"inputs": kinds, "outputs": node["output"], "output_names": node["output_name"]}
    # Saved workflows hold widget values by their order, so the order counts as well.
    assert json.dumps(interface) == json.dumps(json.loads(INTERFACE.read_text()))


def test_the_texts_in_other_languages_are_served_and_the_english_ones_are_the_nodes_own(host):
    served = host.get("/i18n")
    languages = [path.name for path in (PACK / "locales").iterdir()]
    assert len(languages) == 5
    for language in languages:
        file = PACK / "locales" / language / "nodeDefs.json"
        assert served[language]["nodeDefs"].items() >= json.loads(file.read_text(encoding="utf-8")).items()
    nodes = host.get("/object_info")
    for name, texts in served["en"]["nodeDefs"].items():
        node = nodes[name]
        assert (texts["display_name"], texts["description"]) == (node["display_name"], node["description"])
        inputs = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
        tooltips = {key: entry[1]["tooltip"] for key, entry in inputs.items()}
        assert {key: text["tooltip"] for key, text in texts["inputs"].items()} == tooltips
        outputs = [(text["name"], text["tooltip"]) for text in texts.get("outputs", {}).values()]
        assert outputs == list(zip(node["output_name"], node["output_tooltips"] or (), strict=True))


@pytest.mark.parametrize("family", ["sd15", "sd21", "sdxl"])
def test_an_edit_step_by_step(host, family):
    run = host.run(graph(family=family))
    assert run.error is None
    report = run.outputs["optimize"]["text"][0]
    assert report.startswith("0 of 1 points arrived.\npoint 1: moved ")
    assert re.search(r"\d+\.\d px left$", report, re.MULTILINE)
    path = json.loads(run.outputs["optimize"]["dragnoise_path"][0])
    assert (path["width"], path["height"]) == (SIDE, SIDE)
    assert len(path["path"]) == 7 and len(path["path"][0]) == 1
    # The picker sees the path grow as well.
    assert run.paths and run.paths[0]["node"] == "optimize"
    assert json.loads(run.paths[0]["path"])["path"][0] == path["path"][1]
    # A bar that moves with the steps, of which newer hosts leave some out, and pictures although previews are off here.
    for node, last in (("optimize", 6), ("sample", 7)):
        values = [value for name, value, _ in run.progress if name == node and value]
        assert values == sorted(values) and values[-1] == last and len(values) > 1
    assert run.previews >= 3
    unedited = host.run(without_edit(graph(family=family)))
    assert unedited.outputs["measure"]["text"] != run.outputs["measure"]["text"]


def test_moving_a_point_leaves_the_inversion_in_the_cache(host):
    host.run(graph())
    run = host.run(graph(points(((20, 20), (44, 26)))))
    assert {"model", "encode", "invert"} <= set(run.cached)
    assert {"points", "optimize", "sample"} <= set(run.started)


def test_nothing_runs_again_when_nothing_changed(host):
    host.run(graph())
    assert host.run(graph()).started == []


def test_cancel_stops_within_a_step_and_the_next_prompt_runs(host):
    good = host.run(graph(iterations=8)).outputs["measure"]["text"]
    steps, asked = [], []

    def interrupt(kind, data):
        if kind == "progress" and data["node"] == "optimize":
            steps.append(data["value"])
            if data["value"] >= 20 and not asked:  # newer hosts leave out some of the steps
                asked.append(data["value"])
                host.post("/interrupt", {})

    run = host.run(graph(points(((20, 20), (63, 63))), iterations=5000), interrupt)
    assert run.interrupted and run.error["node_id"] == "optimize"
    # The step that runs when the message arrives may end; two more for messages that take a moment.
    assert max(steps) <= asked[0] + 3
    again = host.run(graph(iterations=8, invert__refinements=0, model__seed=0, sample__cfg=1.0))
    assert again.outputs["measure"]["text"] == good


def test_a_picture_of_another_size_and_shape(host):
    for width, height in ((72, 40), (61, 83)):
        scaled = graph(image__width=width, image__height=height)
        assert host.run(scaled).error is None


@pytest.mark.parametrize("size", [(61, 83), (64, 64), (130, 57)])
def test_all_in_one_returns_the_size_that_came_in(host, size):
    width, height = size
    nodes = graph(image__width=width, image__height=height)
    edit = {
        "model": ["model", 0],
        "vae": ["model", 1],
        "positive": ["model", 2],
        "image": ["image", 0],
        "points": ["points", 0],
        "mask": ["points", 1],
        "settings": ["settings", 0],
        "steps": 10,
        "strength": 0.7,
    }
    kept = {name: nodes[name] for name in ("model", "image", "points")}
    kept["settings"] = ("DragNoiseSettings", {"preset": "custom", "iterations": 7})
    kept |= {"edit": ("DragNoiseEdit", edit), "measure": ("DragNoiseTestingMeasure", {"image": ["edit", 0]})}
    run = host.run(kept)
    assert run.error is None
    assert run.outputs["measure"]["text"][0].startswith(f"(1, {height}, {width}, 3)")
    assert "px left" in run.outputs["edit"]["text"][0]
    # All phases share one bar, which never goes back.
    values = [value for node, value, _ in run.progress if node == "edit"]
    assert values == sorted(values) and values[-1] == 7 + 7 + 7


def test_a_generated_picture_needs_no_inversion(host):
    nodes = graph()
    steps = {"steps": 10, "cfg": 1.0, "sampler_name": "euler", "scheduler": "ddim_uniform", "noise_seed": 3}
    conditions = {"model": ["model", 0], "positive": ["model", 2], "negative": ["model", 3]}
    nodes["empty"] = ("EmptyLatentImage", {"width": SIDE, "height": SIDE, "batch_size": 1})
    nodes["invert"] = (
        "KSamplerAdvanced",
        {
            **steps,
            **conditions,
            "add_noise": "enable",
            "latent_image": ["empty", 0],
            "start_at_step": 0,
            "end_at_step": 3,
            "return_with_leftover_noise": "enable",
        },
    )
    nodes["scheduler"] = (
        "BasicScheduler",
        {"model": ["model", 0], "scheduler": "ddim_uniform", "steps": 10, "denoise": 1.0},
    )
    nodes["split"] = ("SplitSigmas", {"sigmas": ["scheduler", 0], "step": 3})
    nodes["optimize"][1]["sigmas"] = nodes["sample"][1]["sigmas"] = ["split", 1]
    run = host.run(nodes)
    assert run.error is None
    # The same edit on the MODEL, finished by the host's own sampler.
    nodes["apply"] = ("DragNoiseApply", {"model": ["model", 0], "edit": ["optimize", 0]})
    finish = {"add_noise": "disable", "latent_image": ["invert", 0], "start_at_step": 3, "end_at_step": 10}
    nodes["sample"] = (
        "KSamplerAdvanced",
        {**steps, **conditions, "model": ["apply", 0], **finish, "return_with_leftover_noise": "disable"},
    )
    finished = host.run(nodes)
    assert finished.error is None
    assert numbers(finished) == pytest.approx(numbers(run), rel=1e-5)


def test_frames_go_from_the_unedited_picture_to_the_edit(host):
    nodes = graph()
    inputs = {**nodes["sample"][1], "vae": ["model", 1], "count": 3}
    nodes["frames"] = ("DragNoiseFrames", inputs)
    nodes["measure"] = ("DragNoiseTestingMeasure", {"image": ["frames", 0]})
    for name, index in (("first", 0), ("last", 2)):
        nodes[name] = ("ImageFromBatch", {"image": ["frames", 0], "batch_index": index, "length": 1})
        nodes[f"measure_{name}"] = ("DragNoiseTestingMeasure", {"image": [name, 0]})
    nodes["unedited"] = ("DragNoiseSample", {k: v for k, v in nodes["sample"][1].items() if k != "edit"})
    for name in ("sample", "unedited"):
        nodes[f"{name}_decoded"] = ("VAEDecode", {"samples": [name, 0], "vae": ["model", 1]})
        nodes[f"measure_{name}"] = ("DragNoiseTestingMeasure", {"image": [f"{name}_decoded", 0]})
    run = host.run(nodes)
    assert run.error is None
    values = {name: numbers(run, f"measure_{name}") for name in ("first", "last", "sample", "unedited")}
    assert values["first"] == pytest.approx(values["unedited"], rel=1e-5)
    assert values["last"] == pytest.approx(values["sample"], rel=1e-5)
    assert values["last"] != pytest.approx(values["first"], rel=1e-4)
    assert run.outputs["measure"]["text"][0].startswith(f"(3, {SIDE}, {SIDE}, 3)")


def test_an_inpainting_mask_in_the_latent_is_left_behind(host):
    plain = host.run(graph())
    nodes = graph()
    nodes["solid"] = ("SolidMask", {"value": 0.3, "width": 30, "height": 30})
    nodes["masked"] = ("SetLatentNoiseMask", {"samples": ["encode", 0], "mask": ["solid", 0]})
    nodes["invert"][1]["latent"] = ["masked", 0]
    run = host.run(nodes)
    assert run.outputs["measure"]["text"] == plain.outputs["measure"]["text"]
    assert run.outputs["measure"]["keys"] == ["samples"]


def test_the_demo_model_turns_a_head(host):
    drag = example_drags()["face"]
    (handle, target) = drag_points(drag)[0]
    nodes = {
        "demo": ("DragNoiseDemoModel", {"scene": "face", "seed": 0}),
        "points": ("DragNoisePoints", {"points": points((handle, target), side=256), "image": ["demo", 3]}),
        "edit": (
            "DragNoiseEdit",
            {
                "model": ["demo", 0],
                "vae": ["demo", 1],
                "positive": ["demo", 2],
                "image": ["demo", 3],
                "points": ["points", 0],
                "steps": 50,
                "strength": 0.7,
            },
        ),
        "save": ("SaveImage", {"images": ["edit", 0], "filename_prefix": "turned"}),
    }
    run = host.run(nodes)
    assert run.error is None
    # For a picker whose picture no node upstream shows.
    shown = run.outputs["points"]["dragnoise_picture"][0]
    assert Image.open(host.base / shown["type"] / shown["subfolder"] / shown["filename"]).size == (256, 256)
    picture = to_tensor(Image.open(host.base / "output" / run.outputs["save"]["images"][0]["filename"]))
    with torch.inference_mode():
        nose = load_keypoint_regressor().locate(picture, "face")["nose"][0].tolist()
    assert math.dist(nose, target) < 0.6 * math.dist(handle, target)


def test_targets_reached_at_once_change_nothing(host):
    nodes = graph(points(((20, 20), (20, 20))))
    run = host.run(nodes)
    report = run.outputs["optimize"]["text"][0]
    assert report.startswith("Nothing to do: every point is at its target already")
    assert numbers(run) == pytest.approx(numbers(host.run(without_edit(nodes))), rel=1e-6)


def test_block_replacement(host):
    nodes = without_edit(graph())
    del nodes["optimize"], nodes["points"]
    found = {host.run(nodes).outputs["measure"]["text"][0]}
    nodes["sample"][1]["model"] = ["replace", 0]
    for block in ("middle", "input", "output"):
        replaced = {"model": ["model", 0], "block": block, "index": 0, "start": 0.3, "stop": 1.0}
        nodes["replace"] = ("DragNoiseBlockReplace", replaced)
        found.add(host.run(nodes).outputs["measure"]["text"][0])
    assert len(found) == 4
    nodes["replace"][1]["index"] = 11
    assert "choose an index from 0 to" in failing(host, nodes)
