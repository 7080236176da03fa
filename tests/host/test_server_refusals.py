"""What the real server refuses, with the sentence that says what to do."""

import re

import pytest
from real_host import Refused
from usual_graph import SIDE, failing, graph, points

BAD_POINTS = {
    "": "no point pair",
    "[]": "no point pair",
    "{": "not JSON",
    points(((20, 20), (40, 26)), ((5, 5), (200, 5))): "outside the picture of 64 x 64",
    points(((20, 20), (40, 26))).replace("40", "NaN"): "target of pair 1",
    '{"version":1,"width":64,"height":64,"pairs":[{"handle":[1,1],"target":null}]}': "pair 1 has no target",
    '{"version":9,"width":64,"height":64,"pairs":[]}': "version 9",
    points(*[((1, 1), (2, 2))] * 65): "65 point pairs; at most 64",
    "[" * 70000: "over 64 KiB",
}


@pytest.mark.parametrize("text", BAD_POINTS, ids=lambda text: BAD_POINTS[text][:20])
def test_malformed_points_are_refused_before_the_queue_runs(host, text):
    with pytest.raises(Refused, match=BAD_POINTS[text]):
        host.run(graph(text))


def test_track_strings_outside_a_linked_picture_are_refused_by_the_node(host):
    run = host.run(graph("[[[20, 20], [30, 30], [400, 26]]]"))
    assert "target of pair 1 is (400, 26), outside the picture of 64 x 64" in run.error["exception_message"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"settings__stop_distance": 0.1}, "choose a value from 0.5"),
        ({"settings__preset": "fast"}, "preset is 'fast'"),
        ({"settings__preset": "default"}, "set preset to 'custom' to use"),
    ],
)
def test_settings_are_refused_before_anything_runs(host, change, reason):
    with pytest.raises(Refused) as refused:
        host.run(graph(**change))
    assert reason in str(refused.value)


KARRAS = ("KarrasScheduler", {"steps": 5, "sigma_max": 700.0, "sigma_min": 0.1, "rho": 7.0})
NO_LEVELS = ("BasicScheduler", {"model": ["model", 0], "scheduler": "normal", "steps": 9, "denoise": 0.0})
OTHER_LEVELS = ("BasicScheduler", {"model": ["model", 0], "scheduler": "karras", "steps": 9, "denoise": 1.0})
SMALL = {
    "small": ("DragNoiseTestingImage", {"width": SIDE, "height": SIDE, "count": 1}),
    "encoded": ("VAEEncode", {"pixels": ["small", 0], "vae": ["model", 1]}),
}
# What is refused: nodes beside the usual graph's, its inputs that are replaced, and what the sentence says.
REFUSALS = {
    "empty mask": (
        {"solid": ("SolidMask", {"value": 0.0, "width": 30, "height": 30})},
        {"optimize__mask": ["solid", 0]},
        "the mask is empty",
    ),
    "two pictures": ({}, {"image__count": 2}, "holds 2 pictures"),
    "sixteen channels": (
        {"empty": ("EmptySD3LatentImage", {"width": SIDE, "height": SIDE, "batch_size": 1})},
        {"invert__latent": ["empty", 0]},
        r"\[1, 4, height, width\]",
    ),
    "foreign levels": ({"levels": KARRAS}, {"optimize__sigmas": ["levels", 0]}, "the sigmas go from 700.000"),
    "no levels to drag at": ({"levels": NO_LEVELS}, {"optimize__sigmas": ["levels", 0]}, "at least two noise levels"),
    "no levels to sample": ({"levels": NO_LEVELS}, {"sample__sigmas": ["levels", 0]}, "at least two noise levels"),
    "other levels": (
        {"levels": OTHER_LEVELS},
        {"sample__sigmas": ["levels", 0]},
        "sample with the schedule that the edit was made with",
    ),
    "an edit twice": (
        {"apply": ("DragNoiseApply", {"model": ["model", 0], "edit": ["optimize", 0]})},
        {"sample__model": ["apply", 0]},
        "carries an edit already",
    ),
    "another size": (SMALL, {"image__width": 128, "sample__latent": ["encoded", 0]}, r"64 x 2 x 4.*64 x 2 x 2"),
}


@pytest.mark.parametrize(("added", "changes", "reason"), REFUSALS.values(), ids=REFUSALS)
def test_refusals_name_the_reason(host, added, changes, reason):
    assert re.search(reason, failing(host, graph(**changes) | added))


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ("transformer", "no picture U-Net"),
        ("continuous", "continuous schedule"),
        ("lcm", "50 noise levels"),
        ("scaled fp8", "multiplies in fp8"),
    ],
)
def test_models_that_cannot_be_dragged_are_refused_by_name(host, how, message):
    nodes = graph(model__seed=7)
    nodes["refused"] = ("DragNoiseTestingRefused", {"model": ["model", 0], "how": how})
    for name in ("invert", "optimize", "sample"):
        nodes[name][1]["model"] = ["refused", 0]
    assert message in failing(host, nodes)
