"""`dragnoise bench dragbench` from end to end, on generated pictures and, where there are any, on DragBench's own."""

import json
import os
from pathlib import Path

import pytest
import torch
from PIL import Image

from dragnoise_core.bench import methods
from dragnoise_core.bench.dragbench import command as dragbench_command
from dragnoise_core.bench.dragbench.evaluation import Evaluation, evaluate
from dragnoise_core.bench.dragbench.format import find_samples, read_sample, write_sample
from dragnoise_core.bench.dragbench.report import as_text, summarise
from dragnoise_core.bench.dragbench.run import share
from dragnoise_core.bench.scene_drags import bench_drags
from dragnoise_core.bench.tasks import Outcome
from dragnoise_core.commands.command_line import main
from dragnoise_core.demo.scenes.drags import drag_points
from dragnoise_core.drawing import to_picture, to_tensor
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.points import DragPoints

SAMPLES = {"animals/first": (96, 72), "animals/second": (64, 64), "landscape/third": (50, 61)}
QUICK = ["--steps", "4", "--strength", "0.5", "--device", "cpu"]


@pytest.fixture
def dragbench(tmp_path):
    """Three samples of random pictures; the second has no mask."""
    for seed, (name, (width, height)) in enumerate(SAMPLES.items()):
        coarse = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(seed))
        picture = to_picture(torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic"))
        mask = torch.zeros(height, width)
        mask[:, : width // 2] = 1
        points = DragPoints.from_pairs([((10.5, 20.5), (30.5, 25.5)), ((8, 8), (20, 8))], width, height)
        folder = tmp_path / "dragbench" / name
        write_sample(folder, picture, "a goat", points, None if name.endswith("second") else mask)
    return tmp_path / "dragbench"


@pytest.fixture
def counted(monkeypatch):
    """A method that shifts the latent one cell to the right and counts its tasks."""
    tasks = []

    def method(task):
        tasks.append(task)
        return Outcome(task.latent.roll(1, 3) + 0.01 * torch.randn(task.latent.shape), 7, torch.zeros(2, 2))

    monkeypatch.setitem(methods.METHODS, "shift", method)
    return tasks


def command(root, out, model, *more, method="shift"):
    return [
        "bench",
        "dragbench",
        str(root),
        "--out",
        str(out),
        "--model",
        str(model),
        "--method",
        method,
        *QUICK,
        *more,
    ]


def contents(out):
    return {name: (out / name / "dragged_image.png").read_bytes() for name in SAMPLES}


def test_every_sample_is_dragged_and_evaluated(dragbench, tmp_path, model_folders, counted, capsys):
    out, model = tmp_path / "out", model_folders["sd"]
    assert main(command(dragbench, out, model, "--dift-model", str(model), "--json")) == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((out / "evaluation.json").read_text())
    assert [row["name"] for row in report["samples"]] == list(SAMPLES) and report["dift"] == str(model)
    assert f"DIFT by {model}" in (out / "evaluation.md").read_text()
    for name, size in SAMPLES.items():
        assert Image.open(out / name / "dragged_image.png").size == size
        record = json.loads((out / name / "drag.json").read_text())
        assert record["iterations"] == 7 and record["ends"] == [[0, 0], [0, 0]] and record["settings"]["steps"] == 4
        assert set(record["seconds"]) == {"inversion", "method", "decoding"}
    for name, count in {"distance": 3, "distance_in_mask": 2, "dai_20": 3, "outside_psnr": 2, "iterations": 3}.items():
        assert report["measures"][name]["count"] == count
    # LPIPS is not among the tests' packages, or its weights are not; where both are, it is measured.
    assert ("image fidelity" in report["unmeasured"]) == (report["measures"]["fidelity"]["count"] == 0)
    points, mask = counted[0].points, counted[0].mask
    assert (points.width, points.height) == SAMPLES["animals/first"] and points.handles[0] == (10.5, 20.5)
    assert mask.shape == (72, 96) and counted[1].mask is None


def test_finished_samples_are_kept_and_an_interrupted_one_is_done_again(
    dragbench, tmp_path, model_folders, counted, capsys
):
    out = tmp_path / "out"
    assert main(command(dragbench, out, model_folders["sd"])) == 0
    first, done = contents(out), len(counted)
    assert done == len(SAMPLES)
    assert main(command(dragbench, out, model_folders["sd"])) == 0
    assert len(counted) == done and contents(out) == first
    # Stopped between picture and record, and while the record was written.
    (out / "animals/first/drag.json").unlink()
    (out / "animals/first/dragged_image.png").write_bytes(b"half")
    (out / "landscape/third/drag.json").write_text('{"settings": {')
    assert main(command(dragbench, out, model_folders["sd"])) == 0
    assert len(counted) == done + 2 and contents(out) == first
    assert not list(out.rglob(".dragnoise-*"))


def test_ctrl_c_keeps_what_was_finished(dragbench, tmp_path, model_folders, counted, monkeypatch):
    shift = methods.METHODS["shift"]

    def stopped(task):
        if len(counted) == 1:
            raise KeyboardInterrupt
        return shift(task)

    monkeypatch.setitem(methods.METHODS, "shift", stopped)
    assert main(command(dragbench, tmp_path / "out", model_folders["sd"])) == 130
    assert len(list((tmp_path / "out").rglob("drag.json"))) == 1
    monkeypatch.setitem(methods.METHODS, "shift", shift)
    assert main(command(dragbench, tmp_path / "out", model_folders["sd"])) == 0
    assert len(counted) == len(SAMPLES)


def test_results_of_other_settings_are_not_mixed(dragbench, tmp_path, model_folders, counted, capsys):
    out = tmp_path / "out"
    assert main(command(dragbench, out, model_folders["sd"])) == 0
    first = contents(out)
    capsys.readouterr()
    assert main(command(dragbench, out, model_folders["sd"], "--seed", "1")) == 2
    error = capsys.readouterr().err
    assert "another seed" in error and "--fresh" in error and contents(out) == first
    assert main(command(dragbench, out, model_folders["sd"], "--seed", "1", "--fresh")) == 0
    assert all(contents(out)[name] != first[name] for name in SAMPLES)
    # Another mask is another drag.
    Image.new("L", (50, 61), 255).save(dragbench / "landscape/third/mask.png")
    assert main(command(dragbench, out, model_folders["sd"], "--seed", "1")) == 2
    assert "another sample" in capsys.readouterr().err


def test_a_broken_sample_is_named_and_stops_no_other(dragbench, tmp_path, model_folders, counted, capsys):
    (dragbench / "animals/first/original_image.png").write_bytes(b"no picture")
    assert main(command(dragbench, tmp_path / "out", model_folders["sd"])) == 2
    output = capsys.readouterr()
    last = output.err.strip().splitlines()[-1]
    assert last.startswith("dragnoise: 1 samples failed") and "animals/first" in last
    assert "mean [95% interval]" in output.out and len(counted) == 2
    assert not (tmp_path / "out/animals/first/dragged_image.png").exists()


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        (["--method", "other"], "no method"),
        (["--steps", "0"], "steps"),
        (["--seed", "-1"], "--seed"),
        (["--strength", "2"], "strength"),
        (["--model", "/missing"], "no model"),
        (["--device", "warp"], "device"),
    ],
)
def test_impossible_options_are_refused(dragbench, tmp_path, model_folders, capsys, more, reason):
    assert main([*command(dragbench, tmp_path / "out", model_folders["sd"], method="nothing"), *more]) == 2
    assert reason in capsys.readouterr().err
    assert not list(tmp_path.rglob("drag.json"))


