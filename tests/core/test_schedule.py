import pytest
import torch
from diffusers import DDIMScheduler

from dragnoise_core.errors import DragNoiseError
from dragnoise_core.schedule import (
    check_sigmas,
    ddim_sigmas,
    ddim_timesteps,
    nearest_timestep,
    scaled_linear_sigmas,
    to_variance_exploding,
    to_variance_preserving,
)

TABLE = scaled_linear_sigmas()


def published_scheduler(steps):
    scheduler = DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        set_alpha_to_one=False,
        steps_offset=1,
    )
    scheduler.set_timesteps(steps)
    return scheduler


@pytest.mark.parametrize("steps", [1, 2, 3, 7, 20, 30, 50, 75, 99, 333, 500, 501, 750, 999])
def test_timesteps_are_those_of_the_diffusers_scheduler(steps):
    assert ddim_timesteps(steps) == published_scheduler(steps).timesteps.tolist()


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("steps", [7, 30, 50])
def test_euler_in_sigma_space_is_ddim(steps, prediction_type):
    scheduler = published_scheduler(steps)
    scheduler.register_to_config(prediction_type=prediction_type)
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(1, 4, 8, 8, generator=generator)
    sigmas = ddim_sigmas(TABLE, steps)
    x = to_variance_exploding(z, sigmas[0])
    for timestep, sigma, following in zip(scheduler.timesteps, sigmas[:-1], sigmas[1:], strict=True):
        output = torch.randn(1, 4, 8, 8, generator=generator)
        epsilon = output
        if prediction_type == "v_prediction":
            alpha_bar = scheduler.alphas_cumprod[timestep]
            epsilon = alpha_bar.sqrt() * output + (1 - alpha_bar).sqrt() * z
        z = scheduler.step(output, timestep, z).prev_sample
        x = x + epsilon * (following - sigma)
    torch.testing.assert_close(to_variance_preserving(x, sigmas[-1]).float(), z, rtol=1e-4, atol=1e-4)


def test_strength_selects_the_last_steps_of_the_whole_schedule():
    whole = ddim_sigmas(TABLE, 50)
    part = ddim_sigmas(TABLE, 50, 0.7)
    assert len(whole) == 51 and len(part) == 36
    assert torch.equal(part, whole[-36:])
    assert part[0] == TABLE[681] and part[-1] == TABLE[0]


@pytest.mark.parametrize(
    ("steps", "strength", "named"),
    [
        (0, 0.7, "0"),
        (1000, 0.7, "1000"),
        (50, 0.0, "0.0"),
        (50, 1.5, "1.5"),
        (50, float("nan"), "nan"),
        (10, 0.01, "0.01"),
    ],
)
def test_impossible_schedules_are_refused_with_the_value(steps, strength, named):
    with pytest.raises(DragNoiseError, match=named):
        ddim_sigmas(TABLE, steps, strength)


def test_nearest_timestep_inverts_the_table_and_takes_neighbours_logarithmically():
    assert [nearest_timestep(TABLE, TABLE[t]) for t in (0, 1, 681, 999)] == [0, 1, 681, 999]
    assert nearest_timestep(TABLE, torch.tensor(0.0)) == 0
    assert nearest_timestep(TABLE, (TABLE[500] * TABLE[501]).sqrt() * 1.0001) == 501


@pytest.mark.parametrize("sigmas", [[1.0], [1.0, 2.0], [2.0, 2.0], [float("nan"), 1.0], [1.0, -1.0], [[2.0, 1.0]]])
def test_lists_that_do_not_descend_are_refused(sigmas):
    with pytest.raises(DragNoiseError, match="schedule"):
        check_sigmas(torch.tensor(sigmas))
