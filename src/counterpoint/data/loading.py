"""Finding data by name, path or mapping, and preparing what has to be made first."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from counterpoint.core import checks
from counterpoint.core.modality import Modality
from counterpoint.data.ambiguity import CovariateKind, Nan, ReadOptions, Zeros, warn_of_likelihoods
from counterpoint.data.dataset import Dataset, Family
from counterpoint.data.missing import Missing
from counterpoint.data.sets import polymnist
from counterpoint.data.sets.celebamask import celebamask
from counterpoint.data.sets.cub import Classes, cub
from counterpoint.data.sets.digits import digits_quadrant
from counterpoint.data.sets.mnist import URL
from counterpoint.data.sets.omics import SETS as OMICS
from counterpoint.data.sets.shapes import circles_squares
from counterpoint.data.sets.svhn import mnist_svhn
from counterpoint.data.sets.usps import digits_usps
from counterpoint.data.sets.words import with_words
from counterpoint.data.sources import arrays, scverse
from counterpoint.data.sources.assays import SkipBad
from counterpoint.data.sources.captioned import Captions
from counterpoint.data.sources.files import default_root
from counterpoint.data.sources.image_folder import image_folder, is_image_folder
from counterpoint.data.streams import Wanted, find, is_stream
from counterpoint.data.text import Tokens

_OPTIONS = {
    "digits-quadrant": ("size", "views", "draws"),
    "digits-usps": ("draws",),
    "digits-usps-text": ("draws",),
    "mnist-svhn": ("draws",),
    "mnist-svhn-text": ("draws",),
    "cub": ("size", "length", "min_count", "captions", "unpaired", "classes"),
    "celebamask": ("size", "incomplete"),
    "circles-squares": ("size",),
    "circles-squares-size": ("size",),
    "tcga-brca": ("fold",),
    "scgem": ("fold",),
    "snareseq": ("fold",),
    "citeseq": ("fold", "top_features"),
    "tcga-mortality": ("components",),
    **dict.fromkeys(polymnist.FAMILY, ("size", "views", "draws")),
}

_ARRAYS = ("nan", "zeros", "covariate_kinds")

_OF_SCVERSE = (
    "layers",
    "private_labels",
    "batch",
    "splits",
    "top_features",
    "standardise",
    "skip_bad",
    "zeros",
    "covariate_kinds",
)

_IMAGE_FOLDER = (
    "size",
    "length",
    "min_count",
    "captions",
    "tokens",
    "vocabulary_size",
    "vocabulary",
    "skip_bad",
)

_STREAM = (
    "columns",
    "size",
    "length",
    "min_count",
    "tokens",
    "vocabulary_size",
    "vocabulary",
    "nan",
    "skip_bad",
    "buffer",
)


def names() -> dict[str, str]:
    """The known data sets: name to a line about each."""
    return {
        "digits-quadrant": "scikit-learn's digits in random quadrants, 3 views 3×16×16; needs no files",
        **{name: f"{family.about}; prepared once" for name, family in polymnist.FAMILY.items()},
        "digits-usps": "MNIST and USPS paired by class, 1×28×28 and 1×16×16; reads their files",
        "digits-usps-text": "the same and the digit's word, 8 characters; reads the same files",
        "mnist-svhn": "MNIST and SVHN paired by class, 1×28×28 and 3×32×32; reads their files",
        "mnist-svhn-text": "the same and the digit's word, 8 characters; reads the same files",
        "cub": "photos of birds and their captions, 3×32×32 and 32 word ids, some unpaired if asked; reads their files",
        "celebamask": "CelebAMask-HQ's faces, masks and 18 attributes, 3×32×32, 1×32×32 and 18; reads their files",
        "circles-squares": "a circle and a square that are both filled or both outlined, 1×32×32; needs no files",
        "circles-squares-size": "the same, of one size instead; needs no files",
        "tcga-brca": "348 breast tumours: expression 645, methylation 574 and miRNA 423, 3 classes; reads a file",
        "scgem": "177 cells: expression 32 and methylation 27, 5 classes; reads a file",
        "snareseq": "1,047 cells: chromatin 19 and expression 10, 4 classes; reads a file",
        "citeseq": "500 blood cells: counts of 1,000 genes and 49 antibodies, 5 lineages; reads a file",
        "tcga-mortality": "TCGA's mRNA and miRNA, 100 components each, and one-year mortality; reads its tables",
    }


@checks.arguments
def load(
    source: str | Path | Mapping[str, Any],
    *,
    root: str | Path | None = None,
    size: int | None = None,
    views: int | None = None,
    draws: int | None = None,
    length: int | None = None,
    min_count: int | None = None,
    captions: Captions | None = None,
    tokens: Tokens | None = None,
    vocabulary_size: int | None = None,
    vocabulary: str | Path | None = None,
    columns: list[str] | None = None,
    buffer: int | None = None,
    unpaired: bool = False,
    classes: Classes | None = None,
    incomplete: bool = False,
    fold: int | None = None,
    components: int | None = None,
    layers: Mapping[str, str] | None = None,
    private_labels: Mapping[str, Sequence[str]] | None = None,
    batch: Sequence[str] | None = None,
    splits: str | None = None,
    top_features: int | Mapping[str, int] | None = None,
    standardise: bool = True,
    seed: int = 0,
    present: Any = None,
    labels: Any = None,
    covariates: Any = None,
    modalities: Sequence[Modality] | Mapping[str, str | None] | None = None,
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1),
    likelihood: Family | None = None,
    scale: float | None = None,
    nan: Nan = "error",
    zeros: Zeros = "measured",
    covariate_kinds: Mapping[str, CovariateKind] | None = None,
    missing: float = 0.0,
    missing_how: Missing | Literal["entries"] = "random",
    verify: bool = False,
    skip_bad: SkipBad = False,
) -> Dataset:
    """A data set from its name, from files, or from arrays.

    Args:
        source: one of

            - a name of :func:`names`;
            - a folder of images with ``captions.csv``, ``captions.jsonl``, ``metadata.csv`` or ``metadata.jsonl``
              (:mod:`counterpoint.data.sources.image_folder`);
            - a folder: one that :func:`prepare` or :func:`pack` made, or ``.npy`` files named ``NAME`` (values), ``present/NAME`` (mask),
              ``label/LABEL`` (shared), ``label/LABEL/NAME`` (private) and ``covariate/NAME``, in itself or in sub-folders ``train``, ``val``, ``test``;
            - a folder of ``.parquet`` or ``.tar`` shards, one of them, or an index (:func:`index`): train is a :class:`Stream`
              (:mod:`counterpoint.data.streams.survey`);
            - an ``.npz`` file with arrays of these names (``train/NAME`` and so on when split);
            - an ``.h5mu`` or ``.h5ad`` file of scverse (:func:`counterpoint.setup_mudata`);
            - a mapping of these names to arrays, or of ``train``, ``val`` and ``test`` to such mappings.
        root: where data sets live; by default ``$COUNTERPOINT_DATA``, or else ``~/.cache/counterpoint``.
        size, views, draws: of a named set, where it has them: side of the canvas, number of views, pairings of the training digits.
        length, min_count, captions: of ``cub`` and of a folder of images, and but for captions of shards, as ``size`` is: tokens of a caption (32), how often
            a word must occur to have an id (3), and one caption of each image or all.
        tokens, vocabulary_size, vocabulary: of a folder of images (:func:`counterpoint.data.sources.image_folder.image_folder`) and of shards: ``"words"``,
            ``"pieces"`` of them or ``"characters"``, most tokens, and the file of a vocabulary to take instead of a learned one.
        columns, buffer: of shards: the columns to read, all by default, and megabytes of rows that are shuffled together (128), two of which are in memory.
        unpaired, classes: of ``cub`` (:func:`counterpoint.data.sets.cub.cub`): whether to keep images without captions and captions without an image,
            and ``"species"`` or ``"clusters"`` as the label.
        incomplete: of ``celebamask``: keep faces that lack their photo or their mask, marked absent.
        fold: of ``tcga-brca``, ``scgem``, ``snareseq`` and ``citeseq``: which of five folds is test (0 to 4); the next one is val.
        components: of ``tcga-mortality``: principal components of each table.
        layers, private_labels, batch, splits, top_features, standardise: of an ``.h5mu`` or ``.h5ad`` file
            (:func:`counterpoint.setup_mudata`); ``top_features`` also of ``citeseq``.
        seed: of the named set's pairs, crops, captions and places of words, or of the division into splits or folds.
        present: of a mapping: masks by modality. A row of NaN is absent without a mask, too.
        labels: of a mapping: by label, either one array (shared) or arrays by modality (private). Text is numbered alphabetically. Of an
            ``.h5mu`` or ``.h5ad`` file: columns of its ``obs``.
        covariates: of a mapping: by name, integers, text or floats (N,), which decoders read beside latents. Integers and text become a column
            ``NAME=VALUE`` for each value, floats one column, standardised by the train split. The notes say which.
        modalities: instead of those inferred from dtype and shape (:func:`counterpoint.data.sources.arrays.infer`). Where none of them names covariates, the
            decoders of all read those of the data. Of an ``.h5mu`` or ``.h5ad`` file: names of those to read, and their likelihoods.
        fractions: of train, val and test, where the source has no splits. Of a source that has train but no val (or no test), that share of the
            train rows is held out, with a warning and a note. ``valid``, ``validation`` and ``dev`` mean val.
        likelihood: ``"normal"``, ``"laplace"``, ``"bernoulli"``, ``"beta"``, ``"nb"`` or ``"zinb"``, of every modality but word ids and counts,
            instead of their own (:meth:`Dataset.with_likelihood`); the last two take integers for counts.
        scale: with it, or instead of their own: σ (normal) or b (laplace) of every modality but word ids. A likelihood that is given
            without one learns it.
        nan: of files, shards and mappings: ``"missing"`` takes NaN in part of a row for entries that are missing (``Modality.gaps``) and not for a mistake.
            A row of nothing but NaN is absent in any case.
        zeros: of arrays and of ``.h5mu`` and ``.h5ad`` files: ``"missing"`` takes a row of a vector that is zero everywhere for one that was not
            measured, as tables of assays are padded for cells that lack one.
        covariate_kinds: of the same: by name ``"category"`` or ``"number"``, where the dtype of a covariate does not tell.
        missing: hide this fraction of each modality's training values, never all of a row, to see what incomplete data costs.
        missing_how: with it: ``"random"``; ``"block"``, a run of rows for each modality (:meth:`Split.with_missing`); or ``"entries"``, single
            entries of vectors (:meth:`Dataset.with_gaps`).
        verify: compare the checksums of a prepared set, not only the sizes of its files.
        skip_bad: of a folder of images, of shards, an ``.h5mu`` or an ``.h5ad`` file: leave out what is bad, list it in the notes and warn, where it
            would be an error otherwise; of the latter two also the kinds of badness for which to do so (:func:`counterpoint.setup_mudata`). Of
            shards, every row is read beforehand, unless their index was made so.

    Raises:
        FileNotFoundError: unknown name, no such path, or a set that has to be prepared
            first.
        ValueError, TypeError: bad contents, or an option that does not apply.
    """
    if not isinstance(source, str | Path | Mapping):
        raise TypeError(
            f"source is a {type(source).__name__}; give a name, a path, or a mapping of arrays such as {{'rna': ...}}"
        )
    place = Path(root) if root is not None else default_root()
    named = isinstance(source, str) and source in _OPTIONS
    pictured = not named and not isinstance(source, Mapping) and is_image_folder(Path(source))
    is_scverse = (
        not named and isinstance(source, str | Path) and Path(source).suffix in scverse.SUFFIXES
    )
    streamed = (
        not named
        and not isinstance(source, Mapping)
        and not pictured
        and not is_scverse
        and is_stream(Path(source))
    )
    kinds_of_files = ((pictured, _IMAGE_FOLDER), (is_scverse, _OF_SCVERSE), (streamed, _STREAM))
    mine = (
        _OPTIONS[str(source)]
        if named
        else next((options for it_is, options in kinds_of_files if it_is), _ARRAYS)
    )
    asked = {
        "size": size,
        "views": views,
        "draws": draws,
        "length": length,
        "min_count": min_count,
        "captions": captions,
        "tokens": tokens,
        "vocabulary_size": vocabulary_size,
        "vocabulary": vocabulary,
        "columns": columns,
        "buffer": buffer,
        "unpaired": unpaired or None,
        "classes": classes,
        "incomplete": incomplete or None,
        "fold": fold,
        "components": components,
        "layers": layers,
        "private_labels": private_labels,
        "batch": batch,
        "splits": splits,
        "top_features": top_features,
        "standardise": None if standardise else False,
        "nan": None if nan == "error" else nan,
        "zeros": None if zeros == "measured" else zeros,
        "covariate_kinds": covariate_kinds,
        "skip_bad": skip_bad or None,
    }
    checks.whole("seed", seed, 0)
    if not isinstance(source, Mapping) and not str(source).strip():
        raise ValueError(
            f"source={source!r} names nothing; give the name of a data set, a folder or a file"
        )
    read_options = ReadOptions(nan, zeros, covariate_kinds or {})
    given: dict[str, Any] = {key: value for key, value in asked.items() if value is not None}
    stray = [key for key in given if key not in mine]
    arrays_given = isinstance(source, Mapping)
    applies = {
        "present": arrays_given,
        "labels": arrays_given or is_scverse,
        "covariates": arrays_given,
        "modalities": not named and not pictured and not streamed,
        "verify": not pictured and not streamed,
        "missing": not streamed,
    }
    others = {
        "present": present,
        "labels": labels,
        "covariates": covariates,
        "modalities": modalities,
        "verify": verify or None,
        "missing": missing or None,
    }
    stray += [key for key, value in others.items() if value is not None and not applies[key]]
    what = "a mapping" if arrays_given else source
    if stray:
        raise ValueError(f"option {stray[0]!r} does not apply to {what}; leave it out")
    if not is_scverse and not isinstance(skip_bad, bool):
        raise ValueError(
            f"skip_bad of {what} is True or False, got {skip_bad!r}; kinds of badness are those of .h5mu and .h5ad files"
        )
    kinds = (("labels", labels, not is_scverse), ("modalities", modalities, is_scverse))
    wrong = [
        (key, mapped)
        for key, value, mapped in kinds
        if value is not None and hasattr(value, "items") != mapped
    ]
    if wrong:
        kind, other = ("mapping", "list") if wrong[0][1] else ("list", "mapping")
        raise TypeError(f"{wrong[0][0]!r} of {what} must be a {kind}, not a {other}")
    records = None if isinstance(modalities, Mapping) else modalities
    if isinstance(source, Mapping):
        beside: dict[str, Any] = {"present": present, "labels": labels, "covariates": covariates}
        data = arrays.from_mapping(
            "mapping",
            source,
            **beside,
            modalities=records,
            fractions=fractions,
            seed=seed,
            options=read_options,
        )
    elif is_scverse:
        families = modalities if isinstance(modalities, Mapping) else None
        given["labels"] = () if labels is None or isinstance(labels, Mapping) else labels
        mdata, name = scverse.read(Path(source), [*(families or ())]), Path(source).name
        data = scverse.setup_mudata(
            mdata, modalities=families, fractions=fractions, seed=seed, name=name, **given
        )
    else:
        data = _opened(source, place, given, read_options, records, fractions, seed, verify)
    if likelihood is not None or scale is not None:
        data = data.with_likelihood(likelihood, scale)
    if not named and not is_scverse:
        warn_of_likelihoods(data, inferred=modalities is None and likelihood is None)
    if missing_how == "entries":
        return data.with_gaps(missing, seed) if missing else data
    return data.with_missing(missing, seed, missing_how) if missing else data


def described(options: Mapping[str, Any]) -> dict[str, Any]:
    """Keywords of :func:`load` as a run keeps them: those that are given, paths
    absolute, so that the data are found from any folder."""
    given = {key: value for key, value in options.items() if value is not None}
    paths = [
        key for key in ("source", "root", "vocabulary") if isinstance(given.get(key), str | Path)
    ]
    named = given.get("source") in _OPTIONS if isinstance(given.get("source"), str) else False
    return given | {
        key: os.path.abspath(given[key]) for key in paths if key != "source" or not named
    }


def _opened(
    source: str | Path,
    place: Path,
    options: dict[str, Any],
    read_options: ReadOptions,
    modalities: Sequence[Modality] | None,
    fractions: tuple[float, float, float],
    seed: int,
    verify: bool,
) -> Dataset:
    """A data set from its name or from files."""
    if source == "digits-quadrant":
        return digits_quadrant(seed=seed, **options)
    if source == "digits-usps":
        return digits_usps(place, seed=seed, **options)
    if source == "digits-usps-text":
        return with_words(digits_usps(place, seed=seed, **options), seed)
    if source == "mnist-svhn":
        return mnist_svhn(place, seed=seed, **options)
    if source == "mnist-svhn-text":
        return with_words(mnist_svhn(place, seed=seed, **options), seed)
    if source == "cub":
        return cub(place, seed=seed, **options)
    if source == "celebamask":
        return celebamask(place, **options)
    if source in ("circles-squares", "circles-squares-size"):
        return circles_squares(
            "filled" if source == "circles-squares" else "size", seed=seed, **options
        )
    if source in polymnist.FAMILY:
        chosen = polymnist.parameters(
            str(source), options.get("size"), options.get("views"), options.get("draws"), seed
        )
        folder = place / "prepared" / polymnist.folder_name(str(source), chosen)
        if not folder.is_dir():
            raise FileNotFoundError(
                f"{source} is not prepared in {folder}; run 'counterpoint data prepare {source}' with the same root and options"
            )
        return arrays.from_folder(folder, None, fractions, seed, verify=verify)
    if source in OMICS:
        return OMICS[str(source)](place, seed=seed, **options)
    path = Path(source)
    if is_image_folder(path):
        return image_folder(path, fractions=fractions, seed=seed, **options)
    if is_stream(path):
        return _streamed(path, options, fractions, seed)
    if path.is_dir():
        return arrays.from_folder(
            path, modalities, fractions, seed, verify=verify, options=read_options
        )
    if path.suffix == ".npz" and path.is_file():
        return arrays.from_npz(path, modalities, fractions, seed, options=read_options)
    if path.exists():
        raise ValueError(
            f"{path} is neither a folder nor an .npz, .h5mu or .h5ad file; convert it to one of them"
        )
    raise FileNotFoundError(
        f"no data set and no path called {str(source)!r}; the known data sets are {', '.join(names())}"
    )


def _streamed(
    path: Path, options: dict[str, Any], fractions: tuple[float, float, float], seed: int
) -> Dataset:
    """A data set of shards."""
    chosen = {name: value for name, value in options.items() if name != "buffer"}
    if "columns" in chosen:
        chosen["columns"] = tuple(chosen["columns"])
    if "vocabulary" in chosen:
        chosen["vocabulary"] = str(chosen["vocabulary"])
    buffer = {name: value for name, value in options.items() if name == "buffer"}
    return find(path, Wanted(**chosen), chosen).dataset(fractions, seed, **buffer)


def prepare(
    name: str,
    *,
    root: str | Path | None = None,
    out: str | Path | None = None,
    size: int | None = None,
    views: int | None = None,
    draws: int | None = None,
    seed: int | None = None,
    photos: str | Path | None = None,
    url: str = URL,
    progress: bool = True,
) -> Path:
    """Make a set of the PolyMNIST family from MNIST and photos, once; :func:`load` then
    opens it as memory maps.

    A set that is there already with the same parameters is left as it is. The folder
    appears only when it is complete.

    Args:
        name: ``polymnist``, ``translated-polymnist`` or ``polymnist-quadrant``.
        root: holds MNIST's idx files (``root/mnist`` or ``root``; downloaded if
            missing) and takes the result.
        out: the folder to make, instead of ``root/prepared/NAME...``; load it by its
            path.
        size, views, draws, seed: side of the canvas, number of views, pairings of the
            training digits (4), random seed.
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
        draws=draws,
        seed=seed,
        photo_folder=folder,
        url=url,
        progress=progress,
    )
