"""`dragnoise bench dragbench`."""

import json
import sys
from argparse import Namespace
from dataclasses import replace
from pathlib import Path

from ...errors import DragNoiseError
from ...schedule import ddim_sigmas, scaled_linear_sigmas
from ...standalone.models import load_model, usable_device
from ..methods import find_method
from ..output import say, write_text
from .evaluation import evaluate
from .format import find_samples
from .report import as_json, as_text
from .run import Settings, run, share, unfinished


def run_dragbench(options: Namespace) -> None:
    """Drag what has no result yet, evaluate all results and report; one process of several only drags its share.

    Raises DragNoiseError at the end when samples failed; one process of several leaves that to the evaluation, since
    torchrun would stop the others.
    """
    root, out = Path(options.folder), Path(options.out)
    rank, count, _ = share()
    failures = {} if options.evaluate else _drag(options, root, out)
    if count > 1 and not options.evaluate:
        say(f"process {rank + 1} of {count} is done, {len(failures)} samples failed; when all processes are, evaluate "
            "with the same command without torchrun and with --evaluate.")  # fmt: skip
        return
    if rank == 0:
        failures |= _evaluate(options, root, out)
    if failures:
        names = ", ".join(failures)
        raise DragNoiseError(f"{len(failures)} samples failed, the rest is done: {names}; see above for the reasons.")


def _drag(options: Namespace, root: Path, out: Path) -> dict[str, str]:
    settings = Settings(
        options.method, options.model, options.prompt, options.steps, options.strength, options.seed
    )  # fmt: skip
    if not 0 <= settings.seed < 2**63:
        raise DragNoiseError(f"--seed is {settings.seed}; choose a number from 0 to 2^63 - 1.")
    # What needs no model is checked before one is loaded.
    find_method(settings.method)
    ddim_sigmas(scaled_linear_sigmas(), settings.steps, settings.strength)
    rank, count, local = share()
    mine = dict(list(find_samples(root).items())[rank::count])
    if root.resolve() == out.resolve():
        raise DragNoiseError(f"--out is {out}, where the samples are; choose another folder.")
    out.mkdir(parents=True, exist_ok=True)
    left = unfinished(mine, out, settings, options.fresh)
    if not left:
        return {}
    device = usable_device(options.device)
    # Without torchrun, torch chooses the GPU.
    name = f"cuda:{local}" if count > 1 and device.type == "cuda" and device.index is None else str(device)
    # As the opponents run, since their seconds are compared.
    model = replace(load_model(settings.model, name, config=options.model_config), acceleration="eager")
    return run(model, left, out, settings)


def _evaluate(options: Namespace, root: Path, out: Path) -> dict[str, str]:
    evaluation = evaluate(root, out, dift=options.dift_model, lpips=options.lpips_weights, device=options.device)
    for name, reason in evaluation.failures.items():
        sys.stderr.write(f"{name}: {reason}\n")
    report = as_json(evaluation)
    write_text(out / "evaluation.json", json.dumps(report, indent=2))
    text = as_text(evaluation)
    write_text(out / "evaluation.md", text)
    say(json.dumps(report, indent=2) if options.json else text)
    return evaluation.failures