def test_results_go_elsewhere(dragbench, tmp_path, model_folders, capsys):
    assert main(command(dragbench, dragbench, model_folders["sd"], method="nothing")) == 2
    assert main(command(tmp_path / "missing", tmp_path / "out", model_folders["sd"], method="nothing")) == 2
    assert main([*command(dragbench, tmp_path / "none", "demo"), "--evaluate"]) == 2
    assert "run a method first" in capsys.readouterr().err


def test_two_processes_share_the_work_and_draw_what_one_draws(dragbench, tmp_path, model_folders, monkeypatch, capsys):
    one, two, model = tmp_path / "one", tmp_path / "two", model_folders["sd"]
    assert main(command(dragbench, one, model, method="nothing")) == 0
    # The first of one process's share: torchrun stops the others when a process ends with another code than 0.
    (dragbench / "animals/broken").mkdir()
    (dragbench / "animals/broken/original_image.png").write_bytes(b"no picture")
    arguments = command(dragbench, two, model, method="nothing")
    for rank in range(2):
        with monkeypatch.context() as started_by_torchrun:
            for key, value in {"RANK": rank, "WORLD_SIZE": 2, "LOCAL_RANK": rank}.items():
                started_by_torchrun.setenv(key, str(value))
            assert main(arguments) == 0
    output = capsys.readouterr()
    assert "process 1 of 2" in output.out and "process 2 of 2" in output.out and "--evaluate" in output.out
    assert contents(two) == contents(one)
    assert "1 samples failed" in output.out and "animals/broken" in output.err
    assert not (two / "evaluation.json").exists()
    assert main([*arguments, "--evaluate"]) == 2
    output = capsys.readouterr()
    assert "PSNR outside the mask" in output.out and "animals/broken" in output.err


