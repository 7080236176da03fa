"""The bench over rendered drags: its measures against what the renderer says, and the command from end to end."""

import json
from argparse import Namespace
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from PIL import Image
from torch.nn import functional

from dragnoise_core.bench import methods, scenes
from dragnoise_core.bench.scene_drags import bench_drag, bench_drags, design
from dragnoise_core.bench.scene_measures import EQUAL, SceneMeasures
from dragnoise_core.bench.scene_report import MEASURES, markdown_report, scene_report
from dragnoise_core.bench.scene_sheet import sheet_indices
from dragnoise_core.bench.tasks import Outcome
from dragnoise_core.commands.command_line import main
from dragnoise_core.demo.loader import load_demo_model, load_keypoint_regressor
from dragnoise_core.demo.scenes.drags import drag_points
from dragnoise_core.inversion import InversionPath
from dragnoise_core.metrics import psnr
from dragnoise_core.schedule import scaled_linear_sigmas

REGRESSOR_ERROR = 2.5  # pixels, on a single picture; 0.4 on average


@pytest.fixture(scope="module")
def regressor():
    return load_keypoint_regressor()


@pytest.fixture(scope="module")
def demo():
    return load_demo_model()


def lengths(drag):
    handles, targets = (torch.tensor(ends) for ends in zip(*drag_points(drag), strict=True))
    return (targets - handles).norm(dim=1)


@pytest.mark.parametrize("index", range(4))
def test_the_truth_is_perfect_and_the_source_is_a_drag_away(regressor, index):
    item = bench_drag(0, index)
    measures = SceneMeasures(item, regressor)
    truth, source = item.drag.truth_picture(), item.drag.source_picture()
    perfect, nothing = measures.of(truth), measures.of(source)
    assert perfect["distance"] < REGRESSOR_ERROR
    assert perfect["truth_psnr"] == float("inf") and perfect["truth_ssim"] == pytest.approx(1)
    assert perfect["outside_psnr"] > 34, "a pixel outside differs by under 2% of the range"
    assert nothing["distance"] == pytest.approx(lengths(item.drag).mean().item(), abs=REGRESSOR_ERROR)
    assert nothing["truth_psnr"] == psnr(source, truth)
    assert nothing["outside_psnr"] == EQUAL and nothing["truth_ssim"] < 0.999
    for found in (perfect, nothing):
        assert found["still_moved"] is None or found["still_moved"] < REGRESSOR_ERROR
    assert perfect["others"] is None or perfect["others"] < REGRESSOR_ERROR


def test_keypoints_that_stay_are_told_from_those_that_move_along(regressor):
    mountain = next(item for item in bench_drags(0, 30) if item.drag.kind == "mountain" and item.pairs == 1)
    measures = SceneMeasures(mountain, regressor)
    assert len(measures.still) == 3 and not set(measures.still) & set(mountain.drag.names)
    boat = next(item for item in bench_drags(0, 96) if item.drag.kind == "boat" and item.motion == "whole")
    assert SceneMeasures(boat, regressor).still == []


def test_a_ruined_place_counts_outside_only_where_the_truth_is_unchanged(regressor):
    item = bench_drag(0, 1)
    measures = SceneMeasures(item, regressor)
    change = (item.drag.truth_picture() - item.drag.source_picture()).abs().amax(1, keepdim=True)
    assert not measures.outside[change[0, 0] > 0.02].any() and 0.1 < measures.outside.mean() < 1
    ruined = torch.where(change > 0.02, 1 - item.drag.source_picture(), item.drag.source_picture())
    assert measures.of(ruined)["outside_psnr"] == EQUAL
    ruined = torch.where(change > 0.02, item.drag.source_picture(), 1 - item.drag.source_picture())
    assert measures.of(ruined)["outside_psnr"] < 15


@pytest.fixture
def fake_methods(monkeypatch, demo):
    """Cheap methods instead of the real ones: the picture as it is, a spoilt one, the truth. Counts their calls."""
    known = {json.dumps(drag_points(item.drag)): item for item in bench_drags(0, 3)}
    calls = []

    def nothing(task):
        return Outcome(task.latent, 0)

    def spoilt(task):
        calls.append(task)
        return Outcome(task.latent + 0.1, 7)

    def perfect(task):
        pairs = json.dumps(list(zip(task.points.handles, task.points.targets, strict=True)))
        return Outcome(demo.encode(known[pairs].drag.truth_picture(task.picture.shape[-1])), 3)

    monkeypatch.setattr(methods, "METHODS", {"nothing": nothing, "paper": spoilt, "default": perfect})
    return calls


