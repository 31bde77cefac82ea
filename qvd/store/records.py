"""The sidecar of an artifact: a JSON record of what made it, covered by its own checksum, and the tensors' checksum."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from qvd.store.digest import enum_value, fingerprint
from qvd.store.files import DamagedError, read_bytes, sha256_of
from qvd.store.places import Place

FORMAT = 2  # 1 had no checksum over the record itself: what it says cannot be trusted, so it is computed anew
KEY = re.compile(r"[0-9a-f]{64}")


class OtherFormatError(ValueError):
    """A record of another version."""


@dataclass(frozen=True)
class Record:
    """What a sidecar says.

    Attributes:
        stage, inputs: what the key is made of.
        code: module → digest, of the modules that the computation reached.
        metadata: the part of the result that is no tensor.
        sha256: of the tensors' file.
        seconds, peak_memory_bytes: what it cost.
        created: seconds since 1970, by the clock of the machine that wrote it.
    """

    stage: str
    inputs: Mapping[str, Any]
    code: Mapping[str, str]
    metadata: dict[str, Any]
    sha256: str
    seconds: float
    peak_memory_bytes: int
    created: float

    def to_bytes(self) -> bytes:
        """The record as JSON, its checksum with it."""
        content = json.loads(json.dumps({"format": FORMAT, **asdict(self)}, default=enum_value))
        return json.dumps({**content, "checksum": fingerprint(content)}, indent=1).encode()

    @classmethod
    def from_bytes(cls, data: bytes, stage: str, key: str) -> Record:
        """The record of an artifact.

        Raises:
            DamagedError: it is not what was written, or another artifact's.
            OtherFormatError: another version wrote it.
        """
        try:
            content = json.loads(data)
        except (ValueError, RecursionError) as error:
            raise DamagedError(f"the sidecar is no JSON: {error}") from error
        if not isinstance(content, dict):
            raise DamagedError("the sidecar is no JSON object")
        if "checksum" not in content and content.keys() >= {"stage", "inputs", "metadata", "sha256"}:
            raise OtherFormatError(f"format {content.get('format', 1)}, this is {FORMAT}")
        if content.pop("checksum", None) != fingerprint(content):
            raise DamagedError("the sidecar's own checksum differs")
        if content.pop("format", None) != FORMAT:
            raise OtherFormatError("another format")
        record = cls(**_checked(content))
        if record.stage != stage or fingerprint({"stage": stage, "inputs": record.inputs}) != key:
            raise DamagedError("the sidecar is another artifact's")
        return record


def read_record(place: Place) -> Record | None:
    """The record of an artifact, its tensors not looked at; None: there is none.

    Raises:
        DamagedError, OtherFormatError: as `Record.from_bytes`.
        StoreError: it cannot be read just now.
    """
    try:
        return Record.from_bytes(read_bytes(place.sidecar), place.stage, place.key)
    except FileNotFoundError:
        return None


def verify(place: Place) -> Record | None:
    """The record of an artifact whose two files are what was written; None where one is missing. Raises as
    `read_record`."""
    record = read_record(place)
    try:
        digest = record and sha256_of(place.tensors)
    except FileNotFoundError:
        return None
    if record is not None and digest != record.sha256:
        raise DamagedError("the tensors' checksum differs")
    return record


def _checked(content: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record, each of its type and range."""
    types = {"stage": str, "inputs": dict, "code": dict, "metadata": dict, "sha256": str, "peak_memory_bytes": int}
    if content.keys() != Record.__dataclass_fields__.keys():
        raise DamagedError(f"the sidecar has the fields {sorted(content)}")
    wrong = [name for name, kind in types.items() if not isinstance(content[name], kind)]
    numbers = ("seconds", "peak_memory_bytes", "created")
    wrong += [n for n in numbers if not isinstance(content[n], int | float) or not 0 <= content[n] < math.inf]
    if wrong or not KEY.fullmatch(content["sha256"]):
        raise DamagedError(f"the sidecar's {', '.join(wrong) or 'sha256'} cannot be")
    return content
