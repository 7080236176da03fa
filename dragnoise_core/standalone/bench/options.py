"""The options of `dragnoise bench ...`. The measurements themselves are imported when they run."""

import argparse


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Add every measurement to the command `bench`."""
    measurements = parser.add_subparsers(required=True, metavar="MEASUREMENT")
    _add_speed(measurements.add_parser("speed", help="our optimisation against the naive loop, on this machine"))


def _add_speed(parser: argparse.ArgumentParser) -> None:
    def run(options: argparse.Namespace) -> None:
        from .speed import run_bench_speed

        run_bench_speed(options)

    parser.set_defaults(run=run)
    parser.add_argument(
        "--model", default="demo", help="demo, demo-random or sd15-random: random weights of that shape (default: demo)"
    )
    parser.add_argument("--iterations", type=int, default=60, help="gradient steps of one run (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each loop (default: %(default)s)")
    parser.add_argument("--device", help="cpu or cuda (default: cuda where there is one)")
    parser.add_argument("--json", action="store_true", help="report as JSON")
