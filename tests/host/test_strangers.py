"""What strangers' texts and files, and every node that the host ships, do to a running server: it goes on answering."""

import io
import json
import random
import re

import pytest
from PIL import Image
from real_host import RealHost, Refused

SIDE = 128
GOOD = json.dumps({"version": 1, "width": SIDE, "height": SIDE, "pairs": [{"handle": [40, 40], "target": [80, 52]}]})
MODEL, PROMPT, EDIT = ["model", 0], ["model", 2], ["optimize", 0]
# What the graph can give to another node's inputs, by their kind.
GIVEN = {
    "MODEL": MODEL, "VAE": ["model", 1], "CONDITIONING": PROMPT, "IMAGE": ["image", 0], "LATENT": ["encode", 0],
    "MASK": ["solid", 0], "LATENT_OPERATION": ["operation", 0],
}  # fmt: skip
# Nodes that train or compile, for minutes on a CPU.
SLOW = ("TrainLoraNode", "TorchCompileModel")
# What a refusal names instead of the node: the one whose methods it inherits.
NAMED = {"SkipLayerGuidanceSD3": "SkipLayerGuidanceDiT", "ModelSamplingAuraFlow": "ModelSamplingSD3"}
PROMPTS = r"Conditioning \((Set Area|Set Mask|Concat)\)"  # what the prompt has become, whichever node did it


@pytest.fixture(scope="module")
def host(tmp_path_factory):
    with RealHost(tmp_path_factory.mktemp("host")) as running:
        yield running


def graph(model=MODEL, positive=PROMPT, **more):
    """A drag, step by step, under `model` and `positive`."""
    used = {"model": model, "positive": positive}
    points = {"points": ["points", 0], "settings": ["settings", 0]}
    return {
        "model": ("DragNoiseTestingModel", {"family": "sd15", "seed": 0}),
        "image": ("DragNoiseTestingImage", {"width": SIDE, "height": SIDE, "count": 1}),
        "solid": ("SolidMask", {"value": 1.0, "width": SIDE, "height": SIDE}),
        "operation": ("LatentOperationSharpen", {"sharpen_radius": 3, "sigma": 1.0, "alpha": 0.1}),
        "encode": ("VAEEncode", {"pixels": ["image", 0], "vae": ["model", 1]}),
        "invert": ("DragNoiseInvert", {**used, "latent": ["encode", 0], "steps": 4, "strength": 0.7}),
        "points": ("DragNoisePoints", {"points": GOOD, "image": ["image", 0]}),
        "settings": ("DragNoiseSettings", {"preset": "custom", "iterations": 2}),
        "optimize": ("DragNoiseOptimize", {**used, **points, "latent": ["invert", 0], "sigmas": ["invert", 1]}),
        "sample": ("DragNoiseSample", {**used, "latent": ["invert", 0], "sigmas": ["invert", 1], "edit": EDIT}),
        "measure": ("DragNoiseTestingMeasure", {"latent": ["sample", 0]}),
        **more,
    }


def said(host, nodes):
    """Return the words with which a prompt is refused, before it runs or while it does; "" where it is taken."""
    try:
        run = host.run(nodes)
    except Refused as refused:
        return str(refused)
    if run.error is None:
        return ""
    assert run.error["exception_type"].endswith("DragNoiseError"), run.error
    return run.error["exception_message"]


def strange_texts():
    draw = random.Random(0)
    yield from ("\ud800", "\x1b[31m", "\x00", "\u202e", "\ufeff" * 3, "[" * 9000, "9" * 9000, "x" * 60000, "{}", "NaN")
    yield from (
        json.dumps([["\ud800", "\x1b[2J"], [1, 2]]),
        json.dumps({"\x1b" * 9000: 1}),
        json.dumps([[1e308] * 2] * 2),
    )
    for _ in range(25):
        place, end = draw.randrange(len(GOOD)), draw.randrange(len(GOOD))
        yield GOOD[:place] + draw.choice(["", "\ud800", "\x07", "-", "1e999", '"', "]"]) + GOOD[max(place, end) + 1 :]


