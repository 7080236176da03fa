"""DragBench's samples are read in both forms; a pickle can build arrays and strings and nothing else."""

import io
import json
import os
import pickle
import random

import numpy
import pytest
import torch
from PIL import Image

from dragnoise_core.bench.dragbench import format as dragbench_format
from dragnoise_core.bench.dragbench.format import digest, find_samples, read_sample, write_sample
from dragnoise_core.bench.dragbench.restricted_pickle import load_arrays
from dragnoise_core.errors import DragNoiseError
from dragnoise_core.points import DragPoints

POINTS = [[5, 6], [20, 9], [0, 0], [39, 29]]


def picture(size=(40, 30)):
    pixels = numpy.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=numpy.uint8)
    return Image.fromarray(pixels)


def mask(height=30, width=40):
    painted = numpy.zeros((height, width), numpy.uint8)
    painted[4:20, 3:30] = 1
    return painted


def pickled(folder, protocol=4, **changes):
    folder.mkdir(parents=True)
    picture().save(folder / "original_image.png")
    value = {"prompt": "a goat", "points": POINTS, "mask": mask(), **changes}
    (folder / "meta_data.pkl").write_bytes(pickle.dumps(value, protocol))
    return folder


def written(folder, pairs=(((5.5, 6.5), (20.9, 9.0)),), painted=None):
    points = DragPoints.from_pairs(list(pairs), 40, 30)
    write_sample(folder, picture(), "a goat", points, None if painted is None else torch.from_numpy(painted))
    return folder


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_published_pickle_reads_as_the_json_form(tmp_path, protocol):
    pairs = [((5.5, 6.5), (20.5, 9.5)), ((0.5, 0.5), (40, 30))]
    first = read_sample(pickled(tmp_path / "pickle", protocol))
    second = read_sample(written(tmp_path / "json", pairs, mask()))
    for sample in (first, second):
        assert sample.prompt == "a goat" and sample.picture.tobytes() == picture().tobytes()
        assert sample.handles.tolist() == POINTS[::2] and sample.targets.tolist() == POINTS[1::2]
        assert sample.mask.tolist() == mask().tolist()
        # Pixel 5's centre is at 5.5.
        assert sample.points.handles[0] == (5.5, 6.5) and sample.points.targets[1] == (39.5, 29.5)


def test_arrays_of_older_numpy_in_every_order_and_type():
    values = {
        "rows": numpy.arange(12, dtype=">i4").reshape(3, 4),
        "columns": numpy.asfortranarray(numpy.arange(12.0).reshape(3, 4)),
        "flags": numpy.array([True, False]),
    }
    # Protocol 3 writes names as lines of text, so that they can be replaced.
    data = pickle.dumps(values, 3).replace(b"numpy._core", b"numpy.core")
    assert b"numpy.core.multiarray" in data
    for name, array in load_arrays(data).items():
        numpy.testing.assert_array_equal(array, values[name])


