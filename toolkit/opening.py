"""What MODEL on the command line means: a zoo name, an artifact's name or a path → one artifact."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from toolkit import zoo
from toolkit.artifacts import (
    CHECKPOINT,
    CHECKPOINT_SUFFIX,
    Artifact,
    find_artifacts,
    find_damaged,
    is_shipped,
    open_artifact,
    sidecar,
)
from toolkit.checkpoints import model_file_hash, untrained_name, write_untrained
from toolkit.choices import origin_of, weights_of
from toolkit.errors import CnnkitError, NotFoundError, OtherPrecisionError, needs_extra, unknown_name
from toolkit.figures import age_text
from toolkit.graphs import GRAPH
from toolkit.passports import SYMMETRIC, Format, Passport, Precision
from toolkit.presence import is_there
from toolkit.published import cached, import_published, where_to_bring
from toolkit.training_time import minutes_to_train
from toolkit.weights import WEIGHTS_SUFFIXES


@dataclass(frozen=True, kw_only=True)
class Selection:
    """What to open: where artifacts lie, and which of them are meant.

    `computed` are the precisions that files of another one may be opened in, each with that one. `insists`
    tells that the precision was asked for: else it is that of names, and a file has its own.
    """

    root: Path
    formats: Sequence[Format] = ()
    precision: Precision = "fp32"
    computed: Mapping[Precision, Precision] = field(default_factory=dict)
    insists: bool = False
    untrained: bool = False
    seed: int = 0
    model_file: Path | None = None


def is_path(text: str) -> bool:
    """Tell whether MODEL is meant as a file rather than a name."""
    # a name that people choose holds no dot; one like `v1.0` is no file's either, and a package's
    # networks have any names
    return zoo.library_of(text) is None and ("/" in text or Path(text).suffix[1:2].isalpha())


def is_model_file(path: Path) -> bool:
    """Tell whether a file is an artifact, a graph or weights rather than a picture."""
    known = (CHECKPOINT_SUFFIX, f".{GRAPH}", *WEIGHTS_SUFFIXES)
    return is_there(sidecar(path)) or path.suffix.lower() in known


def open_model(text: str | None, selection: Selection) -> Artifact:
    """Open what MODEL names. Raises NotFoundError with what to type next.

    A name opens the newest artifact in one of the selection's formats and its precision, never an
    untrained one unless asked, and none that ships where weights of one's own are newer. A network of a
    package of which nothing is here opens its published weights, where this machine's caches hold them.
    None opens the newest of all names.
    """
    if text is not None and is_path(text):
        return in_precision(as_asked(open_artifact(Path(text)), selection), selection)
    name = newest_name(selection) if text is None else text
    if selection.untrained:
        return _open_untrained(name, selection)
    found = standing(selection.root, name)
    fitting = [path for path, passport in found if fits(passport, selection)]
    refuse_newer_damaged(name, selection, next((known for path, known in found if path in fitting), None))
    if not fitting and selection.precision == "fp32" and not selection.insists:
        # a network that came halved or quantised has that one precision: its name means it
        own = replace(selection, precision=_own_precision(selection, name))
        found = find_artifacts(selection.root, name) if own.precision != "fp32" else []
        fitting = [path for path, passport in found if passport.quantised_by and fits(passport, own)]
    if fitting:
        return as_asked(open_artifact(fitting[0]), selection)
    return _open_published(name, selection)


def standing(root: Path, name: str) -> list[tuple[Path, Passport]]:
    """Return a name's artifacts, newest first, without what ships where the newest weights are others.

    Weights that ship would answer in place of one's own, of which no export is here yet.
    """
    found = find_artifacts(root, name)
    if not any(is_shipped(path) for path, _ in found):
        return found
    newest = weights_of(root, name)

    def stands(path: Path, passport: Passport) -> bool:
        return not is_shipped(path) or origin_of(root, Artifact(path=path, passport=passport)) == newest

    return [(path, passport) for path, passport in found if stands(path, passport)]


def refuse_newer_damaged(name: str, selection: Selection, opened: Passport | None) -> None:
    """Raise the CorruptError of a passport that cannot be read where its file may be the one that is meant.

    `opened` is what the name opens otherwise, None for nothing. An older file would answer in place of what
    is damaged, or of what is made of a newer checkpoint that is, and nobody would notice.
    """
    if selection.untrained:
        return
    asked = (None, selection.precision, selection.computed.get(selection.precision))
    for one in find_damaged(selection.root, name):
        meant = one.format in selection.formats and one.precision in asked
        newer_weights = opened is not None and one.format == CHECKPOINT
        if (meant or newer_weights) and one.created > (opened.created or "" if opened else ""):
            raise one.error


def take_weights(model: str | Path | None, file: Path | str | None, root: Path) -> str | Path | None:
    """Return the model as it was named, after its published weights were read from a file, if one is given.

    Raises CnnkitError where no network is named, and what `import_published` raises.
    """
    if file is None:
        return model
    if model is None or is_path(str(model)):
        raise CnnkitError("--pretrained FILE holds weights of a network that MODEL names, such as timm:NAME")
    return import_published(str(model), Path(file), root=root).path


def _open_published(name: str, selection: Selection) -> Artifact:
    """Open published weights that are in this machine's caches. Raises NotFoundError where nothing is."""
    wanted = CHECKPOINT in selection.formats and selection.precision == "fp32"
    if wanted and zoo.library_of(name) and not find_artifacts(selection.root, name):
        require_torch()
        if cached(zoo.model(name)):
            return import_published(name, root=selection.root)
    raise _nothing_fits(name, selection)


