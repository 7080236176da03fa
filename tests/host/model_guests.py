"""What other nodes put on the tiny MODEL and its prompt, by the names of those that may take part in a drag."""

import importlib.util
import tempfile

import comfy.cldm.cldm
import comfy.controlnet
import comfy.gligen
import comfy.hooks
import comfy.model_patcher
import comfy.ops
import torch
from comfy.ldm.modules.attention import BasicTransformerBlock, attention_basic
from comfy.ldm.modules.diffusionmodules.openaimodel import Upsample
from comfy_extras import nodes_attention_multiply, nodes_freelunch, nodes_hypertile
from comfy_extras.nodes_hypernetwork import load_hypernetwork_patch
from comfy_extras.nodes_model_downscale import PatchModelAddDownscale
from comfy_extras.nodes_tomesd import TomePatchModel
from fake_control import FakeControl
from testing_pack.tiny_models import SHAPE, randomise, tiny_conditioning, tiny_model

SIGMAS = torch.tensor([3.0, 1.5, 0.5])
SIDES = 16, 24


def noisy_latent():
    return torch.randn(1, 4, *SIDES, generator=torch.Generator().manual_seed(1)) * 10


def run_node(kind, *values):
    """Return a node's first output, of the host's old or new kind."""
    function = kind.execute if hasattr(kind, "execute") else getattr(kind(), kind.FUNCTION)
    return function(*values)[0]


def with_options(more):
    text, options = tiny_conditioning()[0]
    return [[text, {**options, **more}]]


