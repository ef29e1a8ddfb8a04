"""Find data by name, path or mapping, and prepare what has to be made first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from counterpoint.core import checks
from counterpoint.core.modality import Modality
from counterpoint.data.ambiguity import warn_of_likelihoods
from counterpoint.data.dataset import Dataset, Family
from counterpoint.data.division import DEFAULT_FRACTIONS, Fractions
from counterpoint.data.missing import Missing
from counterpoint.data.registry import SETS, find, names
from counterpoint.data.sets import polymnist
from counterpoint.data.sets.mnist import URL
from counterpoint.data.source import Indexed, Request
from counterpoint.data.sources.files import default_root


@checks.arguments
def load(
    source: str | Path | Mapping[str, Any] | Indexed,
    *,
    root: str | Path | None = None,
    seed: int = 0,
    fractions: Fractions | None = None,
    likelihood: Family | None = None,
    scale: float | None = None,
    missing: float = 0.0,
    missing_how: Missing | Literal["entries"] = "random",
    present: Any = None,
    labels: Any = None,
    covariates: Any = None,
    modalities: Sequence[Modality] | Mapping[str, str | None] | None = None,
    verify: bool = False,
    **options: Any,
) -> Dataset:
    """Load a data set from its name, from files, or from arrays.

    >>> load("digits-quadrant", pairings=1, views=2)
    Dataset 'digits-quadrant': 1,100 train, 800 val, 1,988 test rows
    view0 3×16×16 laplace
    view1 3×16×16 laplace
    labels: digit; quadrant of view0, view1
    note on digits: scikit-learn's 8×8 digits (UCI optical recognition of handwritten digits)
    note on backgrounds: synthesised textures

    Args:
        source: one of

            - a name of :func:`names`;
            - a folder of images with ``captions.csv``, ``captions.jsonl``,
              ``metadata.csv`` or ``metadata.jsonl``
              (:mod:`counterpoint.data.sources.image_folder`);
            - a folder that :func:`prepare` or :func:`pack` made, or of ``.npy`` files:
              ``NAME`` (values), ``present/NAME`` (mask), ``label/LABEL`` (shared),
              ``label/LABEL/NAME`` (private) and ``covariate/NAME``, in itself or in
              sub-folders ``train``, ``val``, ``test``;
            - a folder of ``.parquet`` or ``.tar`` shards, one shard, or an index
              (:func:`index`): train is a :class:`Stream`
              (:mod:`counterpoint.data.streams.survey`);
            - an ``.npz`` file with arrays of these names (``train/NAME`` and so on when
              split);
            - an ``.h5mu`` or ``.h5ad`` file of scverse
              (:func:`counterpoint.setup_mudata`);
            - a mapping of these names to arrays, or of ``train``, ``val`` and ``test``
              to such mappings;
            - one table of pandas (:mod:`counterpoint.data.sources.table`), a
              ``torch.utils.data.Dataset`` of dictionaries
              (:mod:`counterpoint.data.sources.torch_rows`), a ``datasets.Dataset`` of
              Hugging Face (:mod:`counterpoint.data.sources.hugging_face`), or a mapping
              of ``train``, ``val`` and ``test`` to one of the last two.
        root: where data sets live; by default ``$COUNTERPOINT_DATA``, or else
            ``~/.cache/counterpoint``.
        seed: of the named set's pairs, crops, captions and places of words, or of the
            division into splits or folds.
        fractions: of train, val and test, where the source has no splits: by default
            (0.8, 0.1, 0.1). If it has train but no val (or no test), that share of the
            train rows is held out, with a warning and a note. ``valid``, ``validation``
            and ``dev`` mean val. Named sets have splits of their own.
        likelihood: ``"normal"``, ``"laplace"``, ``"bernoulli"``, ``"beta"``, ``"nb"``
            or ``"zinb"``, of every modality but word ids and counts, instead of their
            own (:meth:`Dataset.with_likelihood`); the last two take integers for
            counts.
        scale: with it, or instead of their own: σ (normal) or b (laplace) of every
            modality but word ids. A likelihood that is given without one learns it.
        missing: hide each training value with this probability, in [0, 1), to see what
            incomplete data costs. A row keeps one of its modalities, so that fewer are
            hidden; the notes say how many.
        missing_how: ``"random"``; ``"block"``, a run of rows for each modality
            (:meth:`Split.with_missing`); or ``"entries"``, single entries of vectors
            (:meth:`Dataset.with_gaps`).
        present: of a mapping: masks by modality. A row of NaN is absent without a mask,
            too.
        labels: of a mapping: by label, either one array (shared) or arrays by modality
            (private). Text is numbered alphabetically. Of an ``.h5mu`` or ``.h5ad``
            file, columns of its ``obs``; of a table or a data set of torch or Hugging
            Face, names of columns.
        covariates: of a mapping: by name, integers, text or floats (N,), which decoders
            read beside latents. Integers and text become a column ``NAME=VALUE`` for
            each value, floats one column, standardised by the train split. The notes
            say which. Of a table or a data set of torch or Hugging Face, names of
            columns.
        modalities: instead of those inferred from dtype and shape
            (:func:`counterpoint.data.sources.inference.infer`): a list of
            :class:`Modality`. If none of them names covariates, all decoders read those
            of the data. Of an ``.h5mu`` or ``.h5ad`` file: a mapping of the names to
            read to their likelihoods, or to None for the one that suits the values.
        verify: compare the checksums of a prepared set, not only the sizes of its
            files.
        options: of the source itself, such as ``size``, ``fold`` or ``skip_bad``: the
            fields of its record of options. ``counterpoint fit METHOD --data NAME
            --help`` lists them.

    Raises:
        FileNotFoundError: unknown name, no such path, or a set that has to be prepared
            first.
        ValueError, TypeError: bad contents, or an option that does not apply.
    """
    checks.whole("seed", seed, 0)
    if not 0 <= missing < 1:
        raise ValueError(f"missing={missing} must be a fraction in [0, 1)")
    if missing_how not in (*get_args(Missing), "entries"):
        raise ValueError(
            f"missing_how={missing_how!r} is unknown; choose 'random', 'block' or 'entries'"
        )
    kind = find(source)
    place = Path(root) if root is not None else default_root()
    shares = fractions or DEFAULT_FRACTIONS
    request = Request(source, place, seed, shares, present, labels, covariates, modalities, verify)
    kind.check(
        {
            "present": present is not None,
            "labels": labels is not None,
            "covariates": covariates is not None,
            "modalities": modalities is not None,
            "verify": verify,
            "missing": missing,
            "fractions": fractions is not None,
        },
        request.called,
    )
    data = kind.open(request, kind.read(options, request.called))
    if likelihood is not None or scale is not None:
        data = data.with_likelihood(likelihood, scale)
    if kind.infers:
        warn_of_likelihoods(data, inferred=modalities is None and likelihood is None)
    if not missing:
        return data
    if missing_how == "entries":
        return data.with_gaps(missing, seed)
    return data.with_missing(missing, seed, missing_how)


def described(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return keywords of :func:`load` as a run keeps them: those that are given, paths
    absolute, so that the data are found from any folder."""
    kept = {key: value for key, value in options.items() if value is not None}
    for key in ("source", "root", "vocabulary"):
        value = kept.get(key)
        if isinstance(value, str | Path) and not (key == "source" and value in SETS):
            kept[key] = os.path.abspath(value)
    return kept


