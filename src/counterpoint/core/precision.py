"""Full precision: densities, divergences and products are float32 at least, whatever
the precision of the networks.

Under mixed precision (``torch.autocast``) every product of matrices is computed in half
precision, also where it is not a network's. bfloat16 keeps three decimal digits, too
few for sums of precisions 1/σ²; float16 ends at 65,504, which 1/σ² exceeds where σ <
.004. So networks may compute in half precision, but their outputs are widened, and what
is computed of them with matrix products leaves autocast.
"""

from __future__ import annotations

import torch
from torch import Tensor


def full_precision(like: Tensor) -> torch.autocast:
    """Leave autocast on the device of ``like``, for the block under ``with``."""
    return torch.autocast(like.device.type, enabled=False)


def computes_bf16(device: str) -> bool:
    """Whether this machine's devices of a type, ``"cpu"`` or ``"cuda"``, compute in
    bfloat16. Where they do not, PyTorch emulates it: on processors without AVX-512 a
    convolution then takes several times as long as in float32."""
    if device == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device == "cpu" and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def wide(values: Tensor) -> Tensor:
    """Values in float32, or in float64 if they have it.

    >>> wide(torch.ones(1, dtype=torch.bfloat16)).dtype
    torch.float32
    """
    return values.to(torch.promote_types(values.dtype, torch.float32))
