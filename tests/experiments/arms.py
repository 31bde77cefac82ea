"""Arms of a made-up run, and changes to their numbers."""

from dataclasses import fields, replace

from experiments.record import arm_from_record, arm_record
from experiments.result import ArmMetrics


def changed(arm, **entries):
    """The arm with other entries of its record."""
    other = arm_from_record(arm_record(arm) | entries)
    return replace(arm, **{field.name: getattr(other, field.name) for field in fields(ArmMetrics)})
