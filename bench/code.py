"""Code nodes: `python -m bench.code [attempts]`. How long one attempt takes at an executor, cold and warm, and what it costs.

* first: nothing is there yet, the engine is made. Once per installation and release.
* cold: the engine's file is there, its process is not. After a minute without code of that language, or a stop.
* warm: a process waits; every attempt still gets an instance of its own.
"""

import asyncio
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, Final

from msgspec import Raw

from contracts.limits import MIB
from executor.sandbox.messages import Job, Language, Returned
from executor.sandbox.sandbox import Sandbox

ATTEMPTS: Final = 200
COLD: Final = 7
SOURCES: Final[dict[Language, str]] = {
    "python": "return sum(row['total'] for row in input)",
    "javascript": "return input.reduce((sum, row) => sum + row.total, 0)",
}
INPUT: Final = Raw(json.dumps([{"id": n, "total": n % 10} for n in range(100)]).encode())


async def milliseconds(box: Sandbox, language: Language) -> float:
    job = Job(
        source=SOURCES[language],
        input=INPUT,
        seed="bench",
        now=0.0,
        key="bench",
        processor_s=10.0,
        memory_bytes=128 * MIB,
    )
    began = time.perf_counter()
    ending = await box.run(language, job, lambda _: None, lambda _: None)
    took = (time.perf_counter() - began) * 1000
    if ending != Returned(value="450"):
        raise SystemExit(f"{language}: {ending}")
    return took


def memory_mb(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 // MIB


async def measured(language: Language, folder: Path, attempts: int) -> dict[str, Any]:
    async with Sandbox(folder, at_once=1) as box:
        first = await milliseconds(box, language)
    cold = []
    for _ in range(COLD):
        async with Sandbox(folder, at_once=1) as box:
            cold.append(await milliseconds(box, language))
    async with Sandbox(folder, at_once=1) as box:
        await milliseconds(box, language)
        warm = sorted([await milliseconds(box, language) for _ in range(attempts)])
        [pid] = box.pids
        memory = memory_mb(pid)
    return {
        "first_s": round(first / 1000, 1),
        "cold_ms": round(statistics.median(cold)),
        "warm_p50_ms": round(statistics.median(warm), 1),
        "warm_p99_ms": round(warm[int(len(warm) * 0.99)], 1),
        "process_mb": memory,
        "engine_file_mb": round(max(each.stat().st_size for each in folder.glob(f"{language}-*")) / MIB, 1),
    }


async def main(attempts: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for language in SOURCES:
            found = await measured(language, Path(folder), attempts)
            sys.stdout.write(f"{language:11} {json.dumps(found)}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else ATTEMPTS))
