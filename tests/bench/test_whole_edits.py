"""`dragnoise bench edits` runs, and counts, divides and warns as it says."""

import json
import subprocess

import pytest
import torch

from dragnoise_core.bench.whole_edits import command
from dragnoise_core.bench.whole_edits.meter import Meter, row, tell_iterations
from dragnoise_core.bench.whole_edits.random_models import SHAPES, random_autoencoder, random_unet
from dragnoise_core.bench.whole_edits.report import report
from dragnoise_core.commands.command_line import main

ITERATIONS = 3  # of an edit with --narrow


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_it_tries_itself_on_a_cpu_and_prints_its_rows(tmp_path, capsys):
    file = tmp_path / "figures.json"
    options = ["--narrow", "--shapes", "sd15", "--kinds", "package,precision", "--repeats", "1", "--json", str(file)]
    assert main(["bench", "edits", *options]) == 0
    output = capsys.readouterr().out
    assert "WRONG" not in output and torch.__version__ in output
    figures = json.loads(file.read_text())
    runs = {(row["run"], row["state"]): row for row in figures["rows"]}
    for name in ("edit", "edit with a mask", "edit, preset default", "edit, low memory"):
        row = runs[f"sd15, eager: {name}", "later"]
        assert row["iterations"] == ITERATIONS
        assert 0 < row["total"] < sum(row["seconds"].values()), "the autoencoder counts into the total"
    again = runs["sd15, eager: edit: second drag", "later"]["seconds"]
    assert set(again) == {"optimisation", "sampling"}
    printed = [line.split(" | ")[0].strip("| ") for line in output.splitlines()]
    assert {name for name, _ in runs} <= set(printed)
    assert figures["gradients"][0]["off float32"] == 0 < figures["gradients"][1]["off float32"] < 1
    agreement = {row["pair"]: row["bottleneck"] for row in figures["agreement"]}
    assert agreement["float16 eager, again / float16 eager"] == 0


@pytest.mark.parametrize(("name", "parameters"), [("sd15", 859_520_964), ("sdxl", 2_567_463_684)])
def test_the_random_networks_have_the_size_of_the_real_ones(name, parameters):
    unet, autoencoder = (build(SHAPES[name], torch.device("meta")) for build in (random_unet, random_autoencoder))
    assert sum(weight.numel() for weight in unet.parameters()) == parameters
    assert sum(weight.numel() for weight in autoencoder.parameters()) == 83_653_863


def test_a_failing_part_is_told_and_does_not_stop_the_others(monkeypatch, capsys):
    def run_part(part, options, device):
        if part.startswith("package sd15"):
            raise subprocess.CalledProcessError(7, ["python"])
        return {"rows": []}

    monkeypatch.setattr(command, "run_part", run_part)
    assert main(["bench", "edits", "--narrow", "--kinds", "package"]) == 2
    output = capsys.readouterr()
    assert "measuring package sdxl eager" in output.err
    assert "WRONG: package sd15 eager" in output.out and "status 7" in output.out
    assert "1 of 2 parts failed" in output.err


@pytest.mark.parametrize("options", [("--kinds", "package,other"), ("--shapes", "sd3")])
def test_unknown_names_are_refused(capsys, options):
    assert main(["bench", "edits", "--narrow", *options]) == 2
    assert "choose among" in capsys.readouterr().err


def test_the_report_divides_the_later_edits_and_takes_the_larger_peak():
    def meter(optimisation, gib):
        phases = ("encode", "optimisation")
        peaks = dict.fromkeys(phases, gib)
        return Meter(torch.device("cpu"), dict(zip(phases, (9.0, optimisation), strict=True)), peaks, peaks)

    short = tell_iterations("short run", 4, 60)
    rows = [
        row("sd15, eager: edit", "later", [meter(6.0, 8.0)], iterations=60),
        row("sd15, cudagraph: edit", "first", [meter(4.0, 4.0)], iterations=60),
        row("sd15, cudagraph: edit", "later", [meter(2.0, 1.0), meter(3.0, 1.0), meter(7.0, 1.0)], **short),
    ]
    text = report({"machine": "a machine", "rows": rows, "failed": []})
    assert "2.00 times the time, 2.00 times the memory allocated" in text
    assert "WRONG: short run: 4 iterations instead of 60" in text


def test_the_report_compares_comfyui_with_the_package_and_dynamic_vram_with_none():
    seconds = {
        "sd15, cudagraph: edit": 2.0,
        "sd15, ComfyUI 1.2.3, cudagraph: edit": 3.0,
        "sd15, ComfyUI 1.2.3, dynamic VRAM, cudagraph: edit": 3.6,
    }
    rows = [
        row(run, "later", [Meter(torch.device("cpu"), {"optimisation": s})], iterations=60)
        for run, s in seconds.items()
    ]
    text = report({"machine": "a machine", "rows": rows, "failed": []})
    package, off, on = seconds
    for more, less, times in ((off, package, 1.5), (on, package, 1.8), (on, off, 1.2)):
        assert f"{more} / {less}: {times:.2f} times the time\n" in text