def as_asked(artifact: Artifact, selection: Selection) -> Artifact:
    """Return an artifact in the precision that it is to be computed in; as it lies where that is its own."""
    known, wanted = artifact.passport, selection.precision
    if selection.computed.get(wanted) != known.precision:
        return artifact
    return replace(artifact, passport=replace(known, precision=wanted))


def in_precision(artifact: Artifact, selection: Selection) -> Artifact:
    """Return a file that was named. Raises OtherPrecisionError where another precision was asked for."""
    have, wanted, path = artifact.passport.precision, selection.precision, artifact.path
    if not selection.insists or have == wanted:
        return artifact
    kind = artifact.passport.format
    beside = [
        (known.format, other.name)
        for other, known in find_artifacts(path.parent.parent, artifact.name)
        if other.parent == path.parent and known.precision == wanted and known.format in selection.formats
    ]
    beside.sort(key=lambda one: one[0] != kind)  # those of its own format first, the newest of each
    exported = have == "fp32" and kind in (CHECKPOINT, GRAPH)  # exports start from nothing else
    makes = f", or `cnnkit export {path} --precision {wanted}` makes one" if exported else ""
    advice = next((f"{name} beside it is" for _, name in beside), f"leave --precision away{makes}")
    formats = (kind,) if exported else ()
    raise OtherPrecisionError(f"{path.name} is {have}, not {wanted}", advice, formats)


def readings(passport: Passport, selection: Selection) -> Iterator[Passport]:
    """Yield a file's passport in each precision that it may be opened in, its own first."""
    yield passport
    for wanted, stored in selection.computed.items():
        if stored == passport.precision:
            yield replace(passport, precision=wanted)


def _own_precision(selection: Selection, name: str) -> Precision:
    """Return the precision that a name's network came in."""
    placed = (passport for _, passport in find_artifacts(selection.root, name) if passport.quantised_by)
    return next((passport.precision for passport in placed), "fp32")


def newest_name(selection: Selection) -> str:
    """Return the name of the artifact that was trained or exported last.

    Raises NotFoundError where there is none, the CorruptError of a passport that cannot be read where its
    file may be the one.
    """
    own = [
        (path, passport)
        for path, passport in find_artifacts(selection.root)
        if passport.trained is not False or selection.untrained
    ]
    newest = next((passport.created or "" for path, passport in own if not is_shipped(path)), "")
    for one in find_damaged(selection.root):
        meant = selection.untrained or not one.path.name.split(".")[0].endswith("-untrained")
        if meant and one.created > newest:
            raise one.error
    if not own:
        raise NotFoundError(
            f"no MODEL was named and {selection.root} holds none: `cnnkit train lenet` makes one"
        )
    path, _ = max(own, key=lambda entry: (not is_shipped(entry[0]), entry[1].created or ""))
    name = path.name.split(".")[0]
    return name.removesuffix("-untrained") if selection.untrained else name


def fits(passport: Passport, selection: Selection) -> bool:
    """Tell whether a name may open an artifact with this passport; untrained ones of one seed, or none."""
    # int8 graphs in TensorRT's dialect are its builder's input; a path opens them elsewhere, too
    ours = passport.quantised_by is None
    for_builder = ours and passport.int8_dialect == SYMMETRIC and passport.format == GRAPH
    asked = (selection.precision, selection.computed.get(selection.precision))
    if for_builder or passport.format not in selection.formats or passport.precision not in asked:
        return False
    if selection.untrained:
        return passport.trained is False and passport.seed == selection.seed
    return passport.trained is not False


