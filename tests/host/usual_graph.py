"""The graph that the tests on the real server run and change."""

import json
from dataclasses import asdict

from dragnoise_pack.dragnoise_core.configuration import preset

SIDE = 64


def points(*pairs, side=SIDE):
    pairs = [{"handle": list(handle), "target": list(target)} for handle, target in pairs]
    return json.dumps({"version": 1, "width": side, "height": side, "pairs": pairs})


USUAL = points(((20, 20), (40, 26)))


def graph(text=USUAL, iterations=6, family="sd15", **changes):
    """Return the step-by-step graph on a small random model; `changes` replace inputs of nodes, as node__input."""
    nodes = {
        "model": ("DragNoiseTestingModel", {"family": family, "seed": 0}),
        "image": ("DragNoiseTestingImage", {"width": SIDE, "height": SIDE, "count": 1}),
        "encode": ("VAEEncode", {"pixels": ["image", 0], "vae": ["model", 1]}),
        "invert": (
            "DragNoiseInvert",
            {
                "model": ["model", 0],
                "positive": ["model", 2],
                "latent": ["encode", 0],
                "steps": 10,
                "strength": 0.7,
                "check": True,
            },
        ),
        "points": ("DragNoisePoints", {"points": text, "image": ["image", 0]}),
        "optimize": (
            "DragNoiseOptimize",
            {
                "model": ["model", 0],
                "positive": ["model", 2],
                "latent": ["invert", 0],
                "sigmas": ["invert", 1],
                "points": ["points", 0],
                "settings": ["settings", 0],
            },
        ),
        "settings": ("DragNoiseSettings", {"preset": "custom", **asdict(preset("paper", iterations=iterations))}),
        "sample": (
            "DragNoiseSample",
            {
                "model": ["model", 0],
                "positive": ["model", 2],
                "latent": ["invert", 0],
                "sigmas": ["invert", 1],
                "edit": ["optimize", 0],
            },
        ),
        "measure": ("DragNoiseTestingMeasure", {"latent": ["sample", 0]}),
    }
    for name, value in changes.items():
        node, _, entry = name.partition("__")
        nodes[node][1][entry] = value
    return nodes


def without_edit(nodes):
    del nodes["sample"][1]["edit"]
    return nodes


def numbers(run, node="measure"):
    return [float(value) for value in run.outputs[node]["text"][0].split(") ")[1].split()]


def failing(host, nodes):
    run = host.run(nodes)
    assert run.error is not None, "this should have been refused"
    return run.error["exception_message"]
