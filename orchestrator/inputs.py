"""What comes into a node: the outputs before it, taken from the state or from stored values that were fetched before."""

from collections.abc import Mapping, Sequence
from typing import Final

import msgspec
from msgspec import Raw, Struct, field

from chassis.expressions import Job
from contracts.codec import encode
from contracts.errors import Failure
from contracts.limits import BLOB_BYTES, ITEMS_PER_PAGE, PAGE_BYTES, PREFETCH_BYTES, NodeId, StepPath
from contracts.payloads import NULL, Blob, Inline, Payload
from orchestrator.control import Unfit
from orchestrator.paths import ItemPath, container_node, container_of, item_of, node_of, within
from orchestrator.readiness import Graph, taken_from
from orchestrator.state import Items, Lost, Run, Step

JSON: Final = "application/json"
_NULL: Final = Raw(b"null")


class NotReady(Exception):
    """A decision needs what is not at hand: a plan, stored values, evaluations, what the archive knows or is published.

    Nothing was decided. Get it and ask again.
    """

    def __init__(
        self,
        *,
        plan: str = "",
        values: frozenset[Blob] = frozenset(),
        jobs: Sequence[Job] = (),
        past: tuple[str, str] | None = None,
        workflow: tuple[str, str] | None = None,
    ) -> None:
        """`past`: the org and the run of which the archive must say whether it ended once.

        `workflow`: the org and the workflow of which somebody must look what is published.
        """
        super().__init__(plan or f"{len(values)} stored values and {len(jobs)} evaluations")
        self.workflow = workflow
        self.past = past
        self.plan = plan
        self.values = values
        self.jobs = tuple(jobs)


class Unreadable(Exception):
    """A stored value is gone, or larger than a decision may read."""

    def __init__(self, blob: Blob) -> None:
        super().__init__(blob.sha256)
        large = blob.size > PREFETCH_BYTES
        self.failure = Failure(
            code="payload.too_large" if large else "payload.missing",
            message=f"A stored value of {blob.size} bytes "
            + ("is larger than an expression may read." if large else "is no longer in the object store."),
        )


class Values(Struct, frozen=True):
    """Stored values by hash, as far as they were fetched; None stands for one that is gone."""

    fetched: Mapping[str, bytes | None]
    pages: dict[int, tuple[Payload, list[Raw]]] = field(default_factory=dict)
    """Pages of items that were read, by identity, so that a page is decoded once for all of its items."""

    def item(self, page: Payload, place: int) -> Raw:
        """One item of a page."""
        known = self.pages.get(id(page))
        if known is None:
            known = self.pages[id(page)] = (page, _decode_page(self.json(page)))
        return known[1][place]

    def json(self, payload: Payload, most: int = PREFETCH_BYTES) -> Raw:
        """The value as JSON. What is not JSON stands as its reference."""
        if isinstance(payload, Inline):
            return payload.value
        if payload.content_type != JSON:
            return reference(payload)
        if payload.size > most:
            raise Unreadable(payload)
        if payload.sha256 not in self.fetched:
            raise NotReady(values=frozenset({payload}))
        found = self.fetched[payload.sha256]
        if found is None:
            raise Unreadable(payload)
        return Raw(found)

    def all_json(self, payloads: Mapping[str, Payload], most: int = PREFETCH_BYTES) -> dict[str, Raw]:
        """Each value as JSON. What is missing of them is missing together, to be fetched together."""
        found: dict[str, Raw] = {}
        missing: frozenset[Blob] = frozenset()
        for name, payload in payloads.items():
            try:
                found[name] = self.json(payload, most)
            except NotReady as not_ready:
                missing |= not_ready.values
        if missing:
            raise NotReady(values=missing)
        return found


def reference(blob: Blob) -> Raw:
    """A stored value as expressions and outputs name it: its hash, size and type."""
    return Raw(encode({"blob": blob}))


_decode_page: Final = msgspec.json.Decoder(list[Raw]).decode


class _Trigger(Struct, frozen=True):
    body: Raw


