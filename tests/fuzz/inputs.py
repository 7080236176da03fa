"""What is brought to the doors: whole things, broken pieces of whole things, and noise."""

import io
import json
import struct

import numpy
import torch
from hypothesis import strategies as st
from icc_profiles import DISPLAY_P3, grey_profile, rgb_profile
from PIL import Image
from safetensors.torch import load, save

from dragnoise_core.edit import FORMAT, TENSORS, checksum

STRANGE = ["", "\ud800", "\x1b[31m", "\u202e", "\x00", "\ufeff", "handle", "x", "NaN", "9" * 400, "[" * 2000]
NUMBERS = st.one_of(
    st.integers(-5, 70), st.floats(), st.sampled_from([0, 1, -0.0, 0.5, 64, 48, 1e308, 2**70, True, False])
)
SCALARS = NUMBERS | st.none() | st.sampled_from(STRANGE) | st.text(max_size=20)
KEYS = st.sampled_from(["x", "y", "points", "pairs", "handle", "target", "reach", "pins", "version", "width", "height"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=5) | st.dictionaries(KEYS, inner, max_size=5))


def mutated(whole: bytes) -> st.SearchStrategy[bytes]:
    """Some bytes of a whole thing replaced, cut out, doubled or put in, or its end missing."""
    places = st.integers(0, max(0, len(whole) - 1))
    changes = st.lists(
        st.tuples(st.sampled_from(["set", "cut", "double", "put", "end"]), places, st.binary(min_size=1, max_size=9)),
        max_size=4,
    )

    def apply(steps: list) -> bytes:
        content = bytearray(whole)
        for kind, place, piece in steps:
            size = len(piece)
            if kind == "set":
                content[place : place + size] = piece
            elif kind == "cut":
                del content[place : place + size]
            elif kind == "double":
                content[place:place] = content[place : place + 4 * size]
            elif kind == "put":
                content[place:place] = piece
            else:
                del content[place:]
        return bytes(content)

    return changes.map(apply)


INSIDE = st.tuples(st.integers(0, 64) | st.floats(0, 64), st.integers(0, 48) | st.floats(0, 48)).map(list)
ENDS = st.one_of(
    INSIDE, INSIDE, INSIDE.map(lambda place: dict(zip("xy", place, strict=True))),
    st.lists(NUMBERS, min_size=2, max_size=2), st.fixed_dictionaries({"x": NUMBERS, "y": NUMBERS}),
)  # fmt: skip
PAIR = st.fixed_dictionaries({"handle": ENDS, "target": ENDS}, optional={"reach": SCALARS})
OWN_FORM = st.fixed_dictionaries(
    {"version": st.sampled_from([1, 2]) | SCALARS, "width": st.just(64) | SCALARS, "height": st.just(48) | SCALARS,
     "pairs": st.lists(PAIR, max_size=70) | VALUES},
    optional={"pins": st.lists(ENDS, max_size=5) | VALUES},
)  # fmt: skip
TRACKS = st.lists(ENDS, max_size=9) | st.lists(st.lists(ENDS, max_size=5), max_size=5)
WHOLE_POINTS = (
    b'{"version": 2, "width": 64, "height": 48, "pairs": [{"handle": [1, 2], "target": [3.5, 4]}], "pins": []}'
)
POINTS_TEXT = st.one_of(
    st.one_of(OWN_FORM, TRACKS, TRACKS.map(lambda points: {"points": points}), VALUES).map(json.dumps),
    mutated(WHOLE_POINTS).map(lambda content: content.decode("utf-8", "surrogateescape")),
    st.text(max_size=200), st.sampled_from(STRANGE),
)  # fmt: skip
CODECS = st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-be", "utf-32", "utf-7", "latin-1"])
POINTS_FILE = st.one_of(
    st.tuples(POINTS_TEXT, CODECS).map(lambda pair: pair[0].encode(pair[1], "replace")),
    mutated(WHOLE_POINTS.decode().encode("utf-16")), st.binary(max_size=300),
)  # fmt: skip