def _open_untrained(name: str, selection: Selection) -> Artifact:
    try:
        spec = zoo.model(name.removesuffix("-untrained"), model_file=selection.model_file)
    except NotFoundError:
        # a name of artifacts rather than of a network: timm-resnet18 for timm:resnet18
        for path, passport in find_artifacts(selection.root, untrained_name(name.removesuffix("-untrained"))):
            if fits(passport, selection) and zoo.is_built_in(passport.model):
                return open_artifact(path)
        raise
    named = untrained_name(spec.name)
    for path, passport in find_artifacts(selection.root, named):
        # of the network as its file has it now, if it is one's own
        same = passport.model_file_sha256 == model_file_hash(spec, selection.model_file)
        if same and fits(passport, selection):
            return as_asked(open_artifact(path), selection)
    if CHECKPOINT in selection.formats and selection.precision == "fp32":
        return write_untrained(spec, selection.root, seed=selection.seed, model_file=selection.model_file)
    wanted = "/".join(selection.formats)
    raise NotFoundError(
        f"no untrained {spec.name} as {wanted} {selection.precision} here: "
        f"`cnnkit export {spec.name} --untrained --precision {selection.precision}` makes it"
    )


def _nothing_fits(name: str, selection: Selection) -> CnnkitError:
    others = standing(selection.root, name)
    behind = len(find_artifacts(selection.root, name)) > len(others)
    finished = [entry for entry in others if entry[1].trained is not False]
    if finished:
        have = ", ".join(sorted({f"{p.format} {p.precision}" for _, p in finished}))
        wanted = f"{' or '.join(selection.formats)} {selection.precision}"
        ships = " (what ships is of other weights)" if behind else ""
        if (tuple(selection.formats), selection.precision) == ((CHECKPOINT,), "fp32"):
            return OtherPrecisionError(
                f"{name} is here as {have}, not as {wanted}{ships}",
                "that is a checkpoint, which training or `cnnkit import` of weights makes, and no export",
                (CHECKPOINT,),
            )
        if own := next((p.precision for _, p in finished if p.quantised_by), None):
            return NotFoundError(
                f"{name} came as {own} and is here as {have}, not as {wanted}: leave --precision away, or "
                "import the fp32 file that it was made of"
            )
        return OtherPrecisionError(
            f"{name} is here as {have}, not as {wanted}{ships}",
            f"`cnnkit export {name} --precision {selection.precision}` makes it of its fp32 weights",
            tuple(selection.formats),
        )
    try:
        spec = zoo.model(name, model_file=selection.model_file)
    except NotFoundError:
        if others:
            return NotFoundError(f"{name} is untrained: add `--untrained` (latency and memory only)")
        here = {p.name.split(".")[0]: p for p, _ in find_artifacts(selection.root)}
        if name in here:
            return NotFoundError(
                f"{name} lies in {here[name].parent}, and a name is looked for in a folder of that name: "
                f"rename the folder, or open the file itself: {here[name]}"
            )
        return unknown_name("model", name, {*here, *zoo.models()})
    if zoo.library_of(name):
        return NotFoundError(
            f"no trained {name} here: {where_to_bring(spec)}; `cnnkit train {name} --dataset …` trains one, "
            "`--untrained` takes seeded weights (latency and memory only)"
        )
    minutes = minutes_to_train(spec)
    about = f" (about {minutes} on this machine)" if minutes else ""
    return NotFoundError(
        f"no trained {name} here: `cnnkit train {name}`{about}, "
        "or add `--untrained` (latency and memory only)"
    )


def describe(artifact: Artifact) -> str:
    """Say in one line which file was opened, its accuracy and its age."""
    passport = artifact.passport
    origin = ", shipped with cnnkit" if is_shipped(artifact.path) else ""
    by = f" by its {passport.quantised_by}" if passport.quantised_by else ""
    known = f"{passport.model}, {passport.precision}{by}"
    facts = f"{known}, {quality_of(passport)}, {_age(passport.created)}{origin}"
    return f"{artifact.path} ({facts})"


def quality_of(passport: Passport) -> str:
    """Say how good an artifact is, as far as its passport knows."""
    if passport.trained is False:
        return "untrained"
    accuracy = passport.metrics.test_accuracy
    return "accuracy unknown" if accuracy is None else f"test accuracy {accuracy:.4f}"


def _age(created: str | None) -> str:
    try:
        seconds = (datetime.now(UTC) - datetime.fromisoformat(created or "")).total_seconds()
    except (ValueError, TypeError):
        return "age unknown"
    return age_text(seconds)


def require_torch() -> None:
    """Raise MissingExtraError unless PyTorch is installed."""
    with needs_extra("train"):
        import torch  # noqa: F401
