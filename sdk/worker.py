"""A worker outside: says in capitals what workflows give it. Needs Python and nothing else."""

import json
import os
import threading
import time
import urllib.request

API = os.environ["WORKER_URL"] + "/api/v1/worker/"
HEAD = {"authorization": f"Bearer {os.environ['WORKER_TOKEN']}", "content-type": "application/json"}
FORM = {"type": "object", "properties": {"text": {"type": "string"}, "seconds": {"type": "number"}}}
SHOUT = {"type": "work.shout", "title": "Shout", "help": "Says it in capitals.", "icon": "megaphone"}


def say(what: str, body: object) -> dict:
    request = urllib.request.Request(API + what, json.dumps(body).encode(), HEAD)
    while True:  # Every call may be repeated, whatever became of it.
        try:
            return json.load(urllib.request.urlopen(request, timeout=60))
        except OSError as error:
            if getattr(error, "code", 503) not in (429, 502, 503):
                raise
            time.sleep(1)


def keep(lease: str, over: threading.Event) -> None:
    while not over.wait(10):
        say("keep", {"leases": [lease]})


say("types", {"specs": [SHOUT | {"category": "Samples", "repeat": "no", "config": FORM}]})
while True:
    for task in say("poll", {"begins": True})["tasks"]:
        lease, words, over = task["lease"], task["config"]["text"].upper(), threading.Event()
        threading.Thread(target=keep, args=(lease, over), daemon=True).start()
        time.sleep(task["config"].get("seconds", 0))
        if say("begin", {"lease": lease})["begun"]:  # Else it is another's.
            print(words, flush=True)  # What must not happen twice.
            say("report", {"lease": lease, "report": {"kind": "succeeded", "output": words}})
        over.set()
