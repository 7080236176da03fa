"""DragBench's measures against the published definitions, planted matches and closed forms."""

import importlib
import math
import sys

import numpy
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline
from torch import nn
from torch.nn import functional

from dragnoise_core.bench.dragbench import dift
from dragnoise_core.bench.dragbench.appearance import RADII, drag_accuracy, outside_psnr
from dragnoise_core.bench.dragbench.dift import discs, distances, features, similarity
from dragnoise_core.bench.dragbench.fidelity import fidelity, load_lpips
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.standalone.models import load_model


def pictures(height=40, width=56):
    generator = torch.Generator().manual_seed(0)
    return torch.rand(2, 1, 3, height, width, generator=generator)


def test_features_are_what_the_published_pipeline_computes(model_folders):
    # Sides that are no multiples of 8, as most of DragBench's pictures have.
    picture, prompt = pictures(45, 61)[0], "a goat"
    model = load_model(str(model_folders["sd"]), "cpu")
    found = features(model, picture, prompt, torch.Generator().manual_seed(42))

    pipeline = StableDiffusionPipeline.from_pretrained(model_folders["sd"], safety_checker=None)
    embedding = pipeline.encode_prompt(prompt, "cpu", 1, False)[0]
    scheduler = DDIMScheduler.from_config(pipeline.scheduler.config)
    generator, seen = torch.Generator().manual_seed(42), []
    hook = pipeline.unet.up_blocks[1].register_forward_hook(lambda module, arguments, output: seen.append(output))
    with torch.no_grad():
        posterior = pipeline.vae.encode(picture * 2 - 1).latent_dist
        for latent in [posterior.sample(generator) * pipeline.vae.config.scaling_factor for _ in range(8)]:
            noise = torch.randn(latent.shape, generator=generator)
            pipeline.unet(scheduler.add_noise(latent, noise, torch.tensor(261)), 261, embedding)
    hook.remove()
    torch.testing.assert_close(found, torch.cat(seen).mean(0, keepdim=True), rtol=1e-4, atol=1e-5)
    assert torch.stack(seen).std(0).mean() > 1e-3, "the draws did not differ: nothing was averaged"


def test_similarity_is_cosine_of_features_upsampled_whole():
    torch.manual_seed(0)
    channels, size = 2 * dift.CHANNELS + 3, (23, 31)
    source, dragged = torch.randn(2, 1, channels, 6, 8)
    pixels = torch.tensor([[0, 0], [30, 22], [11, 5]])
    found = similarity(source, dragged, pixels, size)
    whole, field = (functional.interpolate(part, size, mode="bilinear") for part in (source, dragged))
    for row, (x, y) in zip(found, pixels.tolist(), strict=True):
        expected = nn.CosineSimilarity(dim=1)(whole[:, :, y, x, None, None], field)[0]
        torch.testing.assert_close(row, expected, rtol=1e-5, atol=1e-5)


def test_planted_matches_are_found_where_they_were_planted():
    torch.manual_seed(0)
    size = (20, 30)
    source = torch.randn(1, 16, *size)
    # Everything went 7 to the right and 3 down; the second target asked for just that, the first for 4 and 3 less.
    dragged = source.roll((3, 7), (2, 3))
    handles = torch.tensor([[5, 5], [10, 8]])
    targets = handles + torch.tensor([[3, 0], [7, 3]])
    similarities = similarity(source, dragged, handles, size)
    assert distances(similarities, targets).tolist() == [5, 0]
    # An untouched picture leaves the whole way to go.
    ways = distances(similarity(source, source, handles, size), targets)
    assert ways.tolist() == pytest.approx([3, math.hypot(7, 3)])


def test_a_search_stays_where_it_is_allowed():
    similarities = torch.zeros(1, 10, 12)
    similarities[0, 2, 3], similarities[0, 7, 9] = 0.9, 0.5
    target = torch.tensor([[9, 3]])
    allowed = torch.zeros(10, 12, dtype=torch.bool)
    allowed[5:] = True
    assert distances(similarities, target).item() == pytest.approx(math.hypot(6, 1))
    assert distances(similarities, target, allowed).item() == 4
    assert distances(similarities, target, allowed[None]).item() == 4
    # Similar to nothing: still a pixel that is allowed.
    assert distances(similarities * 0 - 1, target, allowed).item() == pytest.approx(math.hypot(9, 2))


