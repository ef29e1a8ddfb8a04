"""``counterpoint fit-prior``."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from counterpoint.cli.afterwards import fitting, record
from counterpoint.cli.runs import extending
from counterpoint.training import fit_prior


def run(words: Sequence[str]) -> None:
    """Fit priors to the latents of a trained run; generation draws from them."""
    wanted = fitting(words, "fit-prior", fit_prior)
    with extending(wanted.run) as (method, data):
        history = method.fit_prior(data.train, **wanted.options)
        record(method, "fit-prior", wanted)
        print(
            f"{wanted.run}: {wanted.options['kind']} samplers of {', '.join(method.model.latents)}, loss {history[-1]:.4g}; generation draws from them now"
        )
        print(f"next: counterpoint evaluate {shlex.quote(str(wanted.run))}")
