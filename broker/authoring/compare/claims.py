"""A job's claims on one line, short enough to be read and pasted: what differs from an example of its kind.

`policy explain --claims -` makes of the line exactly the claims that the proof put to `decide`.
"""

import json
from collections.abc import Mapping
from typing import Any

from broker.authoring.compare.grants import Job
from broker.issuers.seam import IssuerKind
from broker.policy.examples import LIKE


def claims_line(job: Job, kind: IssuerKind | None) -> str:
    """JSON, ASCII only. The whole claims where every example has one that the job lacks: `$like` cannot take any away."""
    whole = dict(job.claims)
    written: dict[str, Any] = whole
    for name, example in kind.examples.items() if kind is not None else ():
        if example.keys() <= whole.keys():
            short = {LIKE: name} | {key: value for key, value in whole.items() if not _same(example.get(key), value)}
            written = min(written, short, key=len)
    told = {"iss": whole["iss"]} if LIKE in written and "iss" in whole else {}  # tells which issuer is meant
    return json.dumps({**({LIKE: written[LIKE]} if LIKE in written else {}), **told, **written}, default=str)


def _same(one: Any, other: Any) -> bool:
    """As JSON: true is not 1."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(_same(one[key], other[key]) for key in one)
    return type(one) is type(other) and bool(one == other)
