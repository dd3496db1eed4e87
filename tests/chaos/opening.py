"""Opens a campaign's workflows and triggers over the API of an installation that may be busy, and closes those that never end."""

import time
import urllib.error
import urllib.request
from typing import Any, Final

from deploy.testing.installation import Installation
from tests.chaos import kin
from tests.chaos.drawing import Shape
from tests.chaos.load import Target

_TRIES: Final = 40
_BY_THEMSELVES: Final = ("schedule", "poll")


class Opening:
    """Every call is repeated while nobody hears it."""

    def __init__(self, installed: Installation) -> None:
        self._installed = installed

    def call(self, method: str, path: str, body: Any = None) -> Any:
        for _ in range(_TRIES):
            try:
                return self._installed.call(method, path, body)
            except OSError as error:
                trouble = error
                time.sleep(1.0)
        raise trouble

    def publish(self, name: str, definition: Any) -> str:
        """The id of a workflow with this definition, published."""
        workflow: str = self.call("POST", "/workflows", {"name": name, "definition": definition})["id"]
        self.call("POST", f"/workflows/{workflow}/versions/1/publish")
        return workflow

    def target(self, shape: Shape) -> Target:
        """Its workflow, opened to the world."""
        workflow = self.publish(shape.name, shape.definition)
        made = self.call("POST", "/triggers", {"name": shape.name, "workflow": workflow, **shape.trigger})
        url: str = made["address"]["url"]
        _until_open(url)
        return Target(
            shape=shape.name,
            weight=shape.weight,
            url=url,
            trigger=made["id"],
            workflow=workflow,
            people=shape.people,
            secret=made["secret"]["text"] if shape.signed else "",
        )

    def starters(self, world: str, child: str) -> None:
        """What starts runs without being sent anything."""
        workflow = self.publish("followed", kin.followed(world))
        for each in kin.starters(world, child):
            self.call("POST", "/triggers", {"workflow": workflow, **each})

    def stop_starters(self) -> None:
        """From now on the clock starts nothing. Everybody whom it started goes on."""
        for each in self.call("GET", "/triggers?limit=200")["items"]:
            if each["kind"] in _BY_THEMSELVES and each["enabled"]:
                self.call("POST", f"/triggers/{each['id']}/disable")

    def until_offered(self, node_type: str) -> None:
        """Until a worker outside has announced it."""
        for _ in range(_TRIES):
            if any(each["type"] == node_type for each in self.call("GET", "/node-types")["items"]):
                return
            time.sleep(0.5)
        raise RuntimeError(f"nobody offers {node_type}")


def _until_open(url: str) -> None:
    """Ingress follows what the gateway wrote within moments. An address that takes no such call is there."""
    for _ in range(10 * _TRIES):
        request = urllib.request.Request(url, method="DELETE")
        try:
            urllib.request.urlopen(request, timeout=5)
        except urllib.error.HTTPError as error:
            if error.code == 405:
                return
        except OSError:
            pass  # It is busy.
        time.sleep(0.05)
    raise RuntimeError(f"{url} did not open")
