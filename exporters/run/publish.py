"""What the passport of an export takes over from its source's."""

from __future__ import annotations

import dataclasses

from toolkit.graphs import GRAPH
from toolkit.passports import Passport

# what was left in float, and what is known of what int8 lost: as true of whatever is made of that file
LOSSES = ("kept_fp32", "kept_float", "calibration", "accuracy_drop", "accuracy_drop_why")


def inherited(source: Passport, *facts: str) -> Passport:
    """Return what an export's passport takes over from its source's; the rest is the export's own to say.

    That is all up to `created` but what was measured or made of the source alone; of the facts of some
    artifacts, the seed and the options of its training, the hash of a model file and those that are named.
    What is made of a graph from elsewhere says where that came from, too.
    """
    names = [f.name for f in dataclasses.fields(Passport)]
    later = names[names.index("created") :]
    kept = {"seed", "options", "model_file_sha256", "preprocessing_from", "quantised_by", *facts}
    if source.format == GRAPH:
        kept |= {"imported_from", "imported_sha256"}
    own = Passport(
        format=source.format,
        model=source.model,
        precision=source.precision,
        trained=source.trained,
        input=source.input,
        output=source.output,
        classes=source.classes,
        preprocessing=source.preprocessing,
    )
    alone = ["target", "parity", "parity_why", "source_parity"]
    dropped = {name: getattr(own, name) for name in [*later, *alone] if name not in kept}
    return dataclasses.replace(source, **dropped)