class Incoming(Struct, frozen=True):
    """The input of one step in one run."""

    graph: Graph
    run: Run
    path: StepPath
    values: Values

    def payload(self) -> Payload:
        """One predecessor's output is passed on as it is, by reference when it is stored apart."""
        sources = taken_from(self.graph, self.run, self.path)
        if not sources and item_of(self.path):
            return item_value(self.run, item_of(self.path), self.values)
        if not sources:
            return Inline(value=trigger_body(self.values.json(self.run.input)))
        if len(sources) == 1:
            return carried(self.run.step(sources[0]))
        return Inline(value=Raw(encode(self.by_node())))

    def first(self) -> Payload:
        sources = taken_from(self.graph, self.run, self.path)
        return carried(self.run.step(sources[0])) if sources else self.payload()

    def json(self) -> Raw:
        return self.values.json(self.payload())

    def members(self) -> dict[str, Raw]:
        try:
            return msgspec.json.decode(self.json(), type=dict[str, Raw])
        except msgspec.ValidationError:
            raise Unfit("/keep_input", "The input is not an object, so its fields cannot be kept.") from None

    def by_node(self) -> dict[NodeId, Raw]:
        sources = {node_of(source): source for source in taken_from(self.graph, self.run, self.path)}
        return self.values.all_json({node: carried(self.run.step(path)) for node, path in sources.items()})


def trigger_body(trigger: Raw) -> Raw:
    """The body of what started the run; the whole of it when it has none."""
    try:
        return msgspec.json.decode(trigger, type=_Trigger).body
    except msgspec.ValidationError:
        return trigger


def carried(step: Step) -> Payload:
    """What a step gives to those behind it: its output, or its error on the error path."""
    if step.status == "failed" and step.error is not None:
        return Inline(value=Raw(encode(step.error)))
    return step.output or NULL


def item_value(run: Run, item: ItemPath, values: Values) -> Payload:
    """The item itself: what lies in the list of a map, or what a loop's round begins with."""
    container, number = container_of(item)
    items = run.items[container]
    if items.count is None:
        return items.last
    page, place = divmod(number, ITEMS_PER_PAGE)
    return Inline(value=values.item(items.pages[page], place))


def item_output(graph: Graph, run: Run, item: ItemPath) -> Payload:
    """What came of an item (the empty one: of the run).

    One last node: its output. Several: an object of the outputs of those that succeeded, by node id.
    """
    leaves = graph.leaves[container_node(item)]
    if len(leaves) == 1:
        return carried(run.step(within(item, leaves[0])))
    outputs = {
        leaf: shown(output) for leaf in leaves if (output := run.step(within(item, leaf)).output) is not None
    }
    return Inline(value=Raw(encode(outputs)))


class _Page(Struct, frozen=True):
    """What came of items in their order, null for one that failed; and why those failed."""

    results: list[Raw]
    errors: list[Raw]


def page_output(items: Items, page: int) -> Payload:
    """What came of the items of a page."""
    came = sorted(items.results[page].items())
    return Inline(
        value=Raw(
            encode(
                _Page(
                    results=[_NULL if isinstance(result, Lost) else shown(result) for _, result in came],
                    errors=[
                        Raw(encode({"index": item, "error": result.error}))
                        for item, result in came
                        if isinstance(result, Lost)
                    ],
                )
            )
        )
    )


_decode_kept: Final = msgspec.json.Decoder(_Page).decode


def map_output(items: Items, values: Values) -> Payload | Failure:
    """What came of every item of a map, in their order, and why some of them failed."""
    kept = {str(page): items.kept[page] for page in sorted(items.kept)}
    pages = [_decode_kept(page) for page in values.all_json(kept, PAGE_BYTES).values()]
    size = sum(len(each) for page in pages for each in (*page.results, *page.errors))
    if size > BLOB_BYTES:
        return Failure(
            code="payload.too_large",
            message=f"All results together have {size} bytes; a value has at most {BLOB_BYTES}. "
            "Let the last node inside give less.",
        )
    results = [result for page in pages for result in page.results]
    errors = [error for page in pages for error in page.errors]
    return Inline(value=Raw(encode(_Page(results=results, errors=errors))))


def shown(output: Payload) -> Raw:
    """A value as a part of another one."""
    return output.value if isinstance(output, Inline) else reference(output)