@pytest.fixture
def cheap_model(monkeypatch):
    """Blocks of eight pixels instead of the autoencoder, no inversion: for what does not look at the pictures."""

    def encode(picture):
        return functional.pad(functional.avg_pool2d(picture, 8), (0, 0, 0, 0, 0, 1))

    def decode(latent):
        return functional.interpolate(latent[:, :3], scale_factor=8).clamp(0, 1)

    model = Namespace(encode=encode, decode=decode, sigmas=scaled_linear_sigmas(), unet=torch.nn.Linear(1, 1))
    model.unet.device, model.split_unet = torch.device("cpu"), lambda *_: None
    monkeypatch.setattr(scenes, "load_model", lambda *_: model)
    monkeypatch.setattr(scenes, "inversion_path", lambda unet, x, sigmas, features: InversionPath([x] * len(sigmas)))
    monkeypatch.setattr("dragnoise_core.bench.scene_measures.ssim", lambda *_: 0.5)


def read_rows(folder):
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def run(*options):
    return main(["bench", "scenes", "--device", "cpu", "--steps", "4", *options])


def test_the_command_from_end_to_end(fake_methods, demo, tmp_path, capsys):
    assert run("--count", "1", "--out", str(tmp_path), "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report == json.loads((tmp_path / "report.json").read_text())
    assert report["drags"] == 1 and torch.__version__ in report["machine"]
    rows = {(row["index"], row["method"]): row for row in read_rows(tmp_path)}
    assert rows.keys() == {(0, name) for name in ("nothing", "paper", "default")}
    item, perfect, nothing = bench_drag(0, 0), rows[0, "default"], rows[0, "nothing"]
    truth = item.drag.truth_picture()
    # The autoencoder alone stands between a perfect method and the truth.
    assert perfect["truth_psnr"] == pytest.approx(psnr(demo.decode(demo.encode(truth)), truth), abs=1e-3)
    assert perfect["distance"] < REGRESSOR_ERROR and perfect["iterations"] == 3
    assert nothing["distance"] == pytest.approx(lengths(item.drag).mean().item(), abs=REGRESSOR_ERROR)
    assert (nothing["kind"], nothing["pairs"], nothing["masked"]) == (item.drag.kind, item.pairs, item.masked)
    assert perfect["seconds"] > 0 and nothing["seconds"] > 0
    table = (tmp_path / "table.md").read_text()
    assert "default against paper" in table and all(head in table for head, _ in MEASURES.values())
    with Image.open(tmp_path / "contact-sheet.png") as sheet:
        assert sheet.width > 5 * 256 and sheet.height > 256
    assert len(fake_methods) == 2, "once to warm up, once for the drag"


def test_another_size_and_schedule_are_used_and_told(fake_methods, cheap_model, tmp_path):
    options = ("--count", "1", "--methods", "paper", "--steps", "8", "--strength", "0.5", "--side", "128")
    assert run(*options, "--out", str(tmp_path)) == 0
    assert {task.picture.shape[-1] for task in fake_methods} == {128}
    assert {len(task.sigmas) for task in fake_methods} == {5}, "half of eight steps, and the end"
    for row in read_rows(tmp_path):
        assert (row["steps"], row["strength"], row["side"]) == (8, 0.5, 128)


def test_a_run_goes_on_where_it_was_stopped(fake_methods, cheap_model, tmp_path, capsys):
    assert run("--count", "3", "--methods", "paper", "--out", str(tmp_path)) == 0
    report = (tmp_path / "report.json").read_text()
    rows = (tmp_path / "rows.jsonl").read_text().splitlines()
    fake_methods.clear()
    assert run("--count", "3", "--methods", "paper", "--out", str(tmp_path), "--resume") == 0
    assert not fake_methods and (tmp_path / "report.json").read_text() == report
    (tmp_path / "rows.jsonl").write_text("\n".join(rows[:-1]) + "\n" + rows[-1][:50])
    (tmp_path / "pictures/001-paper.png").unlink()
    assert run("--count", "3", "--methods", "paper", "--out", str(tmp_path), "--resume") == 0
    assert len(fake_methods) == 3, "once to warm up, once for each of the two that were missing"
    kept = read_rows(tmp_path)
    assert run("--count", "3", "--methods", "paper", "--seed", "5", "--out", str(tmp_path), "--resume") == 2
    assert "seed 0, not 5" in capsys.readouterr().err and read_rows(tmp_path) == kept


def test_processes_share_the_drags(fake_methods, cheap_model, monkeypatch, capsys):
    monkeypatch.setattr(scenes, "ProcessPoolExecutor", lambda count, context: ThreadPoolExecutor(count))
    threads = []
    monkeypatch.setattr(torch, "set_num_threads", threads.append)
    scenes._worker_bench.cache_clear()
    assert run("--count", "3", "--processes", "2", "--methods", "paper") == 0
    assert set(threads) == {1}
    text = capsys.readouterr().out
    assert text.startswith("3 drags, seed 0") and "2 processes" in text
    scenes._worker_bench.cache_clear()


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (("--methods", "nothing,other"), "other"),
        (("--count", "0"), "--count"),
        (("--seed", "-1"), "--seed"),
        (("--processes", "-1"), "--processes"),
        (("--side", "100"), "--side"),
        (("--side", "32"), "--side"),
        (("--resume",), "--out"),
    ],
)
def test_impossible_options_are_refused(capsys, options, named):
    assert run(*options) == 2
    assert named in capsys.readouterr().err


