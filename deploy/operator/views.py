"""A run and its steps, as the API tells them, as lines for people."""

from collections.abc import Mapping, Sequence
from typing import Any

from deploy.commands.here import table


def _awaited(waiting: Mapping[str, Any]) -> str:
    until = f" until {waiting['due']}" if waiting.get("due") else ""
    if waiting.get("signal"):
        return f"signal {waiting['signal']}, at step {waiting['step']}{until}"
    if waiting.get("question"):
        return f"a decision at step {waiting['step']}{until}: {waiting['question']}"
    if waiting.get("run"):
        return f"run {waiting['run']}, at step {waiting['step']}{until}"
    if waiting.get("limit"):
        key = f" of {waiting['key']}" if waiting.get("key") else ""
        return f"its turn at gate {waiting['limit']}{key}"
    held = f" ({waiting['held']})" if waiting.get("held") else ""
    return f"{waiting['kind']} {waiting['name']}{until}{held}"


def _undone(undone: Mapping[str, Any]) -> str:
    more = undone["left_in_all"] - len(undone["left"])
    left = f"; left: {', '.join(undone['left'])}" if undone["left"] else ""
    return f"{undone['steps']} steps{left}{f' and {more} more' if more else ''}"


def run_lines(
    run: Mapping[str, Any], steps: Sequence[Mapping[str, Any]], waiting: Sequence[Mapping[str, Any]] = ()
) -> list[str]:
    """The run, what it waits for, and a table of its steps."""
    lines = [
        f"run       {run['id']}",
        f"status    {run['status']}" + (f", opened {run['opening']} times" if run["opening"] > 1 else ""),
        f"workflow  {run['workflow']} version {run['version']}"
        + (", a test" if run.get("mode") == "test" else ""),
        f"cause     {run['cause']} {run['cause_id']}".rstrip(),
        f"started   {run['started']}",
    ]
    if run.get("parent"):
        lines.append(f"parent    {run['parent']['run']}, step {run['parent']['step']}")
    if run["ended"]:
        lines.append(f"ended     {run['ended']}")
    if run["error"]:
        lines.append(f"error     {run['error']['code']}: {run['error']['message']}")
    if run["ended"] and run.get("undone"):
        lines.append(f"undone    {_undone(run['undone'])}")
    lines += [f"waits for {_awaited(each)}" for each in waiting]
    if run["output"]:
        lines.append(f"output    {run['output']['preview']}")
    lines.append("")
    rows = [
        (
            step["path"],
            step["node_type"] or "",
            step["status"],
            str(step["attempt"] or ""),
            "" if step["took_ms"] is None else f"{step['took_ms']} ms",
            step["output"]["preview"][:60] if step["output"] else "",
        )
        for step in steps
    ]
    return lines + table(rows, ("STEP", "TYPE", "STATUS", "ATTEMPT", "TOOK", "OUTPUT"))
