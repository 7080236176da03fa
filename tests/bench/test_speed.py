"""The benchmark compares two programs for the same thing."""

import json

import pytest
import torch
from small_unet import small_unet

from dragnoise_core.bench.speed import naive_loop, our_loop
from dragnoise_core.commands.command_line import main


def test_both_loops_find_the_same_bottleneck():
    torch.manual_seed(0)
    unet, latent, prompt = small_unet(), torch.randn(1, 4, 32, 32), torch.randn(1, 5, 16)
    ours = our_loop(unet, latent, prompt, 5, learning_rate=0.01)
    naive = naive_loop(unet.requires_grad_(True), latent, prompt, 5, learning_rate=0.01)
    start = our_loop(unet.requires_grad_(False), latent, prompt, 1, learning_rate=1e-6)
    assert (ours - start).abs().max() > 0.03, "nothing moved: nothing was compared"
    torch.testing.assert_close(ours, naive, rtol=1e-4, atol=1e-4)


def test_the_report_names_the_machine_and_both_loops(capsys):
    arguments = ["bench", "speed", "--model", "demo-random", "--iterations", "2", "--repeats", "1", "--device", "cpu"]
    assert main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    ours, naive = (report[name]["seconds_per_iteration"] for name in ("ours", "naive"))
    assert report["ratio"] == pytest.approx(naive / ours)
    assert torch.__version__ in report["machine"] and report["naive"]["peak_bytes"] >= 0
    assert main(arguments) == 0
    text = capsys.readouterr().out
    assert "ratio:" in text and "demo-random" in text


@pytest.mark.parametrize("options", [("--model", "other"), ("--iterations", "0"), ("--repeats", "-1")])
def test_impossible_options_are_refused(capsys, options):
    assert main(["bench", "speed", *options]) == 2
    assert options[1] in capsys.readouterr().err
