"""The host in this process, on the CPU, with the pack loaded as the host loads it."""

import importlib.util
import logging
import sys
import traceback
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from find_host import PACK, SKIPPED, find_host  # noqa: E402

HOST = find_host()
if HOST is None:
    pytest.exit(SKIPPED, returncode=0)
sys.path.insert(0, str(HOST))

import comfy.cli_args  # noqa: E402
import utils.extra_config  # noqa: E402, F401  (as the host's main does: later its path holds another `utils`)

comfy.cli_args.args.cpu = True
spec = importlib.util.spec_from_file_location("dragnoise_pack", PACK / "__init__.py")
sys.modules["dragnoise_pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sys.modules["dragnoise_pack"])

import torch  # noqa: E402


@pytest.fixture(autouse=True)
def one_thread():
    """Small networks on a shared machine are fastest on one thread."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def inference_mode():
    """The host runs every prompt in inference mode."""
    with torch.inference_mode():
        yield


class Blame(logging.Handler):
    """Keeps the host's warnings that were logged while the pack was calling it."""

    def __init__(self):
        super().__init__(logging.WARNING)
        self.found = []

    def emit(self, record):
        files = (frame.filename for frame in traceback.extract_stack())
        if record.name == "root" and any(
            file.startswith((f"{PACK}/nodes", f"{PACK}/dragnoise_core")) for file in files
        ):
            self.found.append(record.getMessage())


@pytest.fixture(autouse=True)
def no_warning_of_the_hosts():
    """The pack gives the host no reason to warn."""
    blame = Blame()
    logging.getLogger().addHandler(blame)
    yield blame
    logging.getLogger().removeHandler(blame)
    assert not blame.found


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """The folder of `host`."""
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def host(base):
    """A running server with the pack."""
    from real_host import RealHost

    with RealHost(base) as running:
        yield running


@pytest.fixture
def vram(monkeypatch):
    """Dynamic VRAM. Afterwards nothing is pinned, nor was while the host looked, which would log a warning a page."""
    import comfy.model_management
    from dynamic_vram import play

    with monkeypatch.context() as played:
        vram = play(played)
        yield vram
        comfy.model_management.unload_all_models()
        comfy.model_management.reset_cast_buffers()
        assert vram.pinned == 0 and vram.warnings == 0
