import json
import struct
from dataclasses import replace

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from toy_unet import ToyUNet

from dragnoise_core.configuration import preset
from dragnoise_core.edit import TENSORS, DragEdit, load_edit, save_edit
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.optimisation import drag, optimise
from dragnoise_core.points import DragPoints
from dragnoise_core.propagation import active_optimisation, correct, propagate
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas

SIGMAS = ddim_sigmas(scaled_linear_sigmas(), 20, 0.5)


def made_edit(drag_steps=1, **overrides) -> tuple[DragEdit, torch.Tensor]:
    x = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)) * float(SIGMAS[0])
    points = DragPoints.from_pairs([((20, 30), (50, 30))], 64, 64)
    config = preset("paper", iterations=4 * drag_steps, drag_steps=drag_steps, stop_distance=0.5, **overrides)
    return optimise(ToyUNet(), x, SIGMAS, points, config=config), x


def invented_edit(**settings) -> DragEdit:
    """Two optimised levels, 10 and 5, of the schedule 10, 5, 2, 1, 0.5."""
    return DragEdit(
        bottlenecks=torch.tensor([3.0, 7.0]).reshape(2, 1, 1, 1),
        corrections=torch.zeros(0, 4, 8, 8),
        originals=torch.tensor([1.0, 2.0]).reshape(2, 1, 1, 1),
        sigmas=torch.tensor([10.0, 5.0]),
        schedule=torch.tensor([10.0, 5.0, 2.0, 1.0, 0.5]),
        path=torch.zeros(1, 1, 2),
        losses=torch.ones(1),
        mask=torch.zeros(0, 8, 8),
        points=DragPoints.from_pairs([((1, 1), (2, 2))], 8, 8),
        config=preset("paper", **settings),
    )


HELD = {"warp": 0.8, "background": 0.001}


@pytest.mark.parametrize("held", [{}, HELD])
@pytest.mark.parametrize("drag_steps", [1, 3])
@pytest.mark.parametrize("propagation", ["replace", "delta"])
def test_a_saved_edit_makes_the_same_picture(tmp_path, drag_steps, propagation, held):
    edit, x = made_edit(drag_steps, propagation=propagation, **held)
    assert len(edit.bottlenecks) == drag_steps
    edit = replace(edit, diverged=2)
    save_edit(edit, tmp_path / "a.safetensors")
    loaded = load_edit(tmp_path / "a.safetensors")
    assert (loaded.points, loaded.config, loaded.iterations) == (edit.points, edit.config, edit.iterations)
    assert loaded.diverged == 2
    unet = ToyUNet()
    edited = sample(unet, x, SIGMAS, edit=edit)
    assert torch.equal(sample(unet, x, SIGMAS, edit=loaded), edited)
    assert (edited - sample(unet, x, SIGMAS)).abs().max() > 1e-3
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.safetensors"]


@pytest.mark.parametrize("held", [{}, HELD])
@pytest.mark.parametrize("propagation", ["replace", "delta"])
def test_sampling_walks_the_path_that_was_optimised(propagation, held):
    """Every optimised level's own bottleneck in sampling is the one that the optimisation started from."""
    edit, x = made_edit(3, propagation=propagation, **held)

    class Watching(ToyUNet):
        seen: list = []

        def encode(self, x, sigma, *, middle=True):
            encoded = super().encode(x, sigma)
            self.seen.append(encoded.bottleneck)
            return encoded

    sample(Watching(), x, SIGMAS, edit=edit)
    torch.testing.assert_close(torch.cat(Watching.seen[:3]), edit.originals, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("propagation", "free_steps", "computed"),
    [("replace", 0, 0), ("replace", 4, 4), ("delta", 0, len(SIGMAS) - 1)],
)
def test_a_bottleneck_that_is_replaced_is_not_computed(propagation, free_steps, computed):
    edit, x = made_edit(propagation=propagation, free_steps=free_steps)

    class Whole(ToyUNet):
        def encode(self, x, sigma, *, middle=True):
            return super().encode(x, sigma)

    unet, whole = ToyUNet(), Whole()
    assert torch.equal(sample(unet, x, SIGMAS, edit=edit), sample(whole, x, SIGMAS, edit=edit))
    assert (unet.middles, whole.middles) == (computed, len(SIGMAS) - 1)


