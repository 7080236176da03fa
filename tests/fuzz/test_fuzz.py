"""Whatever comes in is taken or refused in one sentence: no traceback, no hang, nothing half-written."""

import doors
import inputs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dragnoise_core.configuration import preset
from dragnoise_core.edit import save_edit
from dragnoise_core.optimisation import optimise
from dragnoise_core.points import DragPoints
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas


@given(inputs.POINTS_TEXT)
def test_points_strings(text):
    doors.points_string(text)


@given(inputs.POINTS_FILE)
def test_points_files(content):
    doors.points_file(content)


@given(inputs.PICTURE)
def test_pictures(content):
    doors.picture(content)


@given(inputs.PICTURE)
def test_masks(content):
    doors.mask(content)


@pytest.fixture(scope="module")
def whole_edit(tmp_path_factory):
    import torch
    from toy_unet import ToyUNet

    points = DragPoints.from_pairs([((20, 30), (50, 30))], 64, 48)
    sigmas = ddim_sigmas(scaled_linear_sigmas(), 5, 0.6).float()
    x = torch.randn(1, 4, 7, 9, generator=torch.Generator().manual_seed(0)) * float(sigmas[0])
    path = tmp_path_factory.mktemp("edit") / "edit.safetensors"
    save_edit(optimise(ToyUNet(), x, sigmas, points, config=preset("paper", iterations=2)), path)
    return path.read_bytes()


@given(st.data())
def test_edit_files(whole_edit, data):
    doors.edit_file(data.draw(inputs.edit_bytes(whole_edit)))


@given(inputs.CHECKPOINT)
def test_checkpoints_headers(content):
    doors.checkpoint(content)


@given(inputs.model_folder())
def test_models_folders(files):
    doors.folder(files)


@given(inputs.OPTIONS)
def test_options(arguments):
    doors.options(arguments)
