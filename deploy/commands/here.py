"""Where a command runs: the environment it was given, the stack that it finds, the lines that it says."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias, TypeVar

from cyclopts import Parameter
from msgspec import Struct

from chassis.settings import Settings, settings_from
from contracts.codec import encode
from deploy.refusals import Refused
from deploy.stack import Running, running_stack
from deploy.supervisor import Say

ORG: Final = "org_default"
T = TypeVar("T")


class Here(Struct, frozen=True, kw_only=True):
    """What `deploy.cli` hands to every command that asks for it."""

    environ: Mapping[str, str]
    say: Say

    def settings(self) -> Settings:
        return settings_from(self.environ)

    def data_dir(self) -> Path:
        return Path(self.settings().data_dir).absolute()

    def running(self) -> Running:
        """The stack in the data directory. Refused while none is ready there."""
        folder = self.data_dir()
        running = running_stack(folder)
        if running is None:
            raise Refused(f"No stack is ready in {folder}: start one with `automateos up`.")
        return running

    def tell(self, value: Any) -> None:
        """One line of JSON, for programs."""
        self.say(encode(value).decode())

    def show(
        self, found: Iterable[T], head: tuple[str, ...], row: Callable[[T], tuple[str, ...]], *, as_json: bool
    ) -> None:
        """A line of JSON for each, or a table of all."""
        if as_json:
            for each in found:
                self.tell(each)
        else:
            for line in table([row(each) for each in found], head):
                self.say(line)


Asked: TypeAlias = Annotated[Here, Parameter(parse=False)]
"""A parameter that the command line does not fill."""
Org: TypeAlias = Annotated[str, Parameter(help="The org whose things are meant.")]
Json: TypeAlias = Annotated[bool, Parameter(name="--json", negative="", help="JSON for programs.")]
KeyFile: TypeAlias = Annotated[
    Path | None, Parameter(help="A file with an API key; the first start's key by default.")
]
Run: TypeAlias = Annotated[str, Parameter(help="The run's id.")]


def table(rows: Sequence[tuple[str, ...]], head: tuple[str, ...]) -> list[str]:
    """Rows under a head, in columns as wide as their widest cell."""
    cells = [head, *(tuple(plain(cell) for cell in row) for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def plain(text: str) -> str:
    """Nothing that somebody stored can move the cursor of whoever lists it."""
    return "".join(character if character.isprintable() else " " for character in text)
