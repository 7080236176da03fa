"""The ablations: their studies on a tiny random model, their sentences on planted numbers, the command as a whole."""

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from small_unet import small_unet
from torch.nn import functional

import dragnoise_core
from dragnoise_core.bench import ablation
from dragnoise_core.bench.ablation_replacement import Watched, replacement_study, replacements
from dragnoise_core.bench.ablation_studies import (
    Plan,
    Subject,
    block_study,
    start_study,
    stop_study,
    tap_study,
    variable_study,
)
from dragnoise_core.bench.ablation_tables import tables
from dragnoise_core.bench.methods import drag_noise
from dragnoise_core.bench.scene_drags import bench_drag
from dragnoise_core.bench.tasks import Task
from dragnoise_core.commands.command_line import main
from dragnoise_core.configuration import preset
from dragnoise_core.demo.loader import load_keypoint_regressor
from dragnoise_core.inversion import invert
from dragnoise_core.sampling import sample
from dragnoise_core.schedule import scaled_linear_sigmas
from dragnoise_core.split_unet import Decoded, Encoded
from dragnoise_core.standalone.loaded_model import LoadedModel

PLAN = Plan(steps=10, iterations=3, learning_rates=(0.02, 0.5), budgets=(1, 2))
QUICK = ["--steps", "10", "--iterations", "2", "--learning-rates", "0.1", "--budgets", "1,2", "--device", "cpu"]


@pytest.fixture(scope="module")
def model():
    """A random U-Net on the smallest of autoencoders: a latent is the picture eight times smaller."""
    unet = small_unet(
        block_out_channels=(8, 8, 8),
        norm_num_groups=4,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
    )

    def encode(picture):
        return functional.pad(functional.avg_pool2d(picture * 2 - 1, 8), (0, 0, 0, 0, 0, 1))

    def decode(latent):
        return (functional.interpolate(latent[:, :3], scale_factor=8) / 2 + 0.5).clamp(0, 1)

    embedding = torch.randn(1, 3, 16, generator=torch.Generator().manual_seed(0))
    return LoadedModel(
        "tiny", unet, scaled_linear_sigmas(), "epsilon", 256, encode, decode, lambda *arguments: (embedding, None)
    )


@pytest.fixture(scope="module")
def subject(model):
    return Subject(model, load_keypoint_regressor(), bench_drag(0, 1), PLAN)


def measures(row):
    return {name: row[name] for name in ("distance", "truth_psnr", "outside_psnr")}


class OnlyTheBottleneck:
    """A SplitUNet whose epsilon is its bottleneck, a tenth of the latent."""

    def encode(self, x, sigma, *, middle=True):
        return Encoded(x / 10, None)

    def decode(self, encoded, bottleneck, *, to_tap):
        return Decoded(bottleneck, bottleneck)


# The replacement study


def test_watching_changes_nothing_and_sees_every_step(subject):
    x, sigmas = subject.noisy(0.7), subject.sigmas(0.7)
    watched = Watched(subject.unet)
    assert torch.equal(sample(watched, x, sigmas), sample(subject.unet, x, sigmas))
    assert len(watched.latents) == len(watched.bottlenecks) == len(sigmas) - 1
    assert torch.equal(watched.latents[0], x)


def test_a_trajectorys_own_bottleneck_in_one_step_changes_nothing(subject):
    x, sigmas = subject.noisy(0.7), subject.sigmas(0.7)
    plain, last = replacements(subject.unet, x, sigmas, [1])
    assert torch.equal(plain, sample(subject.unet, x, sigmas)) and torch.equal(last, plain)


def test_where_the_bottleneck_is_all_there_is_the_recipient_takes_the_donors_way():
    noisy, sigmas = torch.randn(3, 4, 2, 2, dtype=torch.float64), torch.tensor([4.0, 2.0, 1.0, 0.0])
    plain, *replaced = replacements(OnlyTheBottleneck(), noisy, sigmas, [3, 2, 1])
    # Euler steps of dx / dsigma = x / 10: every step multiplies the latent.
    factors = 1 + (sigmas[1:] - sigmas[:-1]).double() / 10
    torch.testing.assert_close(plain, noisy * factors.prod())
    for left, found in zip((3, 2, 1), replaced, strict=True):
        before = factors[: 3 - left].prod()
        donors_way = noisy * before / 10 * -float(sigmas[3 - left])
        torch.testing.assert_close(found, noisy[:1] * before + donors_way)


def test_the_study_has_every_donor_at_every_step(subject):
    rows = list(replacement_study(subject))
    assert [(row["donor"], row["variant"]) for row in rows] == [
        (donor, steps) for donor in ("itself", "edited", "other") for steps in (9, 7, 5, 3, 1)
    ]
    assert all(row["way"] == 0 for row in rows[:5]) and all(row["way"] > 0 for row in rows[5:])
    assert rows[4]["recipient_psnr"] is None, "its own bottleneck in the last step: the same picture"
    assert all(row["donor_psnr"] == row["recipient_psnr"] for row in rows[:5])


