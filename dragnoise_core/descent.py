"""The optimisers that take the gradient steps."""

import torch
from torch import Tensor

from .configuration import OptimisationConfig


def bounded(bottleneck: Tensor, own: Tensor, bound: float) -> Tensor:
    """Return a bottleneck whose difference from the level's own has at most `bound` times its root mean square.

    bottleneck, own: [1, C, h, w]. The difference is shortened, not turned; a bound of 0 leaves it as it is.
    """
    if not bound:
        return bottleneck
    difference = bottleneck - own
    size, limit = root_mean_square(difference), bound * root_mean_square(own)
    return own + difference * (limit / size.clamp_min(torch.finfo(size.dtype).tiny)).clamp_max(1)


def root_mean_square(x: Tensor) -> Tensor:
    """Return a scalar, float32 or wider: squares of float16 would overflow from 256 on."""
    return x.to(torch.promote_types(x.dtype, torch.float32)).square().mean().sqrt()


def choose_descent(config: OptimisationConfig, leaf: Tensor, own: Tensor) -> torch.optim.Optimizer:
    """Return the optimiser of a bottleneck, a leaf, that the configuration asks for: Adam or `NormalisedDescent`.

    own: the level's own bottleneck, in whose root mean square the learning rate of the latter is given.
    """
    if config.descent == "adam":
        return torch.optim.Adam([leaf], lr=config.learning_rate, fused=leaf.is_cuda)
    return NormalisedDescent([leaf], lr=config.learning_rate * root_mean_square(own))


class NormalisedDescent(torch.optim.Optimizer):
    """Gradient descent in steps of one size: the gradient over its own root mean square, smoothed by momentum.

    Adam moves every entry by about the learning rate, even those that the loss hardly depends on, and the whole
    picture drifts. Here an entry moves in proportion to its gradient; lr is the root mean square of a step.
    """

    def __init__(self, params, lr: float | Tensor, momentum: float = 0.5) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along every parameter's `grad`; where that is zero, the momentum alone moves the parameter."""
        for group in self.param_groups:
            for parameter in group["params"]:
                gradient = parameter.grad
                # The smallest normal number: it changes no gradient but zero.
                size = root_mean_square(gradient).clamp_min(torch.finfo(gradient.dtype).tiny)
                state = self.state[parameter]
                direction = torch.lerp(gradient / size, state.get("direction", gradient / size), group["momentum"])
                state["direction"] = direction
                parameter.sub_(group["lr"] * direction)