def test_each_process_takes_its_own_gpu(dragbench, tmp_path, monkeypatch, capsys):
    def load(name, device, config):
        raise DragNoiseError(f"asked for {device}")

    for key, value in {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}.items():
        monkeypatch.setenv(key, value)
    monkeypatch.setattr(dragbench_command, "load_model", load)
    monkeypatch.setattr(dragbench_command, "usable_device", lambda name: torch.device(name or "cuda"))
    (dragbench / "animals/fourth").mkdir()
    (dragbench / "animals/fourth/original_image.png").write_bytes(b"the fourth process's share")
    arguments = ["bench", "dragbench", str(dragbench), "--out", str(tmp_path / "out")]
    for options, device in {(): "cuda:1", ("--device", "cuda:7"): "cuda:7", ("--device", "cpu"): "cpu"}.items():
        assert main([*arguments, *options]) == 2
        assert f"asked for {device}\n" in capsys.readouterr().err


@pytest.mark.parametrize("wrong", [("2", "2"), ("-1", "2"), ("one", "2"), ("0", "0")])
def test_a_share_that_cannot_be_is_refused(monkeypatch, wrong):
    monkeypatch.setenv("RANK", wrong[0])
    monkeypatch.setenv("WORLD_SIZE", wrong[1])
    with pytest.raises(DragNoiseError, match="torchrun"):
        share()


def test_results_of_other_programs_and_sizes_are_evaluated(dragbench, tmp_path):
    for name in SAMPLES:
        folder = tmp_path / "out" / name
        folder.mkdir(parents=True)
        picture = Image.open(dragbench / name / "original_image.png")
        # A copy twice as large comes back nearly as it was.
        picture.resize((picture.width * 2, picture.height * 2), Image.BICUBIC).save(folder / "dragged_image.png")
    evaluation = evaluate(dragbench, tmp_path / "out", device="cpu")
    assert set(evaluation.unmeasured) >= {"mean distance"} and not evaluation.failures
    assert summarise(evaluation, "outside_psnr").mean > 35
    assert summarise(evaluation, "iterations").count == 0
    (tmp_path / "out/animals/first/dragged_image.png").unlink()
    evaluation = evaluate(dragbench, tmp_path / "out", device="cpu")
    assert list(evaluation.failures) == ["animals/first"] and len(evaluation.rows) == 2
    assert "failed: animals/first" in as_text(evaluation)


def test_mean_distance_is_over_pairs_not_pictures():
    evaluation = Evaluation([{"distance": [1.0, 2.0, 3.0]}, {"distance": [10.0]}, {"distance": None}])
    found = summarise(evaluation, "distance")
    assert found.mean == 4 and found.count == 2
    assert found.low == 2 and found.high == 10


def test_demo_scenes_are_exported_with_their_points_and_masks(tmp_path, capsys):
    assert main(["bench", "export-scenes", "--out", str(tmp_path), "--count", "8", "--seed", "3"]) == 0
    folders = find_samples(tmp_path)
    assert len(folders) == 8
    for item in bench_drags(3, 8):
        (name,) = [name for name in folders if f"/{item.index:04}_" in name]
        sample = read_sample(folders[name])
        assert sample.prompt == item.drag.kind == name.split("/")[0]
        difference = to_tensor(sample.picture) - item.drag.source_picture()
        assert difference.abs().max() < 1 / 255
        pairs = torch.tensor(drag_points(item.drag))
        ends = torch.stack((torch.tensor(sample.points.handles), torch.tensor(sample.points.targets)), 1)
        assert (ends - pairs).abs().max() <= 0.5
        assert (sample.mask is None) != item.masked
        if item.masked:
            assert torch.equal(sample.mask, item.mask())
    assert main(["bench", "export-scenes", "--out", str(tmp_path), "--count", "0"]) == 2


def test_exported_scenes_are_dragged_by_the_demo_model(tmp_path, capsys):
    assert main(["bench", "export-scenes", "--out", str(tmp_path / "scenes"), "--count", "1"]) == 0
    assert main(command(tmp_path / "scenes", tmp_path / "out", "demo", "--dift-model", "demo", method="nothing")) == 0
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    # The scenes' things are where they were: DIFT finds them there, a way from where they should be.
    ((name, folder),) = find_samples(tmp_path / "scenes").items()
    sample, (row,) = read_sample(folder), report["samples"]
    undone = (sample.targets - sample.handles).double().norm(dim=1)
    assert row["name"] == name and (torch.tensor(row["distance"]) - undone).abs().max() < 12


@pytest.mark.skipif("DRAGNOISE_DRAGBENCH" not in os.environ, reason="DRAGNOISE_DRAGBENCH names no folder of DragBench")
def test_photographs_of_dragbench(tmp_path, model_folders, counted, capsys):
    root = Path(os.environ["DRAGNOISE_DRAGBENCH"])
    assert main(command(root, tmp_path / "out", model_folders["sd"])) == 0
    for name, folder in find_samples(root).items():
        dragged = Image.open(tmp_path / "out" / name / "dragged_image.png")
        assert dragged.size == Image.open(folder / "original_image.png").size
    assert json.loads((tmp_path / "out/evaluation.json").read_text())["measures"]["dai_1"]["count"] == len(counted)
