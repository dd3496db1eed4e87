"""What the API says about workflows."""

from datetime import datetime

from msgspec import Raw, Struct

from contracts.limits import Name, Positive
from contracts.workflows import Fault, Workflow


class CreateWorkflow(Struct, frozen=True, kw_only=True):
    """A name, and the first version if there is one already. Nothing of it is executed; no trigger comes with it."""

    name: Name
    definition: Workflow | None = None


class RenameWorkflow(Struct, frozen=True, kw_only=True):
    name: Name


class SaveVersion(Struct, frozen=True, kw_only=True):
    """A new version. It is saved with its faults; publishing asks for none."""

    definition: Workflow


class ValidateWorkflow(Struct, frozen=True, kw_only=True):
    """Any JSON: the answer lists every fault at once, those of its shape included."""

    definition: Raw


class CreatedWorkflow(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    latest_version: int


class SavedVersion(Struct, frozen=True, kw_only=True):
    workflow: str
    version: int


class PublishedVersion(Struct, frozen=True, kw_only=True):
    workflow: str
    version: int
    plan: str
    """SHA-256 of the plan that runs follow from now on."""
    triggers: int
    """How many triggers follow it."""


class Validation(Struct, frozen=True, kw_only=True):
    valid: bool
    faults: tuple[Fault, ...]


class WorkflowView(Struct, frozen=True, kw_only=True):
    id: str
    name: str
    latest_version: int
    """0 while nothing was saved yet."""
    published_version: int | None
    created: datetime
    created_by: str
    updated: datetime


class VersionView(Struct, frozen=True, kw_only=True):
    version: Positive
    size: int
    """Bytes of the definition."""
    drafted: datetime
    drafted_by: str
    published: datetime | None
    plan: str | None


class VersionDefinition(Struct, frozen=True, kw_only=True):
    workflow: str
    version: int
    definition: Raw
    """The workflow as it was saved."""
