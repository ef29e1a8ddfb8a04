"""Published figures, which a report compares with those of a run."""

from __future__ import annotations

from dataclasses import dataclass

from counterpoint.report.bars import Tone


@dataclass(frozen=True)
class Published:
    """One table of a paper: accuracies of a linear probe on posterior means.

    Attributes:
        data: the data set on which the paper measured.
        paper: title, venue and year.
        url: where the paper is.
        columns: pairs (latent, label), such as ``("z", "digit")``.
        rows: method's name to one accuracy per column, ``None`` where the paper has
            none.
        coherence: method's name to digit coherence (self, cross, unconditional).
    """

    data: str
    paper: str
    url: str
    columns: tuple[tuple[str, str], ...]
    rows: dict[str, tuple[float | None, ...]]
    coherence: dict[str, tuple[float, float, float]]

    def covers(self, labels: set[str]) -> bool:
        """Whether a data set has the labels of this table."""
        return {label for _, label in self.columns} <= labels

    def tone(self, latent: str, label: str) -> Tone:
        """The colour of a column: of the latent if it should tell the label, or grey.

        The label of the first column is shared.
        """
        shared = label == self.columns[0][1]
        if latent == "z":
            return "z" if shared else "leak"
        return "leak" if shared else "w"


QUADRANT = Published(
    data="PolyMNIST-Quadrant",
    paper="Information-disentangled Multimodal VAE, ICLR 2026",
    url="https://arxiv.org/abs/2509.23548",
    columns=(("z", "digit"), ("w", "quadrant"), ("z", "quadrant"), ("w", "digit")),
    rows={
        "MMVAE": (0.492, None, 0.798, None),
        "MoPoE": (0.536, None, 0.751, None),
        "DMVAE": (0.157, 0.710, 0.254, 0.179),
        "MMVAE+": (0.382, 0.999, 0.355, 0.341),
        "IDMVAE": (0.983, 0.999, 0.271, 0.162),
        "IDMVAE + diffusion prior": (0.982, 0.999, 0.267, 0.143),
    },
    coherence={
        "IDMVAE": (0.898, 0.881, 0.070),
        "IDMVAE without CrossMI": (0.101, 0.100, 0.000),
        "IDMVAE without GenAug": (0.670, 0.671, 0.008),
        "IDMVAE + diffusion prior": (0.942, 0.887, 0.664),
    },
)
