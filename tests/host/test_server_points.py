"""DragNoise Points and Overlay on the real server: points, masks and what is drawn over pictures."""

import json

import pytest
from PIL import Image
from real_host import Refused
from usual_graph import SIDE, USUAL, graph, points


def test_the_pickers_inputs_stay_strings_with_a_widget_of_their_own(host):
    node = host.get("/object_info/DragNoisePoints")["DragNoisePoints"]["input"]
    assert node["required"]["points"][:1] == ["STRING"]
    assert node["required"]["points"][1]["widgetType"] == "DRAGNOISE_POINTS"
    assert node["optional"]["mask_image"][1]["widgetType"] == "DRAGNOISE_MASK"


def test_points_follow_the_drag_before(host):
    nodes = graph()
    text = points(((20, 20), (24, 22)), ((5, 6), (7, 8)))
    pictures = {"same": (SIDE, SIDE), "padded": (SIDE - 3, SIDE), "resized": (2 * SIDE, 2 * SIDE)}
    for name, (width, height) in pictures.items():
        nodes[f"{name}_image"] = ("DragNoiseTestingImage", {"width": width, "height": height, "count": 1})
        linked = {"image": [f"{name}_image", 0], "follow": ["optimize", 0]}
        nodes[name] = ("DragNoisePoints", {"points": text, **linked})
        nodes[f"{name}_shown"] = ("DragNoiseTestingMeasure", {"image": [name, 2]})
    run = host.run(nodes)
    assert run.error is None
    *_, ((x, y),) = json.loads(run.outputs["optimize"]["dragnoise_path"][0])["path"]
    for name, (width, height) in pictures.items():
        sent, moved = run.outputs[name]["dragnoise_points"]
        assert sent == text
        first, second = json.loads(moved)["pairs"]
        across, down = width / SIDE, height / SIDE
        factor = across if name == "resized" else 1
        assert first["handle"] == pytest.approx([x * factor, y * factor], abs=0.06)
        kept = [target - handle for handle, target in zip(first["handle"], first["target"], strict=True)]
        assert kept == pytest.approx([4 * across, 2 * down], abs=0.11), "the target moves along"
        assert second["handle"] == pytest.approx([5 * across, 6 * down]), "it has no match there"


def test_overlay_and_blank_stage(host):
    nodes = {
        "points": ("DragNoisePoints", {"points": USUAL, "width": 100, "height": 50}),
        "image": ("DragNoiseTestingImage", {"width": SIDE, "height": SIDE, "count": 2}),
        "overlay": (
            "DragNoiseOverlay",
            {"image": ["image", 0], "points": ["points", 0], "mask": ["points", 1]},
        ),
        "stage": ("DragNoiseTestingMeasure", {"image": ["points", 2], "mask": ["points", 1]}),
        "drawn": ("DragNoiseTestingMeasure", {"image": ["overlay", 0]}),
    }
    run = host.run(nodes)
    assert run.error is None
    picture, mask = run.outputs["stage"]["text"]
    assert picture.startswith("(1, 50, 100, 3)") and mask == "(1, 50, 100) 1.000000000 0.000000000"
    assert run.outputs["drawn"]["text"][0].startswith("(2, 64, 64, 3)")


def test_the_painted_mask_comes_from_the_input_folder(host):
    folder = host.base / "input"
    painted = Image.new("RGBA", (64, 32), (255, 255, 255, 255))
    painted.paste((255, 255, 255, 0), (0, 0, 16, 32))
    painted.save(folder / "mask.png")
    nodes = {
        "points": ("DragNoisePoints", {"points": USUAL, "mask_image": "mask.png [input]"}),
        "measure": ("DragNoiseTestingMeasure", {"mask": ["points", 1]}),
    }
    assert host.run(nodes).outputs["measure"]["text"][0].startswith("(1, 32, 64) 0.25")
    # The same name with another content is seen.
    Image.new("L", (64, 32), 255).save(folder / "mask.png")
    assert host.run(nodes).outputs["measure"]["text"][0].startswith("(1, 32, 64) 1.0")
    (folder / "notes.txt").write_text("no picture")
    for name, message in (
        ("gone.png [input]", "does not exist"),
        ("../server.log [input]", "outside the host's folders"),
        ("/etc/passwd", "outside the host's folders"),
    ):
        nodes["points"][1]["mask_image"] = name
        with pytest.raises(Refused, match=message):
            host.run(nodes)
    nodes["points"][1]["mask_image"] = "notes.txt [input]"
    assert "notes.txt" in host.run(nodes).error["exception_message"]


def test_points_by_link_from_another_node(host):
    nodes = graph()
    nodes["text"] = ("PrimitiveString", {"value": "[[[20, 20], [30, 24], [40, 26]]]"})
    nodes["points"][1]["points"] = ["text", 0]
    linked = host.run(nodes)
    assert linked.error is None
    assert linked.outputs["measure"]["text"] == host.run(graph()).outputs["measure"]["text"]
