import pytest
import torch
from toy_unet import ToyUNet

from dragnoise_core.background import changed_share, keep_background, keep_pixels
from dragnoise_core.configuration import preset
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.inversion import InversionPath, inversion_path
from dragnoise_core.optimisation import drag, optimise
from dragnoise_core.points import DragPoints
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import ddim_sigmas, scaled_linear_sigmas, to_variance_preserving

SIGMAS = ddim_sigmas(scaled_linear_sigmas(), 20, 0.7)
POINTS = DragPoints.from_pairs([((50, 60), (80, 66))], 128, 128)


def random(*shape, seed=0, dtype=torch.float64):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def test_small_changes_go_back_and_large_ones_stay():
    change = torch.zeros(1, 4, 24, 8)
    change[:, :, :8], change[:, :, 16:] = 0.05, 2.0
    share = changed_share(change, 0.3)[0, 0]
    assert share[:13].max() < 0.001 and share[15:].min() > 0.99
    torch.testing.assert_close(changed_share(torch.full((1, 4, 3, 3), 0.3), 0.3), torch.full((1, 1, 3, 3), 0.5))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_nothing_is_left_of_a_change_outside_the_mask(dtype):
    clean, source = (random(1, 4, 8, 8, seed=seed).to(dtype) for seed in (0, 1))
    mask = torch.zeros(1, 1, 8, 8)
    mask[..., :4] = 1
    kept = keep_background(clean, source, threshold=0.1, mask=mask)
    assert torch.equal(kept[..., 4:], source[..., 4:])
    assert (kept[..., :4] != source[..., :4]).all()
    assert torch.equal(keep_background(clean, source, threshold=None, mask=mask), clean)


def test_what_the_mask_forbids_comes_out_as_the_unedited_picture():
    mask = torch.zeros(128, 128)
    mask[40:80, 30:100] = 1
    outside = torch.nn.functional.max_pool2d(mask[None, None], 8)[0, 0] == 0
    x = random(1, 4, 16, 16, dtype=torch.float32) * float(SIGMAS[0])
    config = preset("default", iterations=28)
    edited = sample(ToyUNet(), x, SIGMAS, edit=optimise(ToyUNet(), x, SIGMAS, POINTS, mask=mask, config=config))
    source = sample(ToyUNet(), x, SIGMAS)
    torch.testing.assert_close(edited[..., outside], source[..., outside], rtol=1e-4, atol=1e-4)
    assert (edited - source)[..., ~outside].abs().max() > 0.01


def test_cancelling_works_after_the_last_gradient_step():
    class Stopped(Exception):
        pass

    def stop(progress):
        if progress.phase == "sampling" and progress.step == 9:
            raise Stopped

    x = random(1, 4, 16, 16, dtype=torch.float32) * float(SIGMAS[0])
    with pytest.raises(Stopped):
        optimise(ToyUNet(), x, SIGMAS, POINTS, config=preset("default", iterations=3, drag_steps=3), callback=stop)


def test_pixels_stay_where_no_change_is_seen_and_are_the_new_ones_where_it_is():
    before, reconstruction = random(1, 3, 64, 64, seed=1), random(1, 3, 64, 64, seed=2)
    picture = reconstruction + 0.01 * random(1, 3, 64, 64, seed=3).clamp(-1, 1)
    picture[..., :16] += 0.5
    kept = keep_pixels(picture, (before, reconstruction))
    torch.testing.assert_close(kept[..., 36:], before[..., 36:], rtol=0, atol=1e-3)
    torch.testing.assert_close(kept[..., :16], picture[..., :16], rtol=0, atol=1e-3)
    assert torch.equal(keep_pixels(reconstruction, (before, reconstruction)), before)
    assert torch.equal(keep_pixels(picture), picture)


def test_what_moved_keeps_the_warped_pictures_pixels_and_what_the_model_made_its_own():
    warped, before = random(1, 3, 96, 64, seed=1), random(1, 3, 96, 64, seed=2)
    again = random(1, 3, 96, 64, seed=3), random(1, 3, 96, 64, seed=4)
    picture = random(1, 3, 96, 64, seed=5)
    picture[..., :32, :], picture[..., 64:, :] = again[0][..., :32, :], again[1][..., 64:, :]
    kept = keep_pixels(picture, (warped, again[0]), (before, again[1]))
    for rows, wanted in ((slice(0, 12), warped), (slice(50, 52), picture), (slice(84, 96), before)):
        torch.testing.assert_close(kept[..., rows, :], wanted[..., rows, :], rtol=0, atol=1e-3)


def inverted():
    sigmas = SIGMAS.float()
    return ToyUNet(), inversion_path(ToyUNet(), torch.randn(1, 4, 16, 16), sigmas), sigmas


def test_along_the_inversions_path_what_may_not_change_ends_at_the_picture_itself():
    """Sampling the unedited picture again would miss it by the inversion's error."""
    unet, path, sigmas = inverted()
    mask = torch.zeros(128, 128)
    mask[:, 64:] = 1
    picture = to_variance_preserving(path.latents[-1], float(sigmas[-1]))[..., :8]
    config = preset("default", iterations=14, stop_distance=0.5)

    def missed(path):
        dragged = drag(unet, noisy, sigmas, POINTS, mask=mask, config=config, path=path)
        clean = sample(unet, dragged.latent, sigmas, edit=dragged.edit, start=dragged.level)
        return float((clean[..., :8] - picture).abs().max())

    noisy = path.latents[0]
    assert missed(path) < 1e-4 < missed(None)


def test_the_path_saves_evaluations_and_must_fit():
    (unet, path, sigmas), (walking, *_) = inverted(), inverted()
    config = preset("default", iterations=14, drag_steps=2, stop_distance=0.5)
    drag(unet, path.latents[0], sigmas, POINTS, config=config, path=path)
    drag(walking, path.latents[0], sigmas, POINTS, config=config)
    # One whole decoding a level fewer; the levels that are optimised still need the picture's features.
    assert walking.decodings["full"] - unet.decodings["full"] == len(sigmas) - 1
    assert unet.decodings["tap"] - walking.decodings["tap"] == 2
    with pytest.raises(DragNoiseError, match="3 latents for 15 noise levels"):
        drag(unet, path.latents[0], sigmas, POINTS, config=config, path=InversionPath(path.latents[:3]))


def test_features_that_the_inversion_kept_are_those_that_are_computed_without():
    latent, sigmas = torch.randn(1, 4, 16, 16), SIGMAS.float()
    config = preset("default", iterations=14, drag_steps=4, stop_distance=0.5)
    assert config.compared_steps == 4
    edits, evaluations = [], []
    for features in (0, 2, 4):
        unet = ToyUNet()
        path = inversion_path(unet, latent, sigmas, features=features)
        before = unet.decodings["tap"]
        edits.append(drag(unet, path.latents[0], sigmas, POINTS, config=config, path=path).edit)
        evaluations.append(unet.decodings["tap"] - before)
    assert evaluations[0] - evaluations[1] == evaluations[1] - evaluations[2] == 2
    for edit in edits[1:]:
        torch.testing.assert_close(edit.bottlenecks, edits[0].bottlenecks)
        torch.testing.assert_close(edit.corrections, edits[0].corrections)
