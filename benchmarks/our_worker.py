"""Training steps of this library, with the peer's networks (networks.py). A step is
what ``fit`` does: the terms, their means, zero_grad, backward, fused Adam, and the loss
as a number."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, fields

import torch
from networks import NETWORKS, TowerEncoder, joint_networks
from worker import SCALE, SHAPE, Case, add_case, images, read_case, serve, trainable

from counterpoint.core.batch import Batch
from counterpoint.core.modality import Modality
from counterpoint.methods import JNF, MVTCAE, Method, MMVAEPlus, MoPoE
from counterpoint.model.decoders import Decoder
from counterpoint.model.encoders import Towers
from counterpoint.nn.options import NetworkOptions
from counterpoint.probability import mcmc
from counterpoint.probability.mcmc import HMC


@dataclass(frozen=True)
class Settings:
    """How it is trained.

    Args:
        precision: ``"fp32"``, or ``"bf16"`` for autocast of the forward pass.
        channels_last: keep the weights of convolutions channels-last.
        compiled: ``torch.compile`` on the networks.
        activation_checkpointing: decode again in the backward pass.
        rows: most rows of one decoder call; 0 for the library's own choice.
        cross_targets: random other targets of each source; 0 for all.
        towers: trunks of z and w, ``"separate"`` or ``"shared"``.
        leapfrogs: most of a Hamiltonian step, which takes from 1 to so many; by default
            the peer's ten, whatever luck says.
    """

    precision: str = "fp32"
    channels_last: bool = False
    compiled: bool = False
    activation_checkpointing: bool = False
    rows: int = 0
    cross_targets: int = 0
    towers: Towers = "separate"
    leapfrogs: int = 19

    @property
    def arguments(self) -> list[str]:
        switches = (
            ["--channels-last"] * self.channels_last
            + ["--compile"] * self.compiled
            + ["--activation_checkpointing"] * self.activation_checkpointing
        )
        return [
            f"--precision={self.precision}",
            f"--rows={self.rows}",
            f"--cross-targets={self.cross_targets}",
            f"--towers={self.towers}",
            f"--leapfrogs={self.leapfrogs}",
            *switches,
        ]


def add_settings(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", dest="compiled", action="store_true")
    parser.add_argument("--activation_checkpointing", action="store_true")
    parser.add_argument("--rows", type=int, default=0)
    parser.add_argument("--cross-targets", type=int, default=0)
    parser.add_argument("--towers", choices=("separate", "shared"), default="separate")
    parser.add_argument("--leapfrogs", type=int, default=19)


def read_settings(options: argparse.Namespace) -> Settings:
    return Settings(**{field.name: getattr(options, field.name) for field in fields(Settings)})


def build(case: Case, settings: Settings) -> Method:
    """The method, its networks replaced by the peer's."""
    modalities = [Modality(name, SHAPE, "laplace", SCALE) for name in case.names]
    tiny = NetworkOptions(kind="mlp", hidden=(1,))
    rows = settings.rows or None
    private_dim = case.private_dim if case.method == "mmvae+" else 0
    method: Method
    match case.method:
        case "mmvae+":
            method = MMVAEPlus(
                modalities,
                shared_dim=case.shared_dim,
                private_dim=private_dim,
                estimator="elbo" if case.samples == 1 else "dreg",
                samples=case.samples,
                cross_targets=settings.cross_targets or None,
                networks=tiny,
                decoder_batch_size=rows,
            )
        case "mvtcae":
            method = MVTCAE(
                modalities, shared_dim=case.shared_dim, networks=tiny, decoder_batch_size=rows
            )
        case "mopoe":
            method = MoPoE(
                modalities, shared_dim=case.shared_dim, networks=tiny, decoder_batch_size=rows
            )
        case "jnf-joint" | "jnf-flows" | "jnf-draws":
            hmc = HMC(
                chains=1,
                warmup=50,
                steps=50,
                leapfrogs=settings.leapfrogs,
                compile=settings.compiled,
            )
            method = JNF(
                modalities,
                shared_dim=case.shared_dim,
                networks=tiny,
                decoder_batch_size=rows,
                hmc=hmc,
            )
        case _:
            raise ValueError(
                f"method {case.method!r} is not measured here; choose mmvae+, mvtcae, mopoe, jnf-joint, jnf-flows or jnf-draws"
            )
    trunk, generator = NETWORKS[case.network]
    if isinstance(method, JNF):
        joint_networks(method, trunk, case.shared_dim)
    for name in case.names:
        if not isinstance(method, JNF):
            method.model.posterior.encoders[name] = TowerEncoder(
                trunk, case.shared_dim, private_dim, towers=settings.towers
            )
        method.model.decoders[name] = Decoder(
            generator(case.shared_dim + private_dim), method.model.likelihood(name)
        )
    if settings.channels_last:
        method.to(memory_format=torch.channels_last)
    if settings.compiled and case.method != "jnf-draws":
        method.compile_networks()
    method.model.activation_checkpointing = settings.activation_checkpointing
    if isinstance(method, JNF):
        method.begin(method.stages[case.method == "jnf-flows"])
    return method.train()


def autocast(settings: Settings) -> torch.autocast | nullcontext[None]:
    return torch.autocast("cpu", torch.bfloat16) if settings.precision == "bf16" else nullcontext()


def optimiser(method: Method) -> torch.optim.Optimizer:
    return torch.optim.Adam(
        [p for p in method.parameters() if p.requires_grad], lr=5e-4, fused=True
    )


def stepper(method: Method, case: Case, settings: Settings) -> Callable[[], float]:
    batch = Batch.of(images(case), modalities=method.modalities)
    optimizer = optimiser(method)

    def step() -> float:
        with autocast(settings):
            loss = torch.stack([term.mean() for term in method.losses(batch, 0).values()]).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step


def drawer(method: Method, case: Case, settings: Settings) -> Callable[[], float]:
    """Draws of the posterior, by as many leapfrogs in all as the peer's: ten a step,
    where 1 to 19 of each step's own luck would be ten on average."""
    if settings.leapfrogs == Settings.leapfrogs:
        mcmc._jittered = lambda target, state, size, variance, _: mcmc.step(
            target, state, step_size=size, leapfrogs=10, variance=variance
        )
    batch = Batch.of(images(case), modalities=method.modalities)
    method.eval()
    return lambda: method.encode(batch, case.names[: case.given], samples=1).shared.mean().item()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_case(parser)
    add_settings(parser)
    options = parser.parse_args()
    case, settings = read_case(options), read_settings(options)
    torch.set_num_threads(case.threads)
    method = build(case, settings)
    model = method.model
    serve(
        drawer(method, case, settings)
        if case.method == "jnf-draws"
        else stepper(method, case, settings),
        {
            "who": "counterpoint",
            "torch": torch.__version__,
            "parameters": trainable([*method.parameters()]),
            "encoder": trainable([*model.posterior.encoders[case.names[0]].parameters()]),
            "decoder": trainable([*model.decoders[case.names[0]].parameters()]),
        },
    )


if __name__ == "__main__":
    main()
