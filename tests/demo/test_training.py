"""The training script's parts; the whole of it needs a GPU."""

import math

import pytest
import torch
from safetensors.torch import load_file

from dragnoise_core.demo.networks import PROMPTS, KeypointRegressor, build_unet
from dragnoise_core.demo.scenes import KINDS
from dragnoise_core.demo.training import fitting
from dragnoise_core.demo.training import train as training


def test_the_pool_holds_pictures_with_their_keypoints():
    pictures, labels, places = training.draw_pool(2, "cpu")
    assert pictures.shape == (8, 3, 256, 256) and pictures.dtype == torch.uint8
    assert labels.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    for row, kind in enumerate(KINDS):
        own = KeypointRegressor().slices[kind]
        known = ~places[labels == row].isnan().any(-1)
        assert known[:, own].all() and known.sum() == 2 * len(KINDS[kind].keypoint_names)


def test_the_learning_rate_warms_up_and_falls_to_its_floor():
    rate = [fitting.learning_rate(1.0, step, step / 1000, floor=0.1, warmup=10) for step in range(1001)]
    assert rate[0] == pytest.approx(0.1) and rate[1000] == pytest.approx(0.1)
    assert rate[500] == pytest.approx(0.55)
    assert all(a >= b for a, b in zip(rate[10:], rate[11:], strict=False))
    assert math.isclose(max(rate), 1.0, rel_tol=1e-2)


def test_a_heat_map_with_one_hot_spot_gives_its_place():
    """The regressor's last step on a known map: all weight in one cell is that cell's centre, with no spread."""
    regressor = KeypointRegressor().eval()
    heat = torch.full((1, 21, 64, 64), -1e4)
    heat[:, :, 10, 30] = 0.0
    regressor.head.forward = lambda features: heat
    places, spread = regressor(torch.rand(1, 3, 256, 256))
    torch.testing.assert_close(places, torch.tensor([30.5 / 64, 10.5 / 64]).expand(1, 21, 2))
    assert spread.max() < 1e-3


def test_the_unet_learns_and_its_weights_resume(monkeypatch, tmp_path):
    torch.manual_seed(0)
    monkeypatch.setattr(fitting, "UNET_BATCH", 8)
    latents, labels = torch.randn(4, 4, 32, 32).half(), torch.arange(4)
    trainer = fitting.UNetTrainer(latents, labels, None)
    trainer.rate.fill_(1e-3)
    losses = []
    for step in range(6):
        trainer.step()
        trainer.update_average(step)
        losses.append(trainer.loss.item())
    assert losses[-1] < losses[0]

    log = {}
    training.save(tmp_path / "unet.safetensors", trainer.weights(), log, "unet", {"seconds": 3.0, "steps": 6})
    assert training.read_metadata(tmp_path / "unet.safetensors")["steps"] == "6" and log["unet"]["seconds"] == 3.0
    stored = load_file(tmp_path / "unet.safetensors")
    assert all(value.dtype == torch.float16 for value in stored.values())
    assert stored["prompt_embeddings"].shape == (len(PROMPTS), 4, 128)
    resumed = fitting.UNetTrainer(latents, labels, stored)
    expected = dict(trainer.average.named_parameters())
    for name, weight in resumed.unet.named_parameters():
        torch.testing.assert_close(weight, expected[name], rtol=1e-3, atol=1e-6)
    assert build_unet().state_dict().keys() == stored.keys() - {"prompt_embeddings"}
