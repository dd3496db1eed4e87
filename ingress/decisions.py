"""Decisions as people and programs write them, and what each is shown."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal, TypeAlias

from msgspec import Struct, field

from chassis.asked import Asked, Standing
from chassis.edge.bodies import BodyDecoder
from chassis.edge.problems import CONTENT_TYPE, Complaint, Problem, problem_body
from chassis.questions import Checked, complaints, from_json, from_page
from contracts.codec import encode
from contracts.forms import Questions, questions_in
from contracts.limits import ANSWER_BYTES, COMMENT_CHARS, PERSON_CHARS
from contracts.runs import ApprovalDecided
from contracts.waits import Approval, Verdict
from ingress.bodies import page_fields
from ingress.deliveries import Request, query_of
from ingress.pages import CONTENT_TYPE as HTML
from ingress.pages import (
    HEADERS,
    UNTOUCHED,
    Filled,
    choice,
    fields,
    page,
    paragraph,
    summary,
    text_area,
    text_line,
)
from ingress.replies import Reply

Outcome: TypeAlias = Literal["accepted", "unchanged", "queued"]
"""`unchanged`: it was decided so before. `queued`: the run's owner is away and will hear it."""

_FORM: Final = "application/x-www-form-urlencoded"
_SENT_BYTES: Final = 4 * ANSWER_BYTES
"""As a browser writes it, a letter may have many bytes."""
_YOUR_NAME: Final = "Your name"
_WORDS: Final[Mapping[str, str]] = {"approved": "Approve", "rejected": "Reject"}
DECISION, COMMENT, NAME = "the-decision", "the-comment", "the-name"
"""Fields of ours on the page: no field of a form has such a name."""
_BESIDE: Final[Mapping[str, str]] = {"/name": NAME}
"""The field beside which it is said what is wrong with it."""


class Shown(Struct, frozen=True, kw_only=True):
    """An approval as it stands."""

    approval: Approval
    told: Asked
    standing: Standing


class Decided(Struct, frozen=True, kw_only=True):
    """What somebody decided, as it was read."""

    decision: Verdict
    given: Mapping[str, Any]
    """The fields as they were said."""
    checked: Checked
    comment: str = ""
    name: str = ""
    """Whom they named themselves."""
    faults: Sequence[Complaint] = ()
    """What is wrong beside the fields."""
    texts: Mapping[str, str] = {}
    """What the page sent, to be shown again."""

    @property
    def complaints(self) -> Sequence[Complaint]:
        return [*self.faults, *complaints(self.checked, "/fields")]


class _Sent(Struct, frozen=True, kw_only=True):
    decision: Verdict
    fields: dict[str, Any] = field(default_factory=dict)
    comment: str = ""
    name: str = ""


_sent: Final = BodyDecoder(_Sent)


def wants_page(request: Request) -> bool:
    """Whether a person looks at the answer."""
    if request.method == "POST":
        return request.headers.get("content-type", "").partition(";")[0].strip().lower() == _FORM
    return "text/html" in request.headers.get("accept", "")


def read_decision(request: Request, approval: Approval) -> Decided:
    """From JSON or from the page; with what does not fit. Raises `Problem` for what is neither."""
    if len(request.body) > _SENT_BYTES:
        raise Problem("too_large", f"A decision has {_SENT_BYTES} bytes at the most.")
    questions = questions_in(approval.form)
    if wants_page(request):
        return _from_page(page_fields(request.body), questions)
    sent = _sent(request.body)
    return Decided(
        decision=sent.decision,
        given=sent.fields,
        checked=from_json(questions, sent.fields, may_deny=True),
        comment=sent.comment,
        name=sent.name.strip(),
        faults=[*_faults(sent.fields, sent.comment), *_unnamed(sent.name)],
    )


def _from_page(texts: Mapping[str, str], questions: Questions) -> Decided:
    checked = from_page(questions, texts, may_deny=True)
    decision, comment = texts.get(DECISION), texts.get(COMMENT, "")
    name = texts.get(NAME, "")
    faults = [*_unnamed(name), *_faults(checked.values, comment)]
    if decision not in _WORDS:
        faults.append(Complaint(pointer="/decision", message="Approve or reject."))
    return Decided(
        decision="approved" if decision == "approved" else "rejected",
        given=checked.values,
        checked=checked,
        comment=comment,
        name=name.strip(),
        faults=faults,
        texts=texts,
    )


def _unnamed(name: str) -> Iterator[Complaint]:
    if not name.strip() or len(name.strip()) > PERSON_CHARS or not name.isprintable():
        message = f"Say who you are, in a line of {PERSON_CHARS} characters at the most."
        yield Complaint(pointer="/name", message=message)


