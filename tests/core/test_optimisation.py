import gc

import pytest
import torch
from toy_unet import ToyUNet

from dragnoise_core import gradient_steps
from dragnoise_core.acceleration import Answers
from dragnoise_core.configuration import PRESETS, OptimisationConfig, preset
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.optimisation import optimise
from dragnoise_core.points import DragPoints
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas

SIGMAS = ddim_sigmas(scaled_linear_sigmas(), 20, 0.7)
POINTS = DragPoints.from_pairs([((50, 60), (80, 66))], 128, 128)


def noisy(height=16, width=16, seed=0):
    return torch.randn(1, 4, height, width, generator=torch.Generator().manual_seed(seed)) * float(SIGMAS[0])


@pytest.mark.parametrize("name", PRESETS)
def test_the_loss_falls_and_the_source_is_untouched(name):
    x, unet = noisy(), ToyUNet()
    before = x.clone()
    # One level and no tracking in between.
    config = preset(name, iterations=30, drag_steps=1, gradient_steps=30, learning_rate=0.03)
    edit = optimise(unet, x, SIGMAS, POINTS, config=config)
    assert edit.iterations == 30
    # The paper's patches are compared with current ones, which move with the leaf: no one function falls.
    assert name == "paper" or edit.losses[-1] < 0.95 * edit.losses[0]
    assert torch.equal(x, before)
    assert all(parameter.grad is None for parameter in unet.parameters())
    assert not edit.bottlenecks.requires_grad


def test_the_first_step_goes_down_the_finite_difference_gradient():
    """One step of Adam moves every entry by the learning rate against its gradient's sign."""
    config = preset("default", iterations=1, drag_steps=1, learning_rate=1e-3)
    x = noisy().double()

    class Nudged(ToyUNet):
        """The same network with one entry of the leaf off, while the unedited picture's feature stays."""

        def __init__(self, index, size):
            super().__init__(dtype=torch.float64)
            self.index, self.size = index, size

        def decode(self, encoded, bottleneck, *, to_tap):
            if bottleneck.requires_grad:
                nudge = torch.zeros_like(bottleneck)
                nudge[(0, *self.index)] = self.size
                bottleneck = bottleneck + nudge
            return super().decode(encoded, bottleneck, to_tap=to_tap)

    def loss(index, size):
        return optimise(Nudged(index, size), x, SIGMAS, POINTS, config=config).losses[0]

    edit = optimise(ToyUNet(dtype=torch.float64), x, SIGMAS, POINTS, config=config)
    step = (edit.bottlenecks - edit.originals)[0]
    nearby = step[:, 3:5, 4:6]  # where the point's patch is
    assert (nearby != 0).all()
    largest = step.abs().flatten().topk(8).indices  # a kink of the L1 norm must not decide
    for index in [tuple(int(axis) for axis in torch.unravel_index(entry, step.shape)) for entry in largest]:
        slope = loss(index, 0.05) - loss(index, -0.05)
        assert slope * step[index] < 0


@pytest.mark.parametrize("name", PRESETS)
def test_points_already_there_change_nothing_and_say_so(name):
    points = DragPoints.from_pairs([((50, 60), (50, 60)), ((20, 20), (21, 20))], 128, 128)
    edit = optimise(ToyUNet(), noisy(), SIGMAS, points, config=preset(name))
    assert edit.iterations == 0
    assert torch.equal(edit.bottlenecks, edit.originals)
    assert edit.distances.tolist() == pytest.approx([0, 1], abs=2)
    x = noisy()
    torch.testing.assert_close(sample(ToyUNet(), x, SIGMAS, edit=edit), sample(ToyUNet(), x, SIGMAS))


def test_without_a_mask_no_iteration_decodes_past_the_tap():
    unet = ToyUNet()
    optimise(unet, noisy(), SIGMAS, POINTS, config=preset("paper", iterations=10, stop_distance=0.5))
    # The source's, and the result's, in which the points are tracked once more and with which the walk goes on.
    assert unet.decodings == {"tap": 10, "full": 2}


