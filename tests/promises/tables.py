"""What the tables of the read models and of the archive hold."""

import copy
from datetime import date
from typing import Any

from projections.arrived import RunKey
from projections.rows import DeliveryRow, RunIdRow, RunRow, SeamRow, StepRow, UsageRow
from projections.runs import Changes, StepKey


class Tables:
    """What the tables hold."""

    def __init__(self) -> None:
        self.runs: dict[RunKey, RunRow] = {}
        self.steps: dict[StepKey, StepRow] = {}
        self.deliveries: dict[RunKey, DeliveryRow] = {}
        self.usage: dict[tuple[str, date], UsageRow] = {}
        self.ended: dict[RunKey, RunIdRow] = {}
        self.seams: dict[tuple[str, str, int], SeamRow] = {}
        self.archive: dict[tuple[str, str, int], bytes] = {}

    def clear(self) -> None:
        for rows in vars(self).values():
            rows.clear()

    def apply(self, changes: Changes) -> None:
        self.runs.update({key: copy.copy(row) for key, row in changes.runs.items()})
        self.steps.update({key: copy.copy(row) for key, row in changes.steps.items()})
        self.deliveries.update(changes.deliveries)
        self.ended.update(changes.ended)
        for commit in changes.commits:
            self.archive[commit.org, commit.run, commit.version] = commit.body
        for seam in changes.seams:
            self.seams[seam.org, seam.run, seam.version] = seam
        for key, more in changes.usage.items():
            row = self.usage.setdefault(key, UsageRow(org=more.org, day=more.day))
            for name in UsageRow.__struct_fields__[2:]:
                setattr(row, name, getattr(row, name) + getattr(more, name))

    def history(self, org: str, run: str) -> list[bytes]:
        """The stored bytes of a run's commits, as the archive has them."""
        versions = sorted(key for key in self.archive if key[:2] == (org, run))
        return [self.archive[key] for key in versions]

    def differences(self, other: "Tables") -> list[str]:
        """Where two sets of tables do not say the same."""
        found: list[str] = []
        for name, ours in vars(self).items():
            theirs: Any = getattr(other, name)
            if ours == theirs:
                continue
            keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
            found += [f"{name} {key}: {ours.get(key)} against {theirs.get(key)}" for key in keys]
        return found