class Calls:
    """Pickles as a call of `function`."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_a_pickle_that_calls_something_is_refused_and_nothing_is_called(tmp_path, protocol):
    canary = tmp_path / "called"
    numpy.save(tmp_path / "array.npy", numpy.zeros(3))
    calls = {
        "system": Calls(os.system, f"touch {canary}"),
        "eval": Calls(eval, f"open({str(canary)!r}, 'w')"),
        "open": Calls(open, str(canary), "w"),
        "load": Calls(numpy.load, str(tmp_path / "array.npy")),
        "getattr": Calls(getattr, "text", "upper"),
        "full": Calls(numpy.full, (10**6, 10**6), 1.0),
    }
    for name, call in calls.items():
        folder = pickled(tmp_path / name, protocol, mask=call)
        with pytest.raises(DragNoiseError, match=f"names .*{name}.*not run"):
            read_sample(folder)
    assert not canary.exists()


def test_instructions_that_data_does_not_need_are_refused():
    class Persistent(pickle.Pickler):
        def persistent_id(self, value):
            return "anything" if value == "prompt" else None

    stream = io.BytesIO()
    Persistent(stream, 4).dump({"prompt": 1})
    refused = {
        "BINPERSID": stream.getvalue(),
        "EXT1": b"\x80\x04\x82\x01.",
        "STRING": b"(S'true'\nios\nsystem\n.",
        "INST": b"(ios\nsystem\n.",
        "NEWOBJ": pickle.dumps(DragPoints(1, 1, ((0, 0),), ((1, 1),)), 4),
    }
    for instruction, data in refused.items():
        with pytest.raises(DragNoiseError, match=f"instruction {instruction},"):
            load_arrays(data)
    with pytest.raises(DragNoiseError, match="save it again with Python 3"):
        load_arrays(pickle.dumps({"mask": mask()}, 0))


def test_a_few_bytes_cannot_ask_for_much_memory():
    memo = b"\x80\x04" + b"N" + b"r" + (2**31).to_bytes(4, "little") + b"."
    with pytest.raises(DragNoiseError, match="more memory"):
        load_arrays(memo)
    text = b"\x80\x04X" + (2**31).to_bytes(4, "little") + b"a."
    array = b"\x80\x05\x96" + (2**40).to_bytes(8, "little") + b"a."
    for data in (text, array):
        with pytest.raises(DragNoiseError, match="damaged"):
            load_arrays(data)
    # Each level holds the one before twice: hashing the last one would take 2^40 steps.
    doubled = b"\x80\x04}N" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(40)) + b"Ns."
    with pytest.raises(DragNoiseError, match="more memory"):
        load_arrays(doubled)
    huge = pickle.dumps({"mask": Calls(numpy.ndarray, (10**6, 10**6))}, 4)
    with pytest.raises(DragNoiseError, match="without shape"):
        load_arrays(huge)


def test_arrays_whose_parts_disagree_are_refused():
    class Crafted:
        def __init__(self, *state):
            self.state = state

        def __reduce__(self):
            make = numpy.zeros(1).__reduce__()[0]
            return make, (numpy.ndarray, (0,), b"b"), self.state

    byte = numpy.dtype("u1")
    refused = [
        ("disagree", (1, (1000, 1000), byte, False, b"abc")),
        ("plain numbers", (1, (1,), numpy.dtype("O"), False, b"12345678")),
        ("without shape", (1, (-1, -3), byte, False, b"abc")),
        ("damaged", (1, (3,))),
        ("damaged", (1, (0, 10**30), byte, False, b"")),  # an empty array, but too long for numpy
    ]
    for reason, state in refused:
        with pytest.raises(DragNoiseError, match=reason):
            load_arrays(pickle.dumps({"mask": Crafted(*state)}, 4))


def test_a_damaged_pickle_is_refused_wherever_it_is_damaged(tmp_path):
    data = (pickled(tmp_path / "sample") / "meta_data.pkl").read_bytes()
    for end in range(0, len(data), 7):
        with pytest.raises(DragNoiseError):
            load_arrays(data[:end])
    generator = random.Random(0)
    refused = 0
    for _ in range(1000):
        changed = bytearray(data)
        for _ in range(3):
            # The first 300 bytes hold the structure, the rest is the mask.
            changed[generator.randrange(300)] = generator.randrange(256)
        try:
            load_arrays(bytes(changed))
        except DragNoiseError:
            refused += 1
    assert refused > 500


def test_large_files_are_refused_unread(tmp_path, monkeypatch):
    folder = pickled(tmp_path / "sample")
    (folder / "meta_data.pkl").write_bytes(b"\0" * 4096)
    monkeypatch.setattr(dragbench_format, "MAX_FILE_BYTES", 4095)
    with pytest.raises(DragNoiseError, match="larger"):
        read_sample(folder)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"points": [[5, 6]]}, "no target"),
        ({"points": [[5, 6], [40.5, 3]]}, "outside"),
        ({"points": [[5, 6], [float("nan"), 3]]}, "finite"),
        ({"points": [[5, 6], [True, 3]]}, "finite"),
        ({"points": []}, "no point pair"),
        ({"points": [[1, number] for number in range(1000)]}, "at most"),
        ({"points": "text"}, "no list"),
        ({"points": [["5", 6], [7, 8]]}, "no list"),
        ({"prompt": 3}, "no text"),
        ({"mask": mask(29, 40)}, "picture's size"),
        ({"mask": numpy.zeros((30, 40, 3))}, "rows and columns"),
        ({"mask": "text"}, "no array"),
    ],
)
def test_a_sample_that_makes_no_sense_is_refused_by_name(tmp_path, changes, reason):
    with pytest.raises(DragNoiseError, match=reason) as refused:
        read_sample(pickled(tmp_path / "the_sample", **changes))
    assert "the_sample" in str(refused.value)


@pytest.mark.parametrize(
    ("text", "reason"), [("{", "no JSON"), ("[1]", "dictionary"), ("[" * 50000, "no JSON"), (" " * 10**5, "larger")]
)
def test_bad_json_is_refused(tmp_path, text, reason):
    folder = written(tmp_path / "sample")
    (folder / "drag_instruction.json").write_text(text)
    with pytest.raises(DragNoiseError, match=reason):
        read_sample(folder)


def test_missing_files_are_named(tmp_path):
    folder = written(tmp_path / "sample")
    assert read_sample(folder).mask is None
    (folder / "drag_instruction.json").unlink()
    with pytest.raises(DragNoiseError, match=r"neither drag_instruction.json nor meta_data.pkl"):
        read_sample(folder)
    (folder / "original_image.png").unlink()
    with pytest.raises(DragNoiseError, match="original_image.png"):
        read_sample(folder)


def test_a_sample_written_again_without_a_mask_has_none(tmp_path):
    assert read_sample(written(tmp_path / "sample", painted=mask())).mask is not None
    assert read_sample(written(tmp_path / "sample")).mask is None


def test_an_empty_mask_is_none(tmp_path):
    assert read_sample(pickled(tmp_path / "sample", mask=mask() * 0)).mask is None
    assert read_sample(pickled(tmp_path / "other", mask=None)).mask is None


def test_samples_are_found_sorted_below_their_categories(tmp_path):
    for name in ("b/2", "a/10", "b/1"):
        written(tmp_path / name)
    (tmp_path / "a" / "notes").mkdir()
    (tmp_path / "README.md").write_text("text")
    assert list(find_samples(tmp_path)) == ["a/10", "b/1", "b/2"]
    for folder in (tmp_path / "a" / "10", tmp_path / "missing"):
        with pytest.raises(DragNoiseError):
            find_samples(folder)


def test_any_change_of_a_sample_changes_its_hash(tmp_path):
    folder = written(tmp_path / "sample", painted=mask())
    seen = {digest(folder)}
    value = json.loads((folder / "drag_instruction.json").read_text())
    (folder / "drag_instruction.json").write_text(json.dumps({**value, "prompt": "another"}))
    seen.add(digest(folder))
    (folder / "mask.png").unlink()
    seen.add(digest(folder))
    picture((41, 30)).save(folder / "original_image.png")
    seen.add(digest(folder))
    assert len(seen) == 4 and digest(folder) in seen