@pytest.mark.parametrize("name", PRESETS)
def test_the_mask_holds_the_rest_of_the_latent(name):
    mask = torch.zeros(128, 128)
    mask[40:80, 30:100] = 1
    outside = torch.nn.functional.max_pool2d(mask[None, None], 8)[0, 0] == 0
    x, unet = noisy(), ToyUNet()
    source = sample(unet, x, SIGMAS)
    config = preset(name, iterations=28, learning_rate=0.02, mask_weight=10.0, stop_distance=0.5)

    def change(mask):
        edit = optimise(unet, x, SIGMAS, POINTS, mask=mask, config=config)
        return (sample(unet, x, SIGMAS, edit=edit) - source)[..., outside].abs().mean()

    assert change(mask) < 0.7 * change(None)
    assert change(torch.ones(128, 128)) == change(None)


@pytest.mark.parametrize(("height", "width"), [(9, 14), (23, 7), (32, 8)])
def test_any_latent_size_and_points_at_the_border(height, width):
    points = DragPoints.from_pairs([((0, 0), (30, 20)), ((40, 40), (40, 0))], 40, 40)
    edit = optimise(ToyUNet(), noisy(height, width), SIGMAS, points, config=preset("default", iterations=14))
    assert torch.isfinite(edit.path).all()
    assert (edit.path >= 0).all() and (edit.path <= 40).all()


