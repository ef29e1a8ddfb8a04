"""What notebooks show of methods, latents, results and imputations."""

from __future__ import annotations

import torch

import counterpoint as cp
from counterpoint.training import FitResult


def test_notebooks_show_tables() -> None:
    modalities = cp.Modality("x", (3,)), cp.Modality("y", (1, 2), "normal")
    latents = cp.Latents(torch.zeros(1, 5, 4), {"x": torch.zeros(1, 5, 2)})
    assert "<td>w_x</td><td>(1, 5, 2)</td>" in latents._repr_html_()
    method = cp.DMVAE(modalities, shared_dim=4, private_dim=2)
    shown = method._repr_html_()
    assert "<td>y</td><td>1×2</td><td>normal</td><td>z 4 w_y 2</td>" in shown
    assert shown.startswith(f"<b>{method!r}</b><table>")
    rows = {"x": torch.zeros(5, 3), "y": torch.zeros(5, 1, 2)}
    found = method.impute(rows, given=["x"], n=20)
    assert "<b>Imputation, 90 % intervals</b>" in found._repr_html_()
    assert "<td>y</td><td>1×2</td><td>5</td><td>5</td>" in found._repr_html_()
    result = FitResult({"step": 9, "val/loss": 7.5}, {}, 10, 7.5, 2.0, 640.0, None)
    assert "<tr><td>val/loss</td><td>7.5</td></tr>" in result._repr_html_()
    assert "step<" not in result._repr_html_()
