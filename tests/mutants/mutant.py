"""Our own code with one mechanism taken away: what is changed, where, and who must notice.

A mutant is applied while its modules are imported, in a process of its own: the files on disk are never touched.
"""

import sys
from collections.abc import Mapping, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType
from typing import Final

from msgspec import Struct

ROOT: Final = Path(__file__).parents[2]


class Edit(Struct, frozen=True):
    """One place in the code, and what stands there instead."""

    module: str
    before: str
    after: str

    @property
    def path(self) -> Path:
        return ROOT.joinpath(*self.module.split(".")).with_suffix(".py")


class Mutant(Struct, frozen=True, kw_only=True):
    """One mechanism taken away, or two that stand behind each other."""

    name: str
    what: str
    """What the code does not do any more, and what must come of it."""
    edits: Sequence[Edit]
    stage: str = "storm"
    """Where it is played: a name in tests.mutants.stages."""
    tests: Sequence[str] = ()
    """Tests that must notice instead of the simulation, for code that no schedule runs."""


class Broken(Exception):
    """The mutant is not what the table says: its place is lost, or it cannot run at all."""


def both(name: str, one: Mutant, other: Mutant, what: str, stage: str = "storm") -> Mutant:
    """Two mechanisms at once: each may stand in for the other."""
    return Mutant(name=name, what=what, edits=(*one.edits, *other.edits), stage=stage)


def mutated(edits: Sequence[Edit]) -> Mapping[str, CodeType]:
    """The changed modules, compiled. Raises `Broken` where an anchor does not stand exactly once."""
    sources: dict[str, str] = {}
    for edit in edits:
        original = edit.path.read_text()
        source = sources.get(edit.module, original)
        if original.count(edit.before) != 1 or source.count(edit.before) != 1:
            raise Broken(
                f"{edit.module}: the anchor stands {original.count(edit.before)} times: {edit.before!r}"
            )
        sources[edit.module] = source.replace(edit.before, edit.after)
    compiled: dict[str, CodeType] = {}
    for edit in edits:
        try:
            compiled[edit.module] = compile(sources[edit.module], str(edit.path), "exec", dont_inherit=True)
        except SyntaxError as error:
            raise Broken(f"{edit.module}: {error}") from error
    return compiled


def apply(edits: Sequence[Edit]) -> None:
    """From now on this process imports the changed modules. Raises `Broken` when one is there already."""
    compiled = mutated(edits)
    early = sorted(compiled.keys() & sys.modules.keys())
    if early:
        raise Broken(f"imported before the mutant was applied: {early}")
    if compiled:
        sys.meta_path.insert(0, _Finder(compiled))


class _Finder(MetaPathFinder):
    def __init__(self, compiled: Mapping[str, CodeType]) -> None:
        self._compiled = compiled

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        code = self._compiled.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if code is not None else None
        if spec is not None and code is not None and spec.origin is not None:
            spec.loader = _Loader(fullname, spec.origin, code)
        return spec


class _Loader(SourceFileLoader):
    """Runs the changed code; writes and reads no compiled file."""

    def __init__(self, fullname: str, path: str, code: CodeType) -> None:
        super().__init__(fullname, path)
        self._code = code

    def get_code(self, fullname: str) -> CodeType:
        return self._code