def test_sixty_four_pairs_at_once():
    pairs = [((8 + 14 * (i % 8), 8 + 14 * (i // 8)), (12 + 14 * (i % 8), 8 + 14 * (i // 8))) for i in range(64)]
    points = DragPoints.from_pairs(pairs, 128, 128)
    edit = optimise(ToyUNet(), noisy(), SIGMAS, points, config=preset("paper", iterations=3, stop_distance=0.5))
    assert edit.path.shape == (4, 64, 2) and edit.distances.shape == (64,)


def test_the_callback_hears_every_iteration():
    heard = []
    config = preset("default", iterations=14, drag_steps=2, stop_distance=0.5)
    edit = optimise(ToyUNet(), noisy(), SIGMAS, POINTS, config=config, callback=heard.append)
    walked = heard[edit.iterations :]
    assert [(p.phase, p.step, p.total) for p in walked] == [("sampling", step, 14) for step in range(3, 15)]
    assert all(p.denoised().shape == (1, 4, 16, 16) for p in walked)
    heard = heard[: edit.iterations]
    assert [p.step for p in heard] == list(range(1, edit.iterations + 1))
    assert {p.phase for p in heard} == {"optimisation"} and {p.total for p in heard} == {14}
    assert [float(p.loss) for p in heard] == edit.losses.tolist()
    assert all(p.points.shape == (1, 2) and p.denoised().shape == (1, 4, 16, 16) for p in heard)


def test_raising_in_the_callback_cancels_and_leaves_nothing():
    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.step == 3:
            raise Stopped

    unet = ToyUNet()
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    with pytest.raises(Stopped):
        optimise(unet, noisy(), SIGMAS, POINTS, config=preset("paper", stop_distance=0.5), callback=stop)
    gc.collect()
    assert torch.is_grad_enabled()
    assert all(not p.requires_grad and p.grad is None for p in unet.parameters())
    assert all(torch.equal(value, before[name]) for name, value in unet.state_dict().items())


class Overflowing(ToyUNet):
    """Numbers overflow, as they do in float16, when the bottleneck has grown beyond a limit."""

    def __init__(self, limit):
        super().__init__()
        self.limit = limit

    def decode(self, encoded, bottleneck, *, to_tap):
        factor = torch.where(bottleneck.detach().abs().max() > self.limit, torch.inf, 1.0)
        return super().decode(encoded, bottleneck * factor, to_tap=to_tap)


@pytest.mark.parametrize("lag", [0, 2])
@pytest.mark.parametrize("name", PRESETS)
def test_a_step_that_diverges_is_taken_back_and_counted(name, lag, monkeypatch):
    monkeypatch.setattr(gradient_steps, "Answers", answers_after(lag))
    x, config = noisy(), preset(name, iterations=28, stop_distance=0.5, learning_rate=0.3, bottleneck_change=0.0)
    wild = optimise(ToyUNet(), x, SIGMAS, POINTS, config=config)
    limit = 0.7 * float(wild.bottlenecks.abs().max())
    edit = optimise(Overflowing(limit), x, SIGMAS, POINTS, config=config)
    assert edit.diverged > 0 == wild.diverged
    assert 0 < edit.iterations < wild.iterations and edit.losses.isfinite().all()
    assert 0 < (edit.bottlenecks - edit.originals).abs().max() and edit.bottlenecks.abs().max() <= limit
    assert sample(ToyUNet(), x, SIGMAS, edit=edit).isfinite().all()


def answers_after(steps):
    """Answers that come so many steps late, as those of a GPU do."""

    class Late(Answers):
        def __init__(self, device):
            super().__init__(device)
            self.lag = steps

    return Late


@pytest.mark.parametrize(
    "config",
    [
        preset("paper", learning_rate=0.1, stop_distance=13.0),
        # Four levels: points that have arrived are looked at again.
        preset(
            "default",
            supervision="patches",
            drag_steps=4,
            learning_rate=0.3,
            stop_distance=13.0,
            iterations=60,
            bottleneck_change=0.0,
        ),
    ],
    ids=PRESETS,
)
def test_an_arrival_that_is_heard_late_gives_the_same_edit(config, monkeypatch):
    edits = []
    for steps in (0, 2):
        monkeypatch.setattr(gradient_steps, "Answers", answers_after(steps))
        edits.append(optimise(ToyUNet(), noisy(), SIGMAS, POINTS, config=config))
    assert 0 < edits[0].iterations < 60, "the drag must end early for this to say anything"
    for part in ("bottlenecks", "corrections", "path", "losses"):
        assert torch.equal(getattr(edits[0], part), getattr(edits[1], part)), part


def test_divergence_from_the_first_step_on_is_an_error_and_not_a_picture():
    class Exploding(ToyUNet):
        def decode(self, encoded, bottleneck, *, to_tap):
            return super().decode(encoded, bottleneck * float("inf"), to_tap=to_tap)

    with pytest.raises(DragNoiseError, match="learning rate 0.01"):
        optimise(Exploding(), noisy(), SIGMAS, POINTS, config=preset("paper", iterations=3))


def test_a_batch_is_refused():
    with pytest.raises(DragNoiseError, match=r"\(2, 4, 16, 16\)"):
        optimise(ToyUNet(), noisy().repeat(2, 1, 1, 1), SIGMAS, POINTS)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ({"learning_rate": -1.0}, "learning_rate is -1.0"),
        ({"learning_rate": float("nan")}, "learning_rate is nan"),
        ({"iterations": 0}, "iterations is 0"),
        ({"iterations": 2.5}, "iterations is 2.5"),
        ({"iterations": 10**400}, "iterations is 10"),
        ({"descent": "none"}, "descent is 'none'"),
        ({"speed": 3}, "speed"),
    ],
)
def test_settings_out_of_range_are_refused(overrides, said):
    with pytest.raises(DragNoiseError, match=said):
        preset("paper", **overrides)


def test_free_steps_are_not_optimised():
    x, unet = noisy(), ToyUNet()
    steps = len(SIGMAS) - 1
    edit = optimise(unet, x, SIGMAS, POINTS, config=preset("default", iterations=12, free_steps=steps - 2))
    assert len(edit.sigmas) == 2
    assert (sample(unet, x, SIGMAS, edit=edit) - sample(unet, x, SIGMAS)).abs().max() > 1e-3
    with pytest.raises(DragNoiseError, match=f"free_steps is {steps} of {steps}"):
        optimise(unet, x, SIGMAS, POINTS, config=preset("default", free_steps=steps))


def test_an_unknown_preset_is_refused_and_none_overrides_nothing():
    with pytest.raises(DragNoiseError, match="paper, default"):
        preset("best")
    assert preset("paper", iterations=None) == OptimisationConfig()
