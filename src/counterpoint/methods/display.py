"""Show a method in a notebook."""

from __future__ import annotations

from torch import nn

from counterpoint.core.display import html_table, sizes
from counterpoint.core.latents import private_key
from counterpoint.model.model import Model


def counted(module: nn.Module) -> int:
    """The number of parameters.

    >>> counted(nn.Linear(3, 2))
    8
    """
    return sum(parameter.numel() for parameter in module.parameters())


def parts_as_html(title: str, model: Model) -> str:
    """A table of the modalities: their shapes, latents, likelihoods, and the parameters of
    their networks.

    >>> import counterpoint as cp
    >>> model = cp.MVAE.from_config([cp.Modality("x", (3,))], {"shared_dim": 2}).model
    >>> parts_as_html("MVAE", model).count("<tr>")  # a header, and x
    2
    """
    rows = [
        (
            name,
            sizes(modality.shape),
            modality.likelihood,
            " ".join(
                f"{key} {size}"
                for key, size in model.latents.items()
                if key in ("z", private_key(name))
            ),
            f"{counted(model.posterior.encoders[name]):,}",
            f"{counted(model.decoder(name)):,}",
        )
        for name, modality in model.modalities.items()
    ]
    header = ["modality", "shape", "likelihood", "latents", "encoder", "decoder"]
    return html_table(title, header, rows)
