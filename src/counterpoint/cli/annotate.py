"""``counterpoint annotate``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from counterpoint.cli.config_files import run_groups
from counterpoint.cli.parsing import called
from counterpoint.cli.runs import opened


@dataclass(frozen=True)
class AnnotateOptions:
    """Write latents and imputed layers into a copy of the .h5mu or .h5ad file that a run
    was trained on.

    Args:
        run: run folder.
        out: the .h5mu file to write. It gets obsm X_counterpoint and
            X_counterpoint_<modality>_private, layers counterpoint_imputed, and obsm
            counterpoint_imputed_<modality> where observations lack a modality.
        seed: seed of draws from posteriors without a mean.
    """

    run: Path
    out: Path = Path("annotated.h5mu")
    seed: int = 0


def run(words: Sequence[str]) -> None:
    """Write latents and imputed layers into a copy of a run's data."""
    from counterpoint.data.sources import mudata_files
    from counterpoint.omics.annotation import annotate

    wanted = called(AnnotateOptions, "annotate", words)
    if wanted.out.suffix != ".h5mu":
        raise ValueError(f"cannot write {wanted.out}: end its name in .h5mu")
    if not wanted.run.is_dir():
        raise FileNotFoundError(
            f"no run folder {wanted.run}; make one with counterpoint fit METHOD --data FILE.h5mu --out {wanted.run}"
        )
    options = run_groups(wanted.run).get("data", {})
    source = Path(str(options.get("source")))
    if source.suffix not in mudata_files.SUFFIXES:
        raise ValueError(
            f"{wanted.run} was trained on {source}, which is no {' or '.join(mudata_files.SUFFIXES)} file to annotate"
        )
    if wanted.out.exists() and source.exists() and wanted.out.samefile(source):
        raise ValueError(f"{wanted.out} is the data themselves; choose another --out")
    method, data = opened(wanted.run)
    mdata = mudata_files.read(source, [*(options.get("modalities") or ())])
    annotate(mdata, method, data, seed=wanted.seed)
    print(mudata_files.write(mdata, wanted.out))
