"""Training steps of MultiVae 1.0.3, in its own environment (see README.md). A step is
what its trainer does: forward, zero_grad, backward, Adam, and the loss as a number."""

from __future__ import annotations

import argparse
from collections.abc import Callable

import torch
from worker import SCALE, SHAPE, Case, add_case, images, read_case, serve, trainable

# torchvision's wheel is built for another torch: two operators whose schemas it supposes are
# declared here, and never called.
_OPERATORS = torch.library.Library("torchvision", "DEF")
for _name in ("nms", "qnms"):
    _OPERATORS.define(f"{_name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

from multivae.data.datasets.base import MultimodalBaseDataset  # noqa: E402
from multivae.models import (  # noqa: E402
    JNF,
    MVTCAE,
    JNFConfig,
    MMVAEPlus,
    MMVAEPlusConfig,
    MoPoE,
    MoPoEConfig,
    MVTCAEConfig,
)
from multivae.models.base import BaseAEConfig, BaseMultiVAE  # noqa: E402
from multivae.models.nn import mmnist  # noqa: E402


def encoder(case: Case, private_dim: int) -> torch.nn.Module:
    if case.network == "resnet":
        return mmnist.EncoderResnetMMNIST(private_dim, case.shared_dim)
    if private_dim:
        return mmnist.EncoderConvMMNIST_multilatents(
            BaseAEConfig(latent_dim=case.shared_dim, style_dim=private_dim)
        )
    return mmnist.EncoderConvMMNIST_adapted(BaseAEConfig(latent_dim=case.shared_dim))


def decoder(case: Case, private_dim: int) -> torch.nn.Module:
    latent_dim = case.shared_dim + private_dim
    if case.network == "resnet":
        return mmnist.DecoderResnetMMNIST(latent_dim)
    return mmnist.DecoderConvMMNIST(BaseAEConfig(latent_dim=latent_dim))


def build(case: Case) -> BaseMultiVAE:
    common = {
        "n_modalities": case.modalities,
        "latent_dim": case.shared_dim,
        "input_dims": dict.fromkeys(case.names, SHAPE),
        "decoders_dist": dict.fromkeys(case.names, "laplace"),
        "decoder_dist_params": {name: {"scale": SCALE} for name in case.names},
    }
    private_dim = case.private_dim if case.method == "mmvae+" else 0
    networks = (
        {name: encoder(case, private_dim) for name in case.names},
        {name: decoder(case, private_dim) for name in case.names},
    )
    match case.method:
        case "mmvae+":
            config = MMVAEPlusConfig(
                **common,
                K=case.samples,
                prior_and_posterior_dist="normal_with_softplus",
                beta=2.5,
                modalities_specific_dim=private_dim,
                loss="iwae_looser" if case.samples == 1 else "dreg_looser",
            )
            return MMVAEPlus(config, *networks)
        case "mvtcae":
            return MVTCAE(MVTCAEConfig(**common, alpha=5 / 6, beta=2.5), *networks)
        case "mopoe":
            return MoPoE(MoPoEConfig(**common, beta=1.0), *networks)
        case "jnf-joint" | "jnf-flows" | "jnf-draws":
            return JNF(JNFConfig(**common, warmup=1, beta=1.0), *networks)
    raise ValueError(
        f"method {case.method!r} has no peer here; choose mmvae+, mvtcae, mopoe, jnf-joint, jnf-flows or jnf-draws"
    )


def drawer(model: BaseMultiVAE, case: Case) -> Callable[[], float]:
    inputs = MultimodalBaseDataset(data=images(case))
    model.eval()
    return lambda: (
        model.encode(
            inputs, cond_mod=case.names[: case.given], mcmc_steps=100, n_lf=10, eps_lf=0.01
        )
        .z.mean()
        .item()
    )


def stepper(model: BaseMultiVAE, case: Case) -> Callable[[], float]:
    inputs = MultimodalBaseDataset(data=images(case))
    epoch = (
        2 if case.method == "jnf-flows" else 1
    )  # its second stage begins after the epochs of warm-up
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-4)
    model.train()

    def step() -> float:
        output = model(inputs, epoch=epoch, dataset_size=10_000, uses_ddp=False, batch_ratio=0.0)
        optimizer.zero_grad()
        output.loss.backward()
        optimizer.step()
        return output.loss_sum.item() / case.batch

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_case(parser)
    case = read_case(parser.parse_args())
    torch.set_num_threads(case.threads)
    model = build(case)
    serve(
        drawer(model, case) if case.method == "jnf-draws" else stepper(model, case),
        {
            "who": "multivae 1.0.3",
            "torch": torch.__version__,
            "parameters": trainable([*model.parameters()]),
            "encoder": trainable([*model.encoders[case.names[0]].parameters()]),
            "decoder": trainable([*model.decoders[case.names[0]].parameters()]),
        },
    )


if __name__ == "__main__":
    main()