def prepare(
    name: str,
    *,
    root: str | Path | None = None,
    out: str | Path | None = None,
    size: int | None = None,
    views: int | None = None,
    pairings: int | None = None,
    seed: int | None = None,
    photos: str | Path | None = None,
    url: str = URL,
    progress: bool = True,
) -> Path:
    """Make a set of the PolyMNIST family from MNIST and photos, once. :func:`load` then
    opens it as memory maps.

    If a set with the same parameters is there, it is left as it is. The folder appears
    only when it is complete.

    Args:
        name: ``polymnist``, ``translated-polymnist`` or ``polymnist-quadrant``.
        root: holds MNIST's idx files, in itself or in ``root/mnist``, and takes the
            result. MNIST is downloaded if it is missing.
        out: the folder to make, instead of ``root/prepared/NAME...``; which is
            then loaded by its path.
        size: side of the canvas in pixels; by default that of the published set.
        views: number of views, 5 by default.
        pairings: how often the training digits are paired anew, 4 by default.
        seed: of the pairs, crops and places, 0 by default.
        photos: folder of background photos, used in order of name; by default
            ``root/polymnist_backgrounds`` if it is there. Views for which no photo is
            left get a synthesised texture each; the notes of the data set say so.
        url: where MNIST is downloaded from.
        progress: show a progress bar.

    Returns:
        The folder.

    Raises:
        ValueError: unknown name, a parameter out of range, a corrupt file, or a photo
            that is too small.
        OSError: no photos, no download, a full disk, or a folder that holds something
            else. Nothing half-written remains.
    """
    if name not in polymnist.FAMILY:
        known = ", ".join(polymnist.FAMILY)
        raise ValueError(
            f"{name!r} {'needs no preparation' if name in names() else 'is not a known data set'}; what can be prepared is {known}"
        )
    place = Path(root) if root is not None else default_root()
    target, folder = (Path(p) if p is not None else None for p in (out, photos))
    return polymnist.prepare(
        name,
        place,
        target,
        size=size,
        views=views,
        pairings=pairings,
        seed=seed,
        photo_folder=folder,
        url=url,
        progress=progress,
    )
