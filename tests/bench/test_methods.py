import pytest
import torch
from small_task import small_task

from dragnoise_core.bench.methods import drag_noise, find_method
from dragnoise_core.configuration import preset
from dragnoise_core.errors import DragNoiseError


def test_a_preset_takes_settings():
    task = small_task()
    found = find_method("paper:iterations=3:learning_rate=0.05:propagation=delta")(task)
    made = drag_noise(preset("paper", iterations=3, learning_rate=0.05, propagation="delta"))(task)
    assert found.iterations == 3
    assert torch.equal(found.latent, made.latent)


@pytest.mark.parametrize(
    "name",
    ["papers", "", "paper:", "paper:speed=3", "paper:iterations=0", "paper:iterations=much", "nothing:iterations=3"],
)
def test_what_does_not_exist_or_fit_is_refused(name):
    with pytest.raises(DragNoiseError):
        find_method(name)
