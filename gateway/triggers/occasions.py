"""Whether a trigger that is neither an address nor a schedule can work: asked when it is written, not at every event."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Final

from msgspec import Struct

from chassis.edge.problems import Problem
from chassis.expressions import Language
from chassis.expressions.faults import Flaw
from chassis.expressions.program import Program
from chassis.questions import flaws as flaws_of_form
from chassis.sealing import parse_pointer
from contracts.codec import FOLLOWED
from contracts.occasions import EndedRun, RecordedEvent, Told
from contracts.triggers import Chat, ChatMessage, Follows, Form, Happening, Occasion, Poll, RunEnd
from contracts.workflows import Fault

CODE: Final = "trigger.unusable"
_BODIES: Final[Mapping[type[Follows], type[Struct]]] = {RunEnd: EndedRun, Happening: RecordedEvent}


def checked(on: Occasion, language: Language) -> Occasion:
    """The same. Raises `Problem` with everything that is wrong with it, and where."""
    faults = [*_faults(on)]
    if isinstance(on, Follows) and on.filter:
        faults += [
            Fault(code=CODE, pointer="/on/filter", message=flaw.message, position=flaw.offset)
            for flaw in _flaws(on.filter, language, _BODIES[type(on)].__struct_fields__)
        ]
    if faults:
        raise Problem(CODE, faults[0].message, faults=faults)
    return on


def _faults(on: Occasion) -> Iterator[Fault]:
    match on:
        case Happening(types=types):
            for place, kind in enumerate(types):
                if kind not in FOLLOWED:
                    message = f"there are no events of the type {kind!r}"
                    yield Fault(code=CODE, pointer=f"/on/types/{place}", message=message)
        case Form(questions=questions, sensitive=marks):
            for pointer, message in flaws_of_form(questions):
                yield Fault(code=CODE, pointer=f"/on/questions{pointer}", message=message)
            yield from _nowhere(marks, questions.properties)
        case Chat(sensitive=marks):
            yield from _nowhere(marks, ChatMessage.__struct_fields__)
        case RunEnd() | Poll():
            pass  # A poll's expressions are judged by the compiler.


def _nowhere(marks: Sequence[str], names: Collection[str]) -> Iterator[Fault]:
    """Marks of places that will never be there: whoever wrote them thinks that something is sealed which is not."""
    for place, mark in enumerate(marks):
        first = parse_pointer(mark)[:1]
        if first and first[0] not in (*names, "*"):
            message = f"there is no {first[0]!r} in what is brought; there are {', '.join(names)}"
            yield Fault(code=CODE, pointer=f"/on/sensitive/{place}", message=message)


def flaws_of_filter(source: str, language: Language) -> tuple[Flaw, ...]:
    """What is wrong with a filter over deliveries of any kind."""
    return _flaws(source, language, None)


def _flaws(source: str, language: Language, fields: tuple[str, ...] | None) -> tuple[Flaw, ...]:
    program = language.program(source)
    return tuple(_unknown(program, fields)) if isinstance(program, Program) else program


def _unknown(program: Program, fields: tuple[str, ...] | None) -> Iterator[Flaw]:
    """What a filter reads and an event does not have. `fields`: of the body; None: nobody knows them."""
    if not program.references:
        yield Flaw(code="reference", message="it reads nothing of the event, so it always says the same")
    for reference in program.references:
        root, *rest = reference.place
        if root != "trigger":
            message = f"`{root}` is not there when an event comes; a filter reads `trigger`"
        elif fields is not None and rest and rest[0] not in Told.__struct_fields__:
            known = ", ".join(Told.__struct_fields__)
            message = f"`trigger.{rest[0]}` is not there when an event comes; there are {known}"
        elif fields is not None and len(rest) > 1 and rest[0] == "body" and rest[1] not in fields:
            message = (
                f"`trigger.body.{rest[1]}` is not there when an event comes; there are {', '.join(fields)}"
            )
        else:
            continue
        yield Flaw(code="reference", message=message, offset=reference.offset)
