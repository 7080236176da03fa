"""What a MODEL of the host says about itself, where one has to ask twice."""

import torch


def inference_dtype(model) -> torch.dtype:
    """Return the kind of number that a BaseModel computes in."""
    return model.manual_cast_dtype or model.get_dtype()


def own_sampling(model) -> torch.nn.Module:
    """Return a MODEL's kind of prediction with its own noise levels, those that its class makes of its settings.

    A host with dynamic VRAM hands the buffers that it put aside back to the object that stands in their place by then:
    once a model has sampled with ModelSamplingDiscrete and then without, the noise levels of the one are in the other.
    """
    sampling = model.get_model_object("model_sampling")
    if not (hasattr(model, "is_dynamic") and model.is_dynamic()):
        return sampling
    return type(sampling)(model.model.model_config, zsnr=sampling.zsnr)