def strange_files():
    draw, whole = random.Random(0), io.BytesIO()
    Image.new("RGBA", (16, 16), (1, 2, 3, 4)).save(whole, "PNG")
    yield from (b"", b"\x89PNG\r\n\x1a\n", whole.getvalue()[:40], b"\xff\xd8\xff" * 99, b"\x80\x04cos\nsystem\n.")
    for _ in range(10):
        yield bytes(draw.randrange(256) for _ in range(draw.randrange(300)))


def test_strangers_texts_and_files_leave_the_server_answering(host):
    for text in strange_texts():
        for value in (text, ["text", 0]):
            nodes = {
                "text": ("PrimitiveString", {"value": text}),
                "points": ("DragNoisePoints", {"points": value, "width": SIDE, "height": SIDE}),
                "measure": ("DragNoiseTestingMeasure", {"image": ["points", 2]}),
            }
            assert len(said(host, nodes)) < 9000
    folder = host.base / "input"
    for number, content in enumerate(strange_files()):
        (folder / f"{number}.png").write_bytes(content)
        (folder / f"{number}.safetensors").write_bytes(content)
        mask = {"points": GOOD, "mask_image": f"{number}.png [input]"}
        nodes = {"points": ("DragNoisePoints", mask), "measure": ("DragNoiseTestingMeasure", {"mask": ["points", 1]})}
        assert f"{number}.png" in said(host, nodes)
        nodes = graph(optimize=("DragNoiseLoadEdit", {"file": f"{number}.safetensors [input]"}))
        assert f"{number}.safetensors" in said(host, nodes)
    assert host.run(graph()).error is None


def filled(node):
    """Return inputs for a node of the host, or None where the graph has nothing to give to one of them."""
    inputs = {}
    for group in ("required", "optional"):
        for name, (kind, *options) in node["input"].get(group, {}).items():
            options = options[0] if options else {}
            choices = kind if isinstance(kind, list) else options.get("options") if kind == "COMBO" else None
            if choices:
                inputs[name] = options.get("default", choices[0])
            elif not isinstance(kind, list) and kind in GIVEN:
                inputs[name] = GIVEN[kind]
            elif "default" in options:
                inputs[name] = options["default"]
            elif group == "required":
                return None
    return inputs


@pytest.mark.parametrize("kind", ["MODEL", "CONDITIONING"])
def test_every_node_that_the_host_puts_on_a_model_or_a_prompt_takes_part_or_is_refused_before_the_inversion(host, kind):
    tried = []
    for name, node in host.get("/object_info").items():
        kinds = [entry[0] for group in ("required", "optional") for entry in node["input"].get(group, {}).values()]
        # Merges of whole models by their blocks are of no other kind than simple ones; lengths are videos'.
        passed_over = name in SLOW or node.get("api_node") or len(kinds) > 30 or "length" in str(node["input"])
        if name.startswith("DragNoise") or kind not in node["output"] or kind not in kinds or passed_over:
            continue
        inputs = filled(node)
        if inputs is None:
            continue
        guest = ["guest", node["output"].index(kind)]
        used = {"model": guest} if kind == "MODEL" else {"positive": guest}
        error = host.run(graph(**used, guest=(name, inputs))).error
        tried.append(name)
        if error is None or error["node_id"] == "guest":  # the host's own refusal
            continue
        assert error["node_id"] == "invert" and error["exception_type"].endswith("DragNoiseError"), (name, error)
        said = error["exception_message"]
        assert "; " in said
        assert re.search(NAMED.get(name, name.replace(" ", "")) if kind == "MODEL" else PROMPTS, said), (name, said)
    assert len(tried) > (25 if kind == "MODEL" else 15)
    assert host.run(graph()).error is None
