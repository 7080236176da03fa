"""Files and folders around the real server: saved edits, folders of pictures, where the pack lies."""

import shutil

import pytest
import torch
from find_host import PACK
from PIL import Image
from real_host import RealHost, Refused
from usual_graph import failing, graph


def test_a_folder_gives_each_picture_with_its_points_and_is_refused_by_name(tmp_path):
    folder = tmp_path / "input" / "photos"
    folder.mkdir(parents=True)
    for name, size in (("b", (80, 40)), ("a", (64, 64))):
        Image.new("RGB", size, (0, 0, 0)).save(folder / f"{name}.png")
        (folder / f"{name}.json").write_text(f"[[[5, 6], [{size[0] - 1}, 7]]]")
    nodes = {
        "load": ("DragNoiseLoadFolder", {"folder": "photos"}),
        "drawn": ("DragNoiseOverlay", {"image": ["load", 0], "points": ["load", 1]}),
        "save": ("SaveImage", {"images": ["drawn", 0], "filename_prefix": ["load", 2]}),
    }
    with RealHost(tmp_path) as host:
        files = [(file["subfolder"], file["filename"]) for file in host.run(nodes).outputs["save"]["images"]]
        assert files == [("photos", "a_00001_.png"), ("photos", "b_00001_.png")]
        for name, width in (("a", 64), ("b", 80)):
            drawn = Image.open(tmp_path / "output" / "photos" / f"{name}_00001_.png").convert("RGB")
            red, _, blue = drawn.getpixel((width - 1, 7))
            assert drawn.width == width and blue > red + 60, "each picture has its own target"
        (folder / "a.json").write_text("[[[5, 6], [99, 7]]]")
        assert "a.json: target of pair 1 is (99, 7), outside" in failing(host, nodes)
        (folder / "a.json").unlink()
        for name, reason in (
            ("photos", "a.png has no points"),
            ("../photos", "outside"),
            (".", "outside"),
            ("no", "no pictures"),
        ):
            nodes["load"][1]["folder"] = name
            with pytest.raises(Refused, match=reason):
                host.run(nodes)


def test_saved_edits_survive_a_restart_and_hostile_files_are_refused(tmp_path):
    nodes = graph()
    nodes["save"] = ("DragNoiseSaveEdit", {"edit": ["optimize", 0], "filename_prefix": "dragnoise/edit"})
    with RealHost(tmp_path) as host:
        run = host.run(nodes)
        assert run.outputs["save"]["text"] == ["saved as dragnoise/edit_00001_.safetensors [output]"]
        for prefix in ("../edit", "/tmp/edit", ""):
            nodes["save"][1]["filename_prefix"] = prefix
            assert "outside the host's folders" in failing(host, nodes)
    nodes = graph()
    del nodes["optimize"], nodes["points"]
    nodes["load"] = ("DragNoiseLoadEdit", {"file": "dragnoise/edit_00001_.safetensors [output]"})
    nodes["sample"][1]["edit"] = ["load", 0]
    with RealHost(tmp_path) as host:
        options = host.get("/object_info/DragNoiseLoadEdit")["DragNoiseLoadEdit"]["input"]["required"]["file"][1]
        assert options["options"] == ["dragnoise/edit_00001_.safetensors [output]"]
        again = host.run(nodes)
        assert again.outputs["measure"]["text"] == run.outputs["measure"]["text"]
        stored = tmp_path / "output" / "dragnoise" / "edit_00001_.safetensors"
        (tmp_path / "input" / "cut.safetensors").write_bytes(stored.read_bytes()[:-100])
        torch.save({"a": 1}, tmp_path / "input" / "pickle.safetensors")
        for name in ("cut", "pickle"):
            nodes["load"][1]["file"] = f"{name}.safetensors [input]"
            assert f"{name}.safetensors is damaged" in failing(host, nodes)
        for name in ("../../secret.safetensors [output]", "gone.safetensors [input]"):
            nodes["load"][1]["file"] = name
            with pytest.raises(Refused, match="outside the host's folders|does not exist"):
                host.run(nodes)


def test_any_folder_name_a_copy_another_working_folder_and_an_ascii_console(tmp_path):
    name = "drag noise v1.2 (copy)"
    copy = tmp_path / "custom_nodes" / name
    ignored = shutil.ignore_patterns(".git", "tests", "out", ".venv", ".whl", "node_modules")
    shutil.copytree(PACK, copy, ignore=ignored)
    environment = {"PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0", "LC_ALL": "C", "LANG": "C"}
    with RealHost(tmp_path, name, environment=environment, folder=tmp_path) as host:
        assert "DragNoiseEdit" in host.get("/object_info")
        assert host.run(graph()).error is None