def test_discs_reach_the_way_over_root_two_from_both_ends():
    handles, targets = torch.tensor([[10, 20], [40, 40]]), torch.tensor([[30, 20], [41, 40]])
    near = discs(handles, targets, (60, 70))
    for number, (handle, target) in enumerate(zip(handles.tolist(), targets.tolist(), strict=True)):
        radius = max(5, math.dist(handle, target) / math.sqrt(2))
        for y in range(60):
            for x in range(70):
                expected = min(math.dist((x, y), handle), math.dist((x, y), target)) < radius
                assert near[number, y, x] == expected


@pytest.mark.parametrize("radius", RADII)
def test_drag_accuracy_has_its_closed_forms(radius):
    source = pictures(100, 120)[0]
    shift = (14, -9)
    moved = source.roll((shift[1], shift[0]), (2, 3))
    handles = torch.tensor([[50, 60], [45, 70]])
    assert drag_accuracy(source, moved, handles, handles + torch.tensor(shift), radius) == 0
    # Grey 0.5 against grey 0.2: 0.3 squared in each of three channels, on average over any patch.
    grey = torch.full_like(source, 0.5)
    assert drag_accuracy(grey, grey - 0.3, handles, handles, radius) == pytest.approx(3 * 0.09, rel=1e-5)
    # One pixel of the patch, one channel, one pair of two.
    spot = grey.clone()
    spot[0, 1, 60, 50 - radius] += 0.4
    expected = 0.16 / (2 * radius + 1) ** 2 / 2
    far = torch.tensor([[50, 60], [100 - radius, 30]])
    assert drag_accuracy(grey, spot, far, far, radius) == pytest.approx(expected, rel=1e-4)
    # Points and targets count the other way round in the other picture.
    swapped = drag_accuracy(moved, source, handles + torch.tensor(shift), handles, radius)
    assert swapped == 0


def test_drag_accuracy_at_a_border_compares_what_both_patches_have():
    source = pictures(30, 30)[0]
    handles, targets = torch.tensor([[0, 29]]), torch.tensor([[29, 0]])
    # Only the two corner pixels themselves are in both patches.
    expected = (source[0, :, 29, 0] - source[0, :, 0, 29]).square().sum().item()
    assert drag_accuracy(source, source, handles, targets, 20) == pytest.approx(expected)


def test_outside_psnr_sees_only_what_the_mask_protects():
    source = torch.full((1, 3, 10, 10), 0.5)
    mask = torch.zeros(10, 10)
    mask[:5] = 1
    dragged = source.clone()
    dragged[:, :, :5] = 0
    assert outside_psnr(source, dragged, mask) == 100
    dragged[:, :, 5:] += 0.1
    assert outside_psnr(source, dragged, mask) == pytest.approx(20, abs=1e-4)
    assert outside_psnr(source, dragged, None) is None
    assert outside_psnr(source, dragged, torch.ones(10, 10)) is None


def test_fidelity_hands_the_metric_pictures_as_published():
    source, dragged = pictures(30, 47)
    seen = []

    def metric(first, second):
        seen.append((first, second))
        return torch.full((1, 1, 1, 1), 0.25)

    assert fidelity(metric, source, dragged) == 0.75
    for given, picture in zip(seen[0], (source, dragged), strict=True):
        assert given.shape == (1, 3, 224, 224)
        # An own bilinear resampling between pixel centres, in numpy.
        wanted = picture[0].double().numpy() * 2 - 1
        for axis in (1, 2):
            side = wanted.shape[axis]
            places = ((numpy.arange(224) + 0.5) * side / 224 - 0.5).clip(0, side - 1)
            low = numpy.floor(places).astype(int).clip(0, side - 2)
            share = (places - low).reshape((-1, 1) if axis == 1 else (-1,))
            wanted = wanted.take(low, axis) * (1 - share) + wanted.take(low + 1, axis) * share
        numpy.testing.assert_allclose(given[0].numpy(), wanted, atol=1e-5)