MODES = {
    "PNG": ["RGB", "RGBA", "L", "LA", "P", "1", "I;16"], "JPEG": ["RGB", "L", "CMYK"], "WEBP": ["RGB", "RGBA"],
    "GIF": ["P", "L"], "BMP": ["RGB", "1"], "PPM": ["RGB", "L"], "TGA": ["RGB", "RGBA"], "ICO": ["RGBA"],
    "TIFF": ["RGB", "CMYK", "LAB", "I;16", "F", "YCbCr"],
}  # fmt: skip
PROFILES = st.one_of(
    st.none(), st.binary(max_size=60), mutated(rgb_profile(DISPLAY_P3)), mutated(grey_profile(1.8)),
)  # fmt: skip
EXIF = (
    st.none()
    | st.binary(max_size=60)
    | mutated(b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0")
)


@st.composite
def whole_picture(draw) -> bytes:
    """A small picture in one of the formats, with metadata that may be broken."""
    kind = draw(st.sampled_from(sorted(MODES)))
    mode = draw(st.sampled_from(MODES[kind]))
    width, height = draw(st.integers(1, 40)), draw(st.integers(1, 40))
    noise = numpy.random.default_rng(width).integers(0, 256, (height, width), dtype=numpy.uint8)
    if mode == "I;16":
        picture = Image.fromarray(noise.astype(numpy.uint16) * 257)
    elif mode == "LAB":
        picture = Image.merge("LAB", [Image.fromarray(noise)] * 3)
    else:
        picture = Image.fromarray(noise).convert(mode)
    options = {}
    if kind in ("PNG", "JPEG", "WEBP", "TIFF"):
        options["icc_profile"] = draw(PROFILES) or b""
    if kind in ("PNG", "JPEG", "WEBP"):
        options["exif"] = draw(EXIF) or b""
    held = io.BytesIO()
    picture.save(held, kind, **options)
    return held.getvalue()


PICTURE = st.one_of(
    whole_picture(), whole_picture().flatmap(mutated),
    st.tuples(st.sampled_from([b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff\xe0", b"GIF89a", b"II*\0", b"BM", b"P6\n"]),
              st.binary(max_size=200)).map(b"".join),
)  # fmt: skip


def safetensors(header: object, data: bytes) -> bytes:
    """Return a safetensors file of that header, whatever it is."""
    text = json.dumps(header).encode("utf-8", "surrogatepass")
    return struct.pack("<Q", len(text)) + text + data


def changed_header(whole: bytes) -> st.SearchStrategy[bytes]:
    """The file with one entry of its JSON header, at any depth, replaced or taken out."""
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])

    def paths(value, path=()):
        if isinstance(value, dict):
            for key, inner in value.items():
                yield (*path, key)
                yield from paths(inner, (*path, key))

    def replaced(path, value):
        result = json.loads(json.dumps(header))
        place = result
        for key in path[:-1]:
            place = place[key]
        if value == "gone":
            del place[path[-1]]
        else:
            place[path[-1]] = value
        return safetensors(result, whole[8 + length :])

    values = VALUES | st.just("gone") | st.sampled_from([[2**40, 2, 3, 4], "BF16", "F64", [0, 2**60]])
    return st.builds(replaced, st.sampled_from(sorted(paths(header))), values)


FACTORS = st.sampled_from([0.0, -1.0, 0.9, 1.0001, 100.0, 1e30, 1e38, float("inf"), float("nan")])
SELDOM = st.sampled_from([False, False, False, True])
LENGTHS = st.sampled_from([0, 1, 2, 3, 9, 1200])


def altered_edit(whole: bytes) -> st.SearchStrategy[bytes]:
    """An edit file whose words and tensors may be altered, and whose checksum may say that nothing was."""
    length = int.from_bytes(whole[:8], "little")
    original = json.loads(whole[8 : 8 + length])["__metadata__"][FORMAT]

    def altered(tensor: torch.Tensor, change: str, draw) -> torch.Tensor:
        if change == "scale":
            return tensor * draw(FACTORS)
        if change == "length":
            return tensor.new_zeros(draw(LENGTHS), *tensor.shape[1:])
        if change == "repeat":
            return torch.cat([tensor, tensor - 0.01])
        if change == "flip":
            return tensor.flip(draw(st.integers(0, tensor.ndim - 1)))
        return tensor.to(draw(st.sampled_from([torch.float64, torch.float16, torch.int64, torch.bool])))

    @st.composite
    def file(draw) -> bytes:
        description, tensors = json.loads(original), load(whole)
        said = description.pop("checksum")
        config = description["config"]
        for key in draw(st.lists(st.sampled_from(sorted(config)), max_size=2)):
            config[key] = draw(SCALARS | st.sampled_from(["delta", "replace", 5, 1000, 0.3]))
        if draw(SELDOM):
            description["points"] = json.dumps(draw(OWN_FORM))
        if draw(SELDOM):
            description[draw(st.sampled_from(sorted(description)))] = draw(VALUES)
        for name in draw(st.lists(st.sampled_from(sorted(tensors)), max_size=2, unique=True)):
            change = draw(st.sampled_from(["scale", "length", "repeat", "flip", "type"]))
            tensors[name] = altered(tensors[name], change, draw).contiguous()
        description["checksum"] = said if draw(SELDOM) else checksum(description, tensors)
        return save(tensors, {FORMAT: json.dumps(description)})

    return file()


def edit_bytes(whole: bytes) -> st.SearchStrategy[bytes]:
    """An edit file, whole, broken, altered so that only its parts tell, or with other tensors."""
    shapes = st.lists(st.integers(0, 3), max_size=5)
    invented = st.tuples(st.fixed_dictionaries({name: shapes.map(torch.zeros) for name in TENSORS}), VALUES)
    return st.one_of(
        altered_edit(whole), altered_edit(whole), mutated(whole), changed_header(whole), st.binary(max_size=200),
        invented.map(lambda pair: save(pair[0], {FORMAT: json.dumps(pair[1])})),
    )  # fmt: skip


UNET = "model.diffusion_model."
NAMES = [
    UNET + "input_blocks.0.0.weight", UNET + "middle_block.0.x", "first_stage_model.x", "cond_stage_model.x",
    "conditioner.embedders.0.x", "conditioner.embedders.1.model.transformer.resblocks.9.mlp.c_proj.bias",
    "conditioner.embedders.0.model.transformer.resblocks.9.mlp.c_proj.bias", "v_pred", "ztsnr", "edm_vpred.sigma_max",
    "edm_mean", UNET + "input_blocks.2.1.transformer_blocks.0.attn2.to_k.weight", "lora_unet_down.alpha",
    "control_model.time_embed.0.weight", "double_blocks.0.img_attn.norm.key_norm.scale", "\ud800", "\x1b[31m",
    UNET + "joint_blocks.0.context_block.adaLN_modulation.1.bias", "text_encoders.x", "pos_embed", "x" * 5000,
]  # fmt: skip
METADATA = st.none() | st.dictionaries(
    st.sampled_from(["modelspec.prediction_type", "format", "modelspec.architecture"]),
    st.sampled_from(["v", "epsilon", "\x1b[31m", "\u202e", "9" * 9000]) | st.text(max_size=20), max_size=3,
)  # fmt: skip


@st.composite
def checkpoint_bytes(draw) -> bytes:
    """A file of few tensors with names that checkpoints have, the usual ones more often."""
    usual = {name: draw(st.sampled_from([(), (4, 4, 3, 3), (4, 9, 3, 3), (4,), (4, 1024)])) for name in NAMES[:4]}
    usual[NAMES[0]] = draw(st.sampled_from([(4, 4, 3, 3), (4, 4, 3, 3), (4, 8, 3, 3), (4, 9, 3, 3), (4,), ()]))
    for name in draw(st.lists(st.sampled_from(NAMES), max_size=3)):
        usual.pop(name, None)
    for name in draw(st.lists(st.sampled_from([name for name in NAMES if name != "\ud800"]), max_size=4)):
        usual[name] = draw(st.lists(st.integers(0, 12), max_size=4))
    return save({name: torch.zeros(shape) for name, shape in usual.items()}, draw(METADATA))


CHECKPOINT = st.one_of(
    checkpoint_bytes(), checkpoint_bytes().flatmap(mutated), checkpoint_bytes().flatmap(changed_header),
    st.tuples(VALUES, st.binary(max_size=40)).map(lambda pair: safetensors(*pair)), st.binary(max_size=100),
)  # fmt: skip

FOLDER = {
    "model_index.json": {
        "_class_name": "StableDiffusionPipeline", "requires_aesthetics_score": False,
        "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
        "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
        "scheduler": ["diffusers", "DDIMScheduler"], "safety_checker": [None, None],
    },
    "unet/config.json": {
        "_class_name": "UNet2DConditionModel", "in_channels": 4, "mid_block_type": "UNetMidBlock2DCrossAttn",
        "addition_embed_type": None, "class_embed_type": None, "time_cond_proj_dim": None, "sample_size": 64,
    },
    "vae/config.json": {"_class_name": "AutoencoderKL", "latent_channels": 4, "quantization_config": None},
    "text_encoder/config.json": {"architectures": ["CLIPTextModel"], "hidden_size": 768},
    "scheduler/scheduler_config.json": {
        "_class_name": "DDIMScheduler", "num_train_timesteps": 1000, "prediction_type": "epsilon",
        "timestep_type": "discrete", "sigma_min": None, "sigma_max": None,
    },
}  # fmt: skip
WORDS = st.sampled_from([
    "StableDiffusionXLPipeline", "StableDiffusionInpaintPipeline", "LCMScheduler", "v_prediction", "sample", 9, 1000,
    ["diffusers", "x"], [None, None], ["own_code", "Own"], {}, [], [[]],
])  # fmt: skip


@st.composite
def model_folder(draw) -> dict[str, bytes]:
    """The settings of a diffusers folder, some of them replaced, taken out or broken."""
    files = json.loads(json.dumps(FOLDER))
    for _ in range(draw(st.integers(0, 3))):
        settings = files[draw(st.sampled_from(sorted(files)))]
        settings[draw(st.sampled_from(sorted(settings)))] = draw(WORDS | VALUES)
    texts = {name: json.dumps(settings).encode() for name, settings in files.items()}
    if draw(SELDOM):
        name = draw(st.sampled_from(sorted(texts)))
        texts[name] = draw(mutated(texts[name]) | VALUES.map(lambda value: json.dumps(value).encode()))
    if draw(SELDOM):
        del texts[draw(st.sampled_from(sorted(texts)))]
    return texts


NUMERALS = st.sampled_from(
    ["1", "0", "-1", "1.5", "nan", "inf", "1e999", "1_0", "\u0663", "9" * 400, "9" * 5000, "", " 7 "]
)
DRAG = st.lists(NUMERALS, min_size=4, max_size=5).map(lambda n: f"{n[0]},{n[1]}:{n[2]},{n[3]}" + "@".join(["", *n[4:]]))
TEXT = st.text(max_size=30) | st.sampled_from(STRANGE)
OPTION = st.one_of(
    st.tuples(st.just("--drag"), DRAG | DRAG | mutated(b"1,2:30.5,4@5").map(lambda text: text.decode("latin-1")) | TEXT),
    st.tuples(st.just("--pin"), st.tuples(NUMERALS, NUMERALS).map(",".join) | TEXT),
    st.tuples(st.sampled_from(["--steps", "--strength", "--iterations", "--lr"]), NUMERALS | TEXT),
    st.tuples(st.sampled_from(["--preset", "--points", "--mask", "--process", "--sheet", "--save-edit"]), TEXT),
)  # fmt: skip
OPTIONS = st.lists(OPTION.map("=".join), max_size=4).map(lambda found: ["--drag=1,1:2,2", *found])
