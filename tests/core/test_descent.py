import pytest
import torch

from dragnoise_core.configuration import PRESETS
from dragnoise_core.descent import NormalisedDescent, bounded, choose_descent


def test_the_first_step_has_the_learning_rate_as_its_root_mean_square_and_the_gradients_direction():
    gradient = torch.randn(3, 4, generator=torch.Generator().manual_seed(0))
    x = torch.zeros(3, 4, requires_grad=True)
    for scale in (1e-12, 1.0, 1e12):
        moved = x.detach().clone().requires_grad_(True)
        moved.grad = gradient * scale
        NormalisedDescent([moved], lr=0.3).step()
        step = -moved.detach()
        assert float(step.square().mean().sqrt()) == pytest.approx(0.3, rel=1e-4)
        torch.testing.assert_close(step / step.norm(), gradient / gradient.norm())


@pytest.mark.parametrize("scale", [0.01, 1.0, 100.0])
def test_a_normalised_step_is_a_part_of_the_bottleneck_whatever_its_unit(scale):
    generator = torch.Generator().manual_seed(1)
    own, gradient = scale * torch.randn(1, 8, 4, 4, generator=generator), torch.randn(1, 8, 4, 4, generator=generator)
    leaf = own.clone().requires_grad_(True)
    leaf.grad = gradient
    choose_descent(PRESETS["default"], leaf, own).step()
    part = (leaf.detach() - own).norm() / own.norm()
    assert float(part) == pytest.approx(PRESETS["default"].learning_rate, rel=1e-4)


def test_a_bottleneck_of_half_precision_may_have_large_entries():
    own = torch.tensor([1000.0, -2000.0, 0.5, 3.0]).half()
    leaf = own.clone().requires_grad_(True)
    leaf.grad = torch.ones_like(leaf)
    choose_descent(PRESETS["default"], leaf, own).step()
    held = bounded(leaf.detach(), own, 0.01)
    assert held.dtype == torch.float16 and held.isfinite().all()
    expected = 0.01 * own.float().square().mean().sqrt()
    assert float((held - own).float().square().mean().sqrt()) == pytest.approx(float(expected), rel=0.05)


def test_a_small_gradient_of_half_precision_makes_a_whole_step():
    x = torch.zeros(4, dtype=torch.float16, requires_grad=True)
    x.grad = torch.tensor([2e-4, -2e-4, 2e-4, -2e-4]).half()
    NormalisedDescent([x], lr=0.5).step()
    torch.testing.assert_close(x.detach().abs(), torch.full_like(x, 0.5), atol=1e-2, rtol=0)


def test_an_entry_without_gradient_stays():
    x = torch.zeros(2, requires_grad=True)
    optimiser = NormalisedDescent([x], lr=0.1)
    for _ in range(5):
        x.grad = torch.tensor([2.0, 0.0])
        optimiser.step()
    assert x[1] == 0 and x[0] < 0


def test_a_gradient_of_zero_is_no_division_by_zero():
    x = torch.ones(3, requires_grad=True)
    x.grad = torch.zeros(3)
    NormalisedDescent([x], lr=0.1).step()
    assert x.tolist() == [1, 1, 1]


def test_it_comes_to_the_minimum_within_a_step():
    x = torch.tensor([3.0, -2.0], requires_grad=True)
    optimiser = NormalisedDescent([x], lr=0.05)
    for _ in range(200):
        (x.grad,) = torch.autograd.grad((x - torch.tensor([1.0, 1.0])).square().sum(), [x])
        optimiser.step()
    assert (x - 1).abs().max() < 0.2
