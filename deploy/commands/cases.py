"""`automateos test`: run a workflow's cases on the installation that runs here, and tell which do not come out as expected."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from deploy.commands.here import Asked, Json, KeyFile


def check(  # noqa: PLR0913  # Each is an option of the command line.
    workflow: Annotated[str, Parameter(help="Its id, or its name where no other has the same.")],
    *,
    case: Annotated[
        tuple[str, ...], Parameter(help="Run this case alone; may be said again.", negative="")
    ] = (),
    version: Annotated[
        int | None, Parameter(help="The version to test; the newest by default, published or not.")
    ] = None,
    junit: Annotated[Path | None, Parameter(help="Write a report as JUnit XML, for CI systems.")] = None,
    at_once: Annotated[int, Parameter(help="Cases under way together.", validator=Number(gte=1, lte=50))] = 8,
    patience: Annotated[
        float,
        Parameter(help="Seconds after which a case that has not ended is stopped.", validator=Number(gt=0)),
    ] = 120.0,
    key_file: KeyFile = None,
    as_json: Json = False,
    here: Asked,
) -> int:
    """Run the test cases of a workflow. Exit code 1 when one does not come out as expected.

    Nodes that a case pins are not done; every other one really acts.
    """
    from deploy.operator import junit as reports
    from deploy.operator.reach import api
    from deploy.operator.testing import Told, case_lines, judged, names_of, summary, workflow_named
    from deploy.refusals import Refused

    client = api(here, key_file)
    found = workflow_named(client, workflow)
    names = names_of(client, found["id"], case)
    told: list[Told] = []
    for each in judged(client, found["id"], names, version=version, at_once=at_once, patience=patience):
        told.append(each)
        if as_json:
            here.tell(each)
            continue
        for line in case_lines(each):
            here.say(line)
    told.sort(key=lambda each: names.index(each.case))
    if junit is not None:
        try:
            junit.write_bytes(reports.report(found["name"], told))
        except OSError as error:
            raise Refused(f"The report cannot be written: {error}.") from error
    if not as_json:
        here.say(summary(told))
    return 0 if all(each.state == "passed" for each in told) else 1