# The other studies


def test_an_inversion_that_goes_on_from_a_lower_start_is_the_whole_one(model):
    subject = Subject(model, load_keypoint_regressor(), bench_drag(0, 1), PLAN)
    for strength in (0.5, 0.6, 0.9):
        wanted = invert(subject.unet, subject.latent, subject.sigmas(strength))
        torch.testing.assert_close(subject.noisy(strength), wanted, rtol=1e-4, atol=1e-4)


def test_the_published_variants_are_preset_paper(subject):
    task = Task(subject.unet, subject.latent, subject.noisy(0.7), subject.sigmas(0.7), subject.points)
    wanted = subject.measure(drag_noise(preset("paper", iterations=PLAN.iterations))(task).latent)
    nothing = subject.measure(sample(subject.unet, task.noisy, task.sigmas))
    assert wanted != nothing, "nothing was dragged: nothing is compared"
    for study in (start_study, tap_study, stop_study):
        (published,) = [row for row in study(subject) if row["published"]]
        assert measures(published) == pytest.approx(wanted)


def test_the_measures_are_those_of_the_scenes_bench(subject):
    latent = subject.latent + 0.1
    wanted = subject.scene.of(subject.model.decode(latent))
    assert subject.measure(latent) == pytest.approx(measures(wanted))


def test_every_study_varies_what_it_says(subject):
    assert [row["variant"] for row in start_study(subject)] == [5, 6, 7, 8, 9]
    assert [row["variant"] for row in tap_study(subject)] == ["decoder 0", "decoder 1", "decoder 2"]
    blocks = [(row["variant"], row["learning_rate"]) for row in block_study(subject)]
    names = ("encoder", "middle", "decoder 0", "decoder 1, tap 2")
    assert blocks == [(name, rate) for name in names for rate in PLAN.learning_rates]
    stops = list(stop_study(subject))
    assert [row["variant"] for row in stops] == [0, 1, 2, 3, 4, 5]
    assert len({row["distance"] for row in stops}) == 6, "freed steps changed nothing"
    for study in (start_study, tap_study, block_study):
        rows = list(study(subject))
        assert len({row["distance"] for row in rows}) == len(rows), "two variants do the same"


def test_an_edit_free_in_all_steps_but_one_acts_in_that_one(subject):
    edit = subject.edit(0.7, "middle", subject.unet.tap)
    x, sigmas = subject.noisy(0.7), subject.sigmas(0.7)
    freed = sample(subject.unet, x, sigmas, edit=replace(edit, config=replace(edit.config, free_steps=6)))
    encoded = subject.unet.encode(x, float(sigmas[0]))
    epsilon = subject.unet.decode(encoded, edit.bottlenecks, to_tap=False).epsilon
    after = x + epsilon * (sigmas[1] - sigmas[0])
    torch.testing.assert_close(freed, sample(subject.unet, after, sigmas[1:]))


def test_the_learning_rate_is_in_proportion_to_the_values_of_the_block(subject):
    seen, unet = {}, subject.unet.unet
    hooks = [
        block.register_forward_hook(lambda module, arguments, output, name=name: seen.update({name: output}))
        for name, block in (("middle", unet.mid_block), ("decoder 0", unet.up_blocks[0]))
    ]
    sample(subject.unet, subject.noisy(0.7), subject.sigmas(0.7)[:2])
    for hook in hooks:
        hook.remove()
    middle, decoder = (float(seen[name].norm()) / seen[name].numel() ** 0.5 for name in ("middle", "decoder 0"))
    found = subject.edit(0.7, "decoder 0", subject.unet.tap, 0.02).config.learning_rate
    assert found == pytest.approx(0.02 * decoder / middle, rel=1e-4)
    assert subject.edit(0.7, "middle", subject.unet.tap, 0.02).config.learning_rate == 0.02


def test_a_drag_that_arrives_early_is_the_same_under_a_larger_budget(model):
    plan = replace(PLAN, learning_rates=(2.0,), budgets=(1, 60, 120))
    subject = Subject(model, load_keypoint_regressor(), bench_drag(0, 1), plan)
    rows = list(variable_study(subject))
    assert [(row["variant"], row["budget"]) for row in rows] == [
        (variable, budget) for variable in ("bottleneck", "latent") for budget in plan.budgets
    ]
    arrived = [(row, larger) for row, larger in zip(rows[1::3], rows[2::3], strict=True) if row["iterations"] < 60]
    assert arrived, "nothing arrived early: nothing is compared"
    task = Task(subject.unet, subject.latent, subject.noisy(0.7), subject.sigmas(0.7), subject.points)
    outcome = drag_noise(preset("paper", learning_rate=2.0, iterations=120))(task)
    assert measures(rows[2]) == pytest.approx(subject.measure(outcome.latent))
    assert rows[2]["iterations"] == outcome.iterations
    for row, larger in arrived:
        assert {**row, "budget": 120} == larger