@pytest.mark.parametrize(
    ("propagation", "free_steps", "expected"),
    [
        ("replace", 0, {20.0: 100, 10.0: 3, 7.0: 3, 5.0: 7, 3.0: 7, 1.0: 7, 0.5: 7}),
        ("delta", 0, {20.0: 100, 10.0: 102, 7.0: 102, 5.0: 105, 2.0: 105, 0.5: 105}),
        # Four steps start at 10, 5, 2 and 1: the last two are free, whatever levels a sampler visits between them.
        ("replace", 2, {10.0: 3, 5.0: 7, 2.5: 7, 2.0: 100, 1.5: 100, 1.0: 100}),
        ("replace", 9, {10.0: 100, 5.0: 100}),
    ],
)
def test_noise_levels_decide_which_bottleneck_acts(propagation, free_steps, expected):
    edit = invented_edit(propagation=propagation, free_steps=free_steps)
    own = torch.full((2, 1, 1, 1), 100.0)
    assert {s: propagate(edit, own, s).unique().item() for s in expected} == expected


@pytest.mark.parametrize("free_steps", [0, 4])
@pytest.mark.parametrize("held", [{}, HELD])
def test_sampling_goes_on_where_the_optimisation_ended(held, free_steps):
    _, x = made_edit()
    points = DragPoints.from_pairs([((20, 30), (50, 30))], 64, 64)
    config = preset(
        "default", iterations=9, drag_steps=3, free_steps=free_steps, **{"warp": 0, "background": 0, **held}
    )
    dragged = drag(ToyUNet(), x, SIGMAS, points, config=config)
    assert dragged.level == (len(SIGMAS) - 1 - free_steps if held else 3)
    assert len(dragged.edit.corrections) == (dragged.level if held else 0)
    whole = sample(ToyUNet(), x, SIGMAS, edit=dragged.edit)
    rest = sample(ToyUNet(), dragged.latent, SIGMAS, edit=dragged.edit, start=dragged.level)
    torch.testing.assert_close(rest, whole, rtol=1e-4, atol=1e-4)


def test_corrections_act_from_their_level_down_and_by_strength():
    edit = replace(invented_edit(), corrections=torch.tensor([1.0, 10.0, 100.0]).reshape(3, 1, 1, 1).expand(3, 4, 8, 8))
    clean = torch.full((2, 4, 8, 8), 1000.0)
    expected = {20.0: 1000, 10.0: 1001, 7.0: 1001, 5.0: 1010, 2.0: 1100, 0.5: 1100}
    assert {sigma: correct(edit, clean, sigma).unique().item() for sigma in expected} == expected
    assert correct(edit, clean, 10.0, 0.5).unique().item() == 1000.5
    free = replace(edit, config=replace(edit.config, free_steps=2))
    assert {sigma: correct(free, clean, sigma).unique().item() for sigma in (5.0, 2.0)} == {5.0: 1010, 2.0: 1000}
    with pytest.raises(DragNoiseError, match="4 x 8 x 8.*4 x 9 x 8"):
        correct(edit, torch.zeros(1, 4, 9, 8), 5.0)


def test_rounded_sigmas_are_the_same_level():
    edit = invented_edit()
    assert active_optimisation(edit, 10.0 * (1 + 2e-6)) == 0
    assert active_optimisation(edit, 5.0 * (1 + 2e-6)) == 1
    assert active_optimisation(edit, 10.1) is None


def test_the_result_is_a_new_tensor_of_the_models_dtype():
    edit = invented_edit()
    own = torch.full((3, 1, 1, 1), 100.0, dtype=torch.float16)
    result = propagate(edit, own, 4.0)
    assert result.dtype == torch.float16 and result.is_contiguous()
    result += 1
    assert edit.bottlenecks[1].item() == 7


def test_another_models_bottleneck_is_refused_with_both_shapes():
    with pytest.raises(DragNoiseError, match="1 x 1 x 1.*8 x 4 x 4"):
        propagate(invented_edit(), torch.zeros(1, 8, 4, 4), 1.0)


def test_another_schedule_is_refused():
    edit, x = made_edit()
    with pytest.raises(DragNoiseError, match="does not visit"):
        sample(ToyUNet(), x, ddim_sigmas(scaled_linear_sigmas(), 13, 0.5), edit=edit)


def write(file, metadata, **changes):
    edit, _ = made_edit()
    tensors = {n: getattr(edit, n) for n in TENSORS}
    save_file({n: t.contiguous() for n, t in {**tensors, **changes}.items() if t is not None}, file, metadata)


def good_description():
    edit, _ = made_edit()
    return {"version": 1, "points": edit.points.to_json(), "config": edit.config.__dict__}


def test_an_edit_of_version_0_1_is_read(tmp_path):
    description = good_description()
    description["config"] = {**description["config"], "template": "original", "identity": 1.0, "supervision": "lattice"}
    for name in ("warp", "bottleneck_change"):
        del description["config"][name]
    write(tmp_path / "edit.safetensors", {"dragnoise-edit": json.dumps(description)}, mask=None)
    loaded = load_edit(tmp_path / "edit.safetensors")
    assert loaded.config.supervision == "dense" and loaded.diverged == 0 and len(loaded.mask) == 0