def test_fidelity_in_a_region_leaves_out_the_rest():
    source, dragged = pictures(224, 224)
    region = torch.zeros(224, 224, dtype=torch.bool)
    region[:56] = True

    def metric(first, second):
        return (first != second).any(1).float().mean()

    assert fidelity(metric, source, dragged) == pytest.approx(0, abs=1e-6)
    assert fidelity(metric, source, dragged, region) == pytest.approx(0.75)
    assert fidelity(metric, source, dragged, ~region) == pytest.approx(0.25)


FAKE_LPIPS = '''
import torch
from torch import nn

class LPIPS(nn.Module):
    """The package's names, one layer in each slice, and no way to load anything by itself."""

    def __init__(self, net, pretrained, pnet_rand, verbose):
        super().__init__()
        assert net == "alex" and not pretrained and pnet_rand and not verbose
        self.net = nn.Module()
        for number, layer in enumerate((0, 3, 6, 8, 10), 1):
            slice = nn.Sequential()
            slice.add_module(str(layer), nn.Conv2d(1, 1, 1))
            setattr(self.net, f"slice{number}", slice)
            setattr(self, f"lin{number - 1}", nn.Module())
            getattr(self, f"lin{number - 1}").model = nn.Sequential(nn.Dropout(), nn.Conv2d(1, 1, 1, bias=False))
'''


@pytest.fixture
def fake_lpips(tmp_path, monkeypatch):
    """A package of lpips' shape; the paths of its linear weights and of a file for AlexNet's."""
    linear = tmp_path / "lpips" / "weights" / "v0.1" / "alex.pth"
    linear.parent.mkdir(parents=True)
    (tmp_path / "lpips" / "__init__.py").write_text(FAKE_LPIPS)
    torch.save({f"lin{n}.model.1.weight": torch.full((1, 1, 1, 1), 10.0 + n) for n in range(5)}, linear)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lpips", raising=False)
    importlib.invalidate_caches()
    yield linear, tmp_path / "alexnet.pth"
    sys.modules.pop("lpips", None)


def alexnet():
    layers = {f"features.{n}.weight": torch.full((1, 1, 1, 1), float(n)) for n in (0, 3, 6, 8, 10)}
    return (
        layers
        | {key.replace("weight", "bias"): torch.zeros(1) for key in layers}
        | {"classifier.1.bias": torch.ones(1)}
    )


def test_lpips_is_filled_from_files_on_disk(fake_lpips):
    torch.save(alexnet(), fake_lpips[1])
    metric = load_lpips(str(fake_lpips[1]))
    trunk = [getattr(metric.net, f"slice{n}")[0].weight.item() for n in range(1, 6)]
    assert trunk == [0, 3, 6, 8, 10]
    assert [getattr(metric, f"lin{n}").model[1].weight.item() for n in range(5)] == [10, 11, 12, 13, 14]
    assert not metric.training and not any(parameter.requires_grad for parameter in metric.parameters())


def test_what_lpips_lacks_is_named(fake_lpips, monkeypatch, tmp_path):
    linear, file = fake_lpips
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    with pytest.raises(DragNoiseError, match="alexnet-owt-7be5be79.pth there"):
        load_lpips()
    file.write_bytes(b"text")
    with pytest.raises(DragNoiseError, match="download it again"):
        load_lpips(str(file))
    torch.save({"other": torch.zeros(1)}, file)
    with pytest.raises(DragNoiseError, match="not AlexNet"):
        load_lpips(str(file))
    torch.save(alexnet(), file)
    torch.save({"lin0.model.1.weight": torch.zeros(1, 1, 1, 1)}, linear)
    with pytest.raises(DragNoiseError, match="lpips==0.1.4"):
        load_lpips(str(file))
    (tmp_path / "lpips" / "__init__.py").write_text("import a_package_that_is_missing")
    sys.modules.pop("lpips")
    with pytest.raises(DragNoiseError, match="cannot be imported.*a_package_that_is_missing"):
        load_lpips(str(file))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(DragNoiseError, match="pip install lpips"):
        load_lpips()