# The tables


def choice_rows(published, other):
    rows = []
    for variant, distances in (("middle", published), ("encoder", other)):
        row = {"study": "block", "variant": variant, "published": variant == "middle", "learning_rate": None}
        row |= {"truth_psnr": 20.0, "outside_psnr": 30.0, "iterations": 60}
        rows += [{**row, "drag": drag, "distance": value} for drag, value in enumerate(distances)]
    return rows


def test_a_block_is_judged_at_its_best_learning_rate():
    slow = [{**row, "learning_rate": 0.1} for row in choice_rows((10, 11, 12, 13), (9, 9, 9, 9))]
    fast = [{**row, "learning_rate": 0.2} for row in choice_rows((2, 3, 4, 5), (20, 20, 20, 20))]
    _, _, middle, encoder = tables(slow + fast)["block"].splitlines()
    assert middle.startswith("| middle (published), learning rate 0.2 |") and "3.5 [" in middle
    assert encoder.startswith("| encoder, learning rate 0.1") and "9.0 [9.0, 9.0]" in encoder


# The command


@pytest.fixture
def quick(model, monkeypatch):
    monkeypatch.setattr(ablation, "load_model", lambda name, device: model)


def test_the_command_from_end_to_end(quick, tmp_path, capsys, monkeypatch):
    out = tmp_path / "new" / "out"
    assert main(["bench", "ablation", "--count", "1", "--out", str(out), *QUICK]) == 0
    captured = capsys.readouterr()
    assert "a drag takes about" in captured.err
    for title in ablation.TITLES.values():
        assert f"## {title}" in captured.out
    assert "middle (published)" in captured.out and "Drags: 1 of seed 0" in captured.out
    assert (out / "ablation.md").read_text() + "\n" == captured.out
    with Image.open(out / "ablation.png") as plot:
        assert plot.width == 1200

    def never(*arguments):
        raise AssertionError("the plot is drawn from the results")

    monkeypatch.setattr(ablation, "load_model", never)
    again = tmp_path / "again"
    assert main(["bench", "ablation", "--plot-only", str(out / "ablation.json"), "--out", str(again)]) == 0
    assert capsys.readouterr().out == captured.out
    assert (again / "ablation.png").read_bytes() == (out / "ablation.png").read_bytes()


def test_chosen_studies_and_json(quick, tmp_path, capsys):
    arguments = ["--study", "tap,start", "--count", "1", "--out", str(tmp_path), "--json", *QUICK]
    assert main(["bench", "ablation", *arguments]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["drags"] == 1
    assert torch.__version__ in report["machine"]
    rows = json.loads((tmp_path / "ablation.json").read_text())["rows"]
    assert {row["study"] for row in rows} == {"start", "tap"} and len(rows) == 5 + 3
    assert report["rows"] == rows


def test_no_drag_is_begun_that_would_end_too_late(quick, tmp_path, capsys):
    arguments = ["--study", "tap", "--count", "3", "--minutes", "0.0001", "--out", str(tmp_path), *QUICK]
    assert main(["bench", "ablation", *arguments]) == 0
    captured = capsys.readouterr()
    assert "Drags: 1 of seed 0" in captured.out and "stopping after 0.0001" in captured.err


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--study", "stop,colour"], "no study 'colour'"),
        (["--count", "0"], "--count is 0"),
        (["--minutes", "0"], "--minutes is 0"),
        (["--steps", "5"], "--steps has 5"),
        (["--iterations", "0"], "--iterations has 0"),
        (["--learning-rates", "0.1,fast"], "--learning-rates is '0.1,fast'"),
        (["--learning-rates", "nan"], "--learning-rates has nan"),
        (["--budgets", "10,0"], "--budgets has 0"),
    ],
)
def test_impossible_options_are_refused(quick, tmp_path, capsys, options, sentence):
    assert main(["bench", "ablation", "--out", str(tmp_path), *options]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"rows": []}', '{"rows": [{"study": "colour"}]}'])
def test_other_files_are_no_results(tmp_path, capsys, text):
    path = tmp_path / "results.json"
    path.write_text(text)
    assert main(["bench", "ablation", "--plot-only", str(path)]) == 2
    assert "does not hold an ablation's results" in capsys.readouterr().err


def test_a_missing_matplotlib_is_named_before_the_work(quick, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert main(["bench", "ablation", "--out", str(tmp_path / "out"), *QUICK]) == 2
    assert "pip install 'dragnoise[bench]'" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    assert main(["bench", "ablation", "--count", "0", "--out", str(tmp_path / "out"), *QUICK]) == 2
    assert "--count is 0" in capsys.readouterr().err, "options come first"


def test_only_the_plots_import_matplotlib():
    importers = set()
    for path in Path(dragnoise_core.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if any(name.split(".")[0] == "matplotlib" for name in names):
                importers.add(path.name)
    assert importers == {"plots.py"}
