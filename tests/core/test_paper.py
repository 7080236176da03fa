"""The preset `paper` against the formulas written out plainly: a full U-Net in every iteration, the whole feature
map resized to half the picture's size, patches sliced from it."""

import pytest
import torch
from small_unet import small_unet
from torch.nn import functional

from dragnoise_core.configuration import preset
from dragnoise_core.optimisation import optimise
from dragnoise_core.points import DragPoints
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas
from dragnoise_core.standalone.diffusers_unet import DiffusersSplitUNet

ITERATIONS = 8
SIDE = 128  # the picture's; the latent has 16, the supervision grid 64


class NaiveDrag:
    """One evaluation gives epsilon and the resized tap feature, with the middle block's output replaced."""

    def __init__(self, unet, latent, timestep, prompt):
        self.unet, self.latent, self.timestep, self.prompt = unet, latent, timestep, prompt

    def __call__(self, bottleneck=None):
        seen = {}

        def middle(module, arguments, output):
            seen["bottleneck"] = output
            return bottleneck

        def tap(module, arguments, output):
            seen["feature"] = output

        hooks = [self.unet.mid_block.register_forward_hook(middle), self.unet.up_blocks[1].register_forward_hook(tap)]
        epsilon = self.unet(self.latent, self.timestep, encoder_hidden_states=self.prompt).sample
        for hook in hooks:
            hook.remove()
        feature = functional.interpolate(seen["feature"], (SIDE // 2, SIDE // 2), mode="bilinear")
        return epsilon, feature, seen["bottleneck"]


def naive_optimisation(unet, latent, timestep, previous, prompt, handles, targets, mask, learning_rate, weight):
    """DragNoise's optimisation from the paper's formulas; points as (row, column) on the half-size map."""
    alpha_bar = torch.cumprod(1 - torch.linspace(0.00085**0.5, 0.012**0.5, 1000, dtype=torch.float64) ** 2, 0)
    a, a_previous = float(alpha_bar[timestep]), float(alpha_bar[previous])

    def ddim_step(epsilon):
        clean = (latent - (1 - a) ** 0.5 * epsilon) / a**0.5
        return a_previous**0.5 * clean + (1 - a_previous) ** 0.5 * epsilon

    def patch(feature, y, x):
        y0, x0 = int(y // 1), int(x // 1)
        fy, fx = y - y0, x - x0

        def cut(top, left):
            return feature[:, :, top - 1 : top + 2, left - 1 : left + 2]

        upper = cut(y0, x0) * (1 - fx) + cut(y0, x0 + 1) * fx
        return upper * (1 - fy) + (cut(y0 + 1, x0) * (1 - fx) + cut(y0 + 1, x0 + 1) * fx) * fy

    evaluate = NaiveDrag(unet, latent, timestep, prompt)
    epsilon, original, bottleneck = evaluate()
    step_before = ddim_step(epsilon)
    bottleneck = bottleneck.clone().requires_grad_(True)
    optimiser = torch.optim.Adam([bottleneck], lr=learning_rate)
    points, losses, path = [list(h) for h in handles], [], []
    for iteration in range(ITERATIONS):
        epsilon, feature, _ = evaluate(bottleneck)
        if iteration:
            for i, (row, column) in enumerate(handles):
                wanted = original[0, :, row, column]
                best = None
                for y in range(points[i][0] - 3, points[i][0] + 4):
                    for x in range(points[i][1] - 3, points[i][1] + 4):
                        distance = (feature[0, :, y, x] - wanted).abs().sum().item()
                        if best is None or distance < best[0]:
                            best = (distance, [y, x])
                points[i] = best[1]
        path.append([list(p) for p in points])
        loss = 0.0
        for (y, x), (ty, tx) in zip(points, targets, strict=True):
            dy, dx = ty - y, tx - x
            length = (dy**2 + dx**2) ** 0.5
            if length < 2:
                continue
            ahead = patch(feature, y + dy / length, x + dx / length)
            loss = loss + 9 * functional.l1_loss(ahead, patch(feature, y, x).detach())
        if mask is not None:
            loss = loss + weight * ((ddim_step(epsilon) - step_before) * (1 - mask)).abs().sum()
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return bottleneck.detach(), losses, path


# The mask term's gradient is a sum of signs of differences near zero: only float64 decides them alike in two programs.
@pytest.mark.parametrize(("masked", "dtype"), [(False, torch.float32), (False, torch.float64), (True, torch.float64)])
def test_paper_equals_the_plain_transcription(masked, dtype):
    unet, table = small_unet().to(dtype), scaled_linear_sigmas()
    generator = torch.Generator().manual_seed(10)
    latent = torch.randn(1, 4, 16, 16, generator=generator).to(dtype)
    prompt = torch.randn(1, 3, 16, generator=generator).to(dtype)
    handles, targets = [(30, 25), (35, 45)], [(26, 32), (45, 40)]
    mask = torch.zeros(1, 1, 16, 16, dtype=dtype)
    mask[..., 4:12, 4:14] = 1
    config = preset("paper", iterations=ITERATIONS)

    bottleneck, losses, path = naive_optimisation(
        unet, latent, 681, 661, prompt, handles, targets, mask if masked else None,
        config.learning_rate, config.mask_weight,
    )  # fmt: skip

    sigmas = ddim_sigmas(table, 50, 0.7)
    to_pixels = [(((c + 0.5) * 2, (r + 0.5) * 2), ((u + 0.5) * 2, (t + 0.5) * 2))
                 for (r, c), (t, u) in zip(handles, targets, strict=True)]  # fmt: skip
    edit = optimise(
        DiffusersSplitUNet(unet, prompt),
        latent * float((1 + sigmas[0] ** 2).sqrt()),
        sigmas,
        DragPoints.from_pairs(to_pixels, SIDE, SIDE),
        mask=mask[0] if masked else None,
        config=config,
    )

    torch.testing.assert_close(edit.losses, torch.tensor(losses), rtol=1e-4, atol=0)
    cells = edit.path[:ITERATIONS] / 2 - 0.5
    assert cells.flip(-1).tolist() == path
    assert any(points != [list(h) for h in handles] for points in path), "the points never moved: nothing was compared"
    assert (edit.bottlenecks - edit.originals).abs().max() > ITERATIONS * config.learning_rate / 2
    torch.testing.assert_close(edit.bottlenecks, bottleneck.float(), rtol=1e-4, atol=1e-4)