def _faults(given: Mapping[str, Any], comment: str) -> Iterator[Complaint]:
    if len(comment) > COMMENT_CHARS or "\0" in comment:
        message = f"The comment is a text of {COMMENT_CHARS} characters at the most."
        yield Complaint(pointer="/comment", message=message)
    if len(encode(given)) > ANSWER_BYTES:
        message = f"The fields have {ANSWER_BYTES} bytes at the most."
        yield Complaint(pointer="/fields", message=message)


# --- What is shown ----------------------------------------------------------------------------


def looked_at(request: Request, shown: Shown) -> Reply:
    """The approval for who only looks. Nothing is decided by it."""
    if not wants_page(request):
        return Reply(status=200, body=encode(_told(shown)))
    chosen = str(query_of(request.query).get("decision", ""))
    if shown.standing == "open":
        return _page(200, _asking(shown, UNTOUCHED, chosen))
    return _closed(200, shown)


def too_late(shown: Shown) -> Reply:
    """For a person whose decision does not count any more."""
    return _closed(409, shown)


def _closed(status: int, shown: Shown) -> Reply:
    return _page(status, page(shown.approval.question, paragraph(_over(shown))))


def wrong(request: Request, shown: Shown, decided: Decided) -> Reply:
    """What does not fit, beside the fields."""
    if wants_page(request):
        notices = [fault.message for fault in decided.faults if fault.pointer not in _BESIDE]
        ours = {_BESIDE[fault.pointer]: fault.message for fault in decided.faults if fault.pointer in _BESIDE}
        filled = Filled(values=decided.texts, errors={**decided.checked.errors, **ours}, notices=notices)
        return _page(422, _asking(shown, filled, decided.texts.get(DECISION, "")))
    problem = Problem("approval.bad_fields", errors=decided.complaints)
    return Reply(status=422, body=problem_body(problem), content_type=CONTENT_TYPE)


def thanks(request: Request, shown: Shown, decided: Decided, outcome: Outcome) -> Reply:
    status = 202 if outcome == "queued" else 200
    if not wants_page(request):
        return Reply(status=status, body=encode({"decision": decided.decision, "status": outcome}))
    said = f"You {decided.decision} this. Thank you."
    if outcome == "queued":
        said += " It is kept and will be heard."
    return _page(status, page(shown.approval.question, paragraph(said, role="status")))


def not_open(code: str) -> Reply:
    """For a person who comes too early, or too late for anything to be shown."""
    early = code == "wait.not_open"
    title = "Nothing is asked yet" if early else "Nothing is asked any more"
    more = "Come again a little later." if early else "It was answered, or its time is over."
    return _page(409, page(title, paragraph(more)))


def _page(status: int, body: bytes) -> Reply:
    return Reply(status=status, body=body, content_type=HTML, headers=HEADERS)


def _told(shown: Shown) -> dict[str, Any]:
    wait, answer = shown.told.wait, shown.told.answer
    told: dict[str, Any] = {
        "state": shown.standing,
        "question": shown.approval.question,
        "details": shown.approval.details,
        "form": shown.approval.form,
        "due": wait.due if wait else None,
    }
    if isinstance(answer, ApprovalDecided):
        told["decision"], told["decided"] = answer.decision, answer.on
    return told


def _over(shown: Shown) -> str:
    answer = shown.told.answer
    if isinstance(answer, ApprovalDecided):
        return f"This was {answer.decision} at {answer.on:%Y-%m-%d %H:%M} UTC. Nothing changes that any more."
    return "It is too late: nobody waits for this decision any more."


def _asking(shown: Shown, filled: Filled, chosen: str) -> bytes:
    approval, wait = shown.approval, shown.told.wait
    questions = questions_in(approval.form)
    due = f"Decide until {wait.due:%Y-%m-%d %H:%M} UTC." if wait is not None and wait.due is not None else ""
    return page(
        approval.question,
        summary(questions, filled, {NAME: _YOUR_NAME}),
        paragraph(approval.details),
        paragraph(due, kind="hint"),
        '<form method="post" novalidate>',
        fields(questions, filled, may_deny=True),
        choice(DECISION, "Your decision", _WORDS, chosen),
        text_line(
            NAME,
            _YOUR_NAME,
            "It is kept with your decision, as what whoever has this link says.",
            filled,
            PERSON_CHARS,
        ),
        text_area(COMMENT, "Comment (optional)", filled.values.get(COMMENT, ""), COMMENT_CHARS),
        '<button type="submit">Send</button></form>',
        filled=filled,
    )