@pytest.mark.parametrize(
    "spoil",
    [
        lambda d: d.update(version=2),
        lambda d: d.pop("points"),
        lambda d: d.update(points="[[1,1],[2,2]]"),
        lambda d: d.update(points=5),
        lambda d: d.update(config={"learning_rate": 1e9}),
        lambda d: d.update(config={"__class__": "x"}),
        lambda d: d.update(config=[]),
    ],
)
def test_spoilt_descriptions_are_refused(tmp_path, spoil):
    description = good_description()
    spoil(description)
    write(tmp_path / "edit.safetensors", {"dragnoise-edit": json.dumps(description)})
    with pytest.raises(DragNoiseError):
        load_edit(tmp_path / "edit.safetensors")


@pytest.mark.parametrize(
    "changes",
    [
        {"bottlenecks": torch.zeros(1, 8, 4, 5)},
        {"bottlenecks": torch.full((1, 8, 4, 4), float("nan"))},
        {"bottlenecks": torch.zeros(1, 8, 4, 4, dtype=torch.float16)},
        {"sigmas": torch.zeros(3)},
        {"corrections": torch.zeros(len(SIGMAS), 4, 8, 8)},
        {"path": torch.zeros(2, 5, 2)},
        {"path": torch.zeros(0, 1, 2)},
        {"schedule": torch.tensor([1.0, 2.0])},
        {"schedule": torch.linspace(20, 1, 5000)},
        {"losses": None},
        {"extra": torch.zeros(1)},
    ],
)
def test_spoilt_tensors_are_refused(tmp_path, changes):
    path = tmp_path / "edit.safetensors"
    write(path, {"dragnoise-edit": json.dumps(good_description())})
    load_edit(path)
    write(path, {"dragnoise-edit": json.dumps(good_description())}, **changes)
    with pytest.raises(DragNoiseError):
        load_edit(path)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not an edit",
        b"\x80\x04cos\nsystem\n(S'echo'\ntR.",  # a pickle
        struct.pack("<Q", 2**60) + b"{}",
        struct.pack("<Q", 2) + b"{}",
        struct.pack("<Q", 300) + b'{"a":{"dtype":"F32","shape":[1000000,1000000],"data_offsets":[0,4]}}'.ljust(300),
    ],
)
def test_foreign_files_are_refused(tmp_path, content):
    path = tmp_path / "edit.safetensors"
    path.write_bytes(content)
    with pytest.raises(DragNoiseError, match=str(path)):
        load_edit(path)


def test_missing_and_huge_files_are_refused(tmp_path):
    with pytest.raises(DragNoiseError, match="no edit file"):
        load_edit(tmp_path / "none.safetensors")
    huge = tmp_path / "huge.safetensors"
    with huge.open("wb") as file:
        file.truncate(2**30)
    with pytest.raises(DragNoiseError, match="512 MiB"):
        load_edit(huge)


def test_a_failed_save_leaves_the_old_file(tmp_path):
    edit, _ = made_edit()
    with pytest.raises(DragNoiseError, match="cannot write"):
        save_edit(edit, tmp_path / "nowhere" / "a.safetensors")
    (tmp_path / "taken").mkdir()
    with pytest.raises(DragNoiseError, match="cannot write"):
        save_edit(edit, tmp_path / "taken")
    assert [entry.name for entry in tmp_path.iterdir()] == ["taken"]


def test_parts_that_do_not_fit_are_no_edit():
    with pytest.raises(DragNoiseError, match="fit together"):
        replace(invented_edit(), sigmas=torch.ones(5))


@pytest.mark.parametrize(
    "name", ["bottlenecks", "originals", "sigmas", "schedule", "path", "losses", "points", "config"]
)
def test_an_altered_edit_is_noticed(tmp_path, name):
    save_edit(made_edit()[0], tmp_path / "edit.safetensors")
    with safe_open(tmp_path / "edit.safetensors", "pt") as file:
        tensors, metadata = {key: file.get_tensor(key) for key in file.keys()}, file.metadata()
    description = json.loads(metadata["dragnoise-edit"])
    if name == "points":
        description["points"] = description["points"].replace("50", "51")
    elif name == "config":
        description["config"]["learning_rate"] *= 2
    else:
        tensors[name] = tensors[name] * (1 + 1e-6)
    save_file(tensors, tmp_path / "altered.safetensors", {"dragnoise-edit": json.dumps(description)})
    with pytest.raises(DragNoiseError, match="was altered since it was saved"):
        load_edit(tmp_path / "altered.safetensors")