def write_everywhere(hidden, skip, options):
    """Write into what is given, and into what autograd has kept of it."""
    first = hidden[:, : hidden.shape[1] // 2]
    hidden[:, : hidden.shape[1] // 2] = first * torch.sigmoid(first)
    skip *= 0.9
    return hidden, skip


def patched_output(model):
    model.set_model_output_block_patch(write_everywhere)
    return model


def adapted(model):
    """As IP-Adapter does: more attention beside the prompt's, by tensors of its own."""
    projection = torch.nn.Linear(64, 64).double()

    def replacement(q, k, v, options):
        return attention_basic(q, k, v, options["n_heads"]) + projection(q)

    for number in (0, 1, 2):
        model.set_model_attn2_replace(replacement, "output", number, 0)
    return model


def own_self_attention(model):
    """Other attention of the picture to itself, and a hand on what both attentions put out."""
    scale = torch.rand(64, dtype=torch.float64)
    for number in (0, 1, 2):
        model.set_model_attn1_replace(
            lambda q, k, v, options: attention_basic(q, v, k, options["n_heads"]), "output", number
        )
    model.set_model_attn1_output_patch(lambda output, options: torch.sin(output))
    model.set_model_attn2_output_patch(lambda output, options: output * scale[: output.shape[-1]])
    return model


def own_upsampling(model):
    """As SUPIR does: something of its own before a layer of one kind."""

    def handler(layer, x, embedding, context, options, output_shape, *others):
        return layer(torch.sin(x), output_shape=output_shape)

    model.set_model_patch((Upsample, handler), "forward_timestep_embed_patch")
    return model


def own_joining(model):
    """As SUPIR does: the skip is in the hidden state already."""
    model.set_model_output_block_patch(lambda hidden, skip, options: (torch.cat([hidden, 0.5 * skip], 1), None))
    return model


def made_at_every_use(model):
    """As a LoRA is on a model that is not wholly loaded: a layer's weights are computed whenever it runs."""
    key = "diffusion_model.output_blocks.1.0.in_layers.2.weight"
    made = torch.rand(model.model.state_dict()[key].shape, dtype=torch.float64)
    model.add_weight_wrapper(key, lambda weight: weight + 0.1 * made)
    return model


def with_hypernetwork(model):
    """A file of two layers for prompts of the tiny models' width, as the host's loader reads it."""
    width, generator = tiny_conditioning()[0][0].shape[-1], torch.Generator().manual_seed(8)
    layers = {}
    for number, (rows, columns) in enumerate([(2 * width, width), (width, 2 * width)]):
        layers[f"linear.{number}.weight"] = torch.randn(rows, columns, generator=generator) / columns**0.5
        layers[f"linear.{number}.bias"] = torch.zeros(rows)
    with tempfile.NamedTemporaryFile(suffix=".pt") as file:
        torch.save({width: [layers, layers], "activation_func": "swish"}, file.name)
        patch = load_hypernetwork_patch(file.name, 0.7)
    for networks in patch.hypernet.values():
        networks.to(model.model.get_dtype())
    model.set_model_attn1_patch(patch)
    model.set_model_attn2_patch(patch)
    return model


MODELS = {
    "hypernetwork": with_hypernetwork,
    "FreeU": lambda model: run_node(nodes_freelunch.FreeU, model, 1.3, 1.4, 0.9, 0.2),
    "FreeU_V2": lambda model: run_node(nodes_freelunch.FreeU_V2, model, 1.3, 1.4, 0.9, 0.2),
    "HyperTile": lambda model: run_node(nodes_hypertile.HyperTile, model, 32, 3, 0, False),
    "ToMe": lambda model: run_node(TomePatchModel, model, 0.3),
    "attention multiply": lambda model: run_node(
        nodes_attention_multiply.UNetSelfAttentionMultiply, model, 1.2, 1.0, 0.9, 1.1
    ),
    "Deep Shrink at every level": lambda model: run_node(
        PatchModelAddDownscale, model, 2, 2.0, 0.0, 1.0, True, "bicubic", "bicubic"
    ),
    "written in place": patched_output,
    "IP-Adapter": adapted,
    "self-attention": own_self_attention,
    "weight function": made_at_every_use,
}


if importlib.util.find_spec("comfy.ldm.supir"):  # older hosts take no such patches
    MODELS |= {"before a layer": own_upsampling, "skips joined": own_joining}


def control_network(head_channels=8, **shape):
    """A ControlNet of random weights for the tiny U-Net, with other sizes where `shape` has them."""
    shape = {**SHAPE, **shape}
    for name in ("out_channels", "transformer_depth_output"):
        del shape[name]
    network = comfy.cldm.cldm.ControlNet(
        **shape,
        hint_channels=3,
        num_heads=-1,
        num_head_channels=head_channels,
        dtype=torch.float32,
        operations=comfy.ops.manual_cast,
    )
    randomise(network, 4)
    return network


def real_controlnet():
    network = control_network()
    control = comfy.controlnet.ControlNet(network, load_device=torch.device("cpu"))
    return control.set_cond_hint(torch.rand(1, 3, SIDES[0] * 8, SIDES[1] * 8), 0.5, (0.0, 1.0))


class AdapterNetwork(torch.nn.Module):
    """Features for the fourth and the first block of the encoder, in the order in which the host takes them off."""

    unshuffle_amount = 8

    def forward(self, picture):
        rows, columns = SIDES
        below = torch.ones(1, 64, rows // 2, columns // 2)
        return {"input": [below * picture.mean(), None, None, torch.ones(1, 32, rows, columns) * picture.mean()]}


def real_adapter():
    control = comfy.controlnet.T2IAdapter(AdapterNetwork(), 3, 8, "nearest-exact", torch.device("cpu"))
    return control.set_cond_hint(torch.rand(1, 3, SIDES[0] * 8, SIDES[1] * 8), 0.5, (0.0, 1.0))


def real_gligen(dtype):
    """A box with words of its own, as GLIGEN Textbox Apply puts them into a prompt."""
    blocks = [m for m in tiny_model().model.diffusion_model.modules() if isinstance(m, BasicTransformerBlock)]
    widths = [block.norm1.normalized_shape[0] for block in blocks]
    network = comfy.gligen.Gligen(
        [comfy.gligen.GatedSelfAttentionDense(width, 16, 4, 8) for width in widths],
        comfy.gligen.PositionNet(16, 16),
        16,
    )
    randomise(network, 6)
    network.module_list.to(dtype)
    words = torch.randn(1, 16, generator=torch.Generator().manual_seed(7))
    patcher = comfy.model_patcher.ModelPatcher(network, torch.device("cpu"), torch.device("cpu"))
    return ("position", patcher, [(words, 8, 8, 2, 2)])


def lora_hook():
    """A LoRA on a weight of the decoder, as Create Hook LoRA reads it."""
    key = "diffusion_model.output_blocks.0.0.in_layers.2"
    difference = torch.full(tiny_model().model.state_dict()[f"{key}.weight"].shape, 0.05)
    return comfy.hooks.create_hook_lora(
        {f"{key.replace('diffusion_model', 'lora_unet').replace('.', '_')}.diff": difference}, 1.0, 0.0
    )


CONTROLS = {
    "ControlNet": lambda dtype: {"control": real_controlnet()},
    "T2I-Adapter": lambda dtype: {"control": real_adapter()},
    "middle and output": lambda dtype: {"control": FakeControl()},
    "GLIGEN": lambda dtype: {"gligen": real_gligen(dtype)},
    "LoRA hook": lambda dtype: {"hooks": lora_hook()},
}
