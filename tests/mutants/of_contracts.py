"""Mutants of what stands between bytes and messages, and of the live tail."""

from typing import Final

from tests.mutants.mutant import Edit, Mutant

NOT_LIFTED: Final = Mutant(
    name="old shapes are not lifted",
    what="An event that an older release wrote is read as if it had been written today.",
    edits=[
        Edit(
            "contracts.codec",
            "        lifted.append(upcast(stamp.type, stamp.schema_version, event))\n",
            "        lifted.append(event)\n",
        )
    ],
    stage="old shapes",
)
BAD_NEIGHBOUR: Final = Mutant(
    name="one bad message spoils its bundle",
    what="What lies in a bundle with something unreadable is not read either.",
    edits=[
        Edit(
            "contracts.codec",
            "        return [_message(raw) for raw in _raws(body)]\n",
            "        return [next(bad for raw in _raws(body) if isinstance(bad := _message(raw), Malformed))]\n",
        )
    ],
    tests=["tests/orchestrator/test_service.py", "tests/contracts/test_codec.py"],
)
LIVE_OVERLAP: Final = Mutant(
    name="the live tail and the past overlap",
    what="What happened while the past was told comes twice.",
    edits=[
        Edit(
            "gateway.live.tail",
            "            if sequence > after:\n",
            "            if sequence > 0:\n",
        )
    ],
    tests=["tests/gateway/test_live.py"],
)
LIVE_GAP: Final = Mutant(
    name="the live tail does not catch up",
    what="Whoever comes back with the last id that it saw misses what went by meanwhile.",
    edits=[
        Edit(
            "gateway.live.streams",
            "            async for shown in self._missed(watcher.org, mark, now):\n                yield shown\n",
            "            pass\n",
        )
    ],
    tests=["tests/gateway/test_live.py"],
)

MUTANTS: Final = (NOT_LIFTED, BAD_NEIGHBOUR, LIVE_OVERLAP, LIVE_GAP)
