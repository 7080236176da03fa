"""Tiny random models on disk, built once."""

# Before tests/packaging is collected: pytest would give that folder the library's name.
import packaging.version  # noqa: F401
import pytest
import torch


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """Tiny tensors lose more by being shared between threads than they gain."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def two_threads(one_thread):
    """For the demo model, which is large enough to gain by them."""
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def model_folders(tmp_path_factory):
    """Diffusers folders: "sd", "sd_v" (v-prediction) and "sdxl"."""
    from tiny_pipelines import tiny_pipeline

    root = tmp_path_factory.mktemp("models")
    kinds = {"sd": {}, "sd_v": {"prediction_type": "v_prediction"}, "sdxl": {"xl": True}}
    for name, options in kinds.items():
        tiny_pipeline(root / "tokenizer", **options).save_pretrained(root / name)
    return {name: root / name for name in kinds}
