"""Weights sharded over processes: ``strategy="fsdp"``.

Each of W processes keeps 1/W of every weight and of Adam's moments (Zhao et al.,
"PyTorch FSDP: Experiences on Scaling Fully FullySharded Data Parallel", 2023,
https://arxiv.org/abs/2304.11277). The weights of the whole method are whole_weights before a
step, because its parts are called in any order and some of them more than once, and
gradients are scattered after it. Checkpoints hold whole weights in one file, as those
of any run do.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from pytorch_lightning.strategies import ModelParallelStrategy
from pytorch_lightning.utilities.types import STEP_OUTPUT
from torch import Tensor, distributed
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method

from counterpoint.training.options import FitOptions
from counterpoint.training.step import Step

if TYPE_CHECKING:
    from counterpoint.training.trainable import Trainable


class FullySharded(ModelParallelStrategy):
    """Shard the weights of a :class:`~counterpoint.training.step.Step` over all
    processes. Unlike Lightning's ``fsdp`` it does not need a GPU."""

    def __init__(self) -> None:
        super().__init__(tensor_parallel_size=1, save_distributed_checkpoint=False)

    def setup_environment(self) -> None:
        self._data_parallel_size = self.num_nodes * self.num_processes
        super().setup_environment()

    def training_step(self, *parcel: Any, **named: Any) -> STEP_OUTPUT:
        self._broadcast_buffers()
        return super().training_step(*parcel, **named)

    def validation_step(self, *parcel: Any, **named: Any) -> STEP_OUTPUT:
        self._broadcast_buffers()
        return super().validation_step(*parcel, **named)

    def _broadcast_buffers(self) -> None:
        """Copy the running statistics of the first process to all, as DDP does."""
        assert self.lightning_module is not None
        for buffer in self.lightning_module.buffers():
            distributed.broadcast(buffer, 0)


def is_sharded(options: FitOptions) -> bool:
    """Whether a run shards its weights.

    Raises:
        ValueError: another option does not allow it.
    """
    if options.strategy.startswith(("fsdp_", "deepspeed")):
        raise ValueError(f"strategy {options.strategy!r} leaves no whole weights; use 'fsdp'")
    if options.strategy != "fsdp":
        return False
    for name, why in {
        "ema_decay": "keeps whole weights",
        "channels_last": "lays weights out anew",
    }.items():
        if getattr(options, name):
            raise ValueError(
                f"{name} {why}, which strategy='fsdp' shares out over processes; leave one of them out"
            )
    return True


class ShardedStep(Step):
    """A step of a copy of the method. A sharded module cannot be joined again, so the
    method itself stays whole and gets the weights at the end."""

    def __init__(self, method: Trainable, options: FitOptions) -> None:
        super().__init__(copy.deepcopy(method), options)

    def configure_model(self) -> None:
        """Shard the weights over the processes of the strategy, once."""
        if isinstance(self, FSDPModule) or self.device_mesh is None:
            return
        fully_shard(self, mesh=self.device_mesh["data_parallel"])
        for name in ("training_step", "validation_step"):
            register_fsdp_forward_method(self, name)


def whole_weights(step: Step) -> dict[str, Tensor]:
    """Gather the weights and buffers of the method on every process. All processes must
    call it together."""
    state: dict[str, Tensor] = step.method.state_dict()
    if isinstance(step, FSDPModule):
        whole: dict[str, Any] = get_model_state_dict(
            step, options=StateDictOptions(full_state_dict=True)
        )
        state = {name: whole[f"method.{name}"] for name in state}
    return {name: value.detach().cpu().clone() for name, value in state.items()}