def made_up_rows():
    """Two methods beside nothing, whose figures are simple multiples; on drag 3 the reference does harm."""
    rows = []
    for index in range(8):
        tags = {
            "index": index,
            "kind": "boat",
            "size": "small",
            "pairs": 1 + index % 2,
            "masked": False,
            "motion": "part",
        }
        for name, share, gain in (
            ("nothing", 1.0, 0.0),
            ("paper", 1.2 if index == 3 else 0.8, 1.0),
            ("ours", 0.2, 5.0),
        ):
            figures = {
                "distance": share * (10 + index),
                "truth_psnr": 20 + gain + index,
                "truth_ssim": 0.9,
                "outside_psnr": 30 + gain,
                "changed_sharpness": 0.8,
                "changed_ssim": 0.7,
                "changed_colour": 9.0,
                "still_moved": None,
                "others": None if index else 2.0,
                "iterations": 60,
                "seconds": 2 + share,
            }
            rows.append({**tags, "method": name, **figures})
    return rows


def test_the_report_compares_every_method_with_the_reference_drag_by_drag():
    names = ["nothing", "paper", "ours"]
    report = scene_report(made_up_rows(), names, {"seed": 0, "device": "cpu", "processes": 1})
    distance, truth, outside, seconds, farther = report["goals"]["ours"]
    paper = sum((1.2 if index == 3 else 0.8) * (10 + index) for index in range(8))
    assert distance["mean"] == pytest.approx(0.2 * sum(range(10, 18)) / paper) and not distance["kept"]
    assert truth["mean"] == pytest.approx(4) and truth["low"] == pytest.approx(4) and truth["kept"]
    assert outside["mean"] == pytest.approx(4) and outside["goal"] == "at least 5"
    assert seconds["mean"] == pytest.approx(2.2 / 2.85) and seconds["kept"] and seconds["sure"] and farther["mean"] == 0
    assert report["methods"]["paper"]["worse_distance"]["mean"] == pytest.approx(100 / 8)
    assert report["methods"]["ours"]["others"]["count"] == 1 and report["methods"]["ours"]["still_moved"]["count"] == 0
    assert report["breakdown"]["pairs"]["2"]["ours"]["distance"]["mean"] == pytest.approx(0.2 * 14)
    assert "nothing" not in report["goals"] and "paper" not in report["goals"]
    assert "| ours against paper" in markdown_report(report)
    assert json.loads(json.dumps(report, allow_nan=False)) == report
    worse = scene_report(made_up_rows(), ["nothing", "ours"], {"seed": 0, "device": "cpu", "processes": 1})
    assert worse["goals"] == {}, "nothing to compare with"


@pytest.mark.parametrize("count", [1, 2, 7, 8, 16, 96, 192, 1000])
def test_the_sheet_shows_all_kinds(count):
    indices = sheet_indices(count)
    assert len(indices) <= 8 and len(set(indices)) == len(indices) and max(indices) < count
    assert {index % 4 for index in indices} == {index % 4 for index in range(count)}


def test_the_sheet_of_the_whole_set_shows_every_number_of_pairs_twice():
    assert Counter(design(index)[1] for index in sheet_indices(96)) == dict.fromkeys((1, 2, 3, 4), 2)
