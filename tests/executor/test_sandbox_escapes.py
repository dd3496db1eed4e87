"""Nothing gets out of a sandbox: the escapes that are published, and those that this one invites.

Each is tried where something can be found: a file, a variable, a process and an open port of the machine that runs it.
The JavaScript ones follow the numbered issues of vm2 and the advisories named; the Python ones what is told of CPython jails,
RestrictedPython and n8n's code node.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from msgspec import Struct

from executor.sandbox.sandbox import Sandbox
from tests.executor.code import Tried, tried

CANARY = "CANARY-7f3a91"


class Outside(Struct, kw_only=True):
    """What an escape would find, and whether one was here."""

    secret: Path
    port: int
    folder: Path
    visits: list[str]

    def untouched(self) -> bool:
        return (
            not self.visits
            and self.secret.read_text() == CANARY
            and sorted(self.folder.iterdir()) == [self.secret]
        )


@pytest.fixture
async def outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Outside]:
    """A machine worth breaking into."""
    visits: list[str] = []
    secret = tmp_path / "secret"
    secret.write_text(CANARY)
    monkeypatch.setenv("AUTOMATEOS_CANARY", CANARY)

    def visited(_: object, writer: asyncio.StreamWriter) -> None:
        visits.append("tcp")
        writer.close()

    server = await asyncio.start_server(visited, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield Outside(secret=secret, port=port, folder=tmp_path, visits=visits)


async def attacked(sandbox: Sandbox, outside: Outside, language: str, code: str) -> Tried:
    """Run an attack; `SECRET`, `FOLDER`, `PORT` and `PID` in it are ours."""
    filled = code
    for word, value in (
        ("SECRET", outside.secret),
        ("FOLDER", outside.folder),
        ("PORT", outside.port),
        ("PID", os.getpid()),
    ):
        filled = filled.replace(word, str(value))
    return await tried(sandbox, language, filled, processor_s=1.0)


PYTHON = {
    # What people try first
    "read a file": "return open('SECRET').read()",
    "read by descriptor": "import os\nreturn os.read(os.open('SECRET', os.O_RDONLY), 100).decode()",
    "read any open descriptor": (
        "import os\nfound = []\nfor n in range(64):\n    try: found.append(os.read(n, 100).decode())\n    except OSError: pass\nreturn found"
    ),
    "write a file": "open('FOLDER/owned', 'w').write('x')",
    "write by pathlib": "import pathlib\npathlib.Path('FOLDER/owned').write_text('x')",
    "remove a file": "import os\nos.remove('SECRET')",
    "climb out": "import os\nreturn [os.listdir(each) for each in ('/', '.', '..', '../../../..', '/proc/self', 'FOLDER')]",
    "a symbolic link": "import os\nos.symlink('SECRET', 'x')\nreturn open('x').read()",
    "own environment": "import os\nreturn [dict(os.environ), os.getenv('AUTOMATEOS_CANARY')]",
    "the process' environment": "return open('/proc/self/environ').read()",
    "the parent's memory": "return open('/proc/PID/mem', 'rb').read(10)",
    "a shell": "import os\nreturn os.system('touch FOLDER/owned')",
    "popen": "import os\nreturn os.popen('cat SECRET').read()",
    "subprocess": "import subprocess\nreturn subprocess.check_output(['cat', 'SECRET']).decode()",
    "fork": "import os\nreturn os.fork()",
    "exec": "import os\nos.execv('/bin/sh', ['sh', '-c', 'touch FOLDER/owned'])",
    "fork_exec": "import _posixsubprocess",
    "kill the parent": "import os, signal\nos.kill(PID, 9)",
    "a connection": "import socket\nsocket.create_connection(('127.0.0.1', PORT), 1).send(b'x')",
    "a bare socket": "import socket\ns = socket.socket()\ns.connect(('127.0.0.1', PORT))",
    "a datagram": "import socket\nsocket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))",
    "a listening socket": "import socket\ns = socket.socket()\ns.bind(('0.0.0.0', 0))\ns.listen()",
    "a name": "import socket\nreturn socket.gethostbyname('localhost')",
    "urllib": "import urllib.request\nreturn urllib.request.urlopen('http://127.0.0.1:PORT').read()",
    "asyncio": "import asyncio\nasync def f(): return await asyncio.open_connection('127.0.0.1', PORT)\nasyncio.run(f())",
    "ctypes": "import ctypes\nreturn ctypes.CDLL(None).system(b'touch FOLDER/owned')",
    "cffi": "import cffi",
    "mmap": "import mmap\nreturn mmap.mmap(-1, 10)",
    "a thread": "import threading\nthreading.Thread(target=print).start()",
    "a native module": (
        "import importlib.machinery as m, importlib.util as u\nloader = m.ExtensionFileLoader('x', '/lib/x86_64-linux-gnu/libc.so.6')\n"
        "return str(u.module_from_spec(u.spec_from_loader('x', loader)))"
    ),
    "packages": "import pip",
    "breakpoint": "breakpoint()",
    # Jails: by way of classes, frames and code
    "subclasses": (
        "for each in ().__class__.__base__.__subclasses__():\n    if each.__name__ == '_wrap_close':\n"
        "        return each.__init__.__globals__['system']('touch FOLDER/owned')"
    ),
    "catch_warnings": (
        "return [c for c in ().__class__.__mro__[1].__subclasses__() if c.__name__ == 'catch_warnings'][0]()"
        "._module.__builtins__['__import__']('os').popen('cat SECRET').read()"
    ),
    "FileLoader": "return [c for c in object.__subclasses__() if c.__name__ == 'FileLoader'][0]('x', 'SECRET').get_data('SECRET').decode()",
    "generator frame (CVE-2023-37271)": (
        "def g():\n    yield box[0].gi_frame.f_back\nbox = []\nbox.append(g())\nframe = next(box[0])\n"
        "while frame.f_back: frame = frame.f_back\nreturn frame.f_builtins['open']('SECRET').read()"
    ),
    "format string (CVE-2023-41039)": (
        "import string\nclass A:\n    def f(self): pass\nreturn '{0.f.__globals__[__builtins__].open}'.format(A()) + "
        "string.Formatter().get_field('a.__class__.__base__', [], {'a': open('SECRET').read()})[0]"
    ),
    "exception group (CVE-2025-22153)": (
        "try:\n    raise ExceptionGroup('x', [ValueError(1)])\nexcept* ValueError as e:\n"
        "    return e.__traceback__.tb_frame.f_globals['__builtins__'].open('SECRET').read()"
    ),
    "AttributeError.obj (CVE-2026-0863)": (
        "try:\n    '{0.x.y}'.format(open)\nexcept AttributeError as e:\n    return e.obj('SECRET').read()"
    ),
    "the frames above": (
        "import sys\nframe, names = sys._getframe(), []\nwhile frame:\n    names += frame.f_globals\n    frame = frame.f_back\n"
        "return [name for name in names if 'CANARY' in name or name == 'AUTOMATEOS_CANARY']"
    ),
    "all objects": "import gc\nreturn [str(o)[:80] for o in gc.get_objects() if 'CANARY-' in str(o)[:80]]",
    "pickle": (
        "import pickle\nclass A:\n    def __reduce__(self): return (__import__('os').system, ('touch FOLDER/owned',))\npickle.loads(pickle.dumps(A()))"
    ),
    "audit": "import sys\nsys.addaudithook(lambda *a: None)\nreturn open('SECRET').read()",
    "broken bytecode": (
        "def f(): return 1\nf.__code__ = f.__code__.replace(co_consts=(), co_code=bytes([100, 255]) * 20 + bytes([83, 0]))\nreturn str(f())"
    ),
    "a crafted code object": (
        "def f(): pass\nfor op in range(256):\n    try:\n        exec(f.__code__.replace(co_code=bytes([op, 255]) * 8, co_stacksize=1))\n"
        "    except Exception: pass"
    ),
    # What this sandbox invites: its own door, its own words
    "the door's own function": "import wit_world\nfor n in range(100_000): wit_world.say('info', n, 'x' * 100)",
    "a level that is none": "import wit_world\nwit_world.say('\\x00{}', 2 ** 32 - 1, '\\x00' * 100_000)",
    "a line beyond numbers": "import wit_world\nwit_world.say('info', -1, 'x')",
    "a huge line": "import wit_world\nwit_world.say('info', 1, 'x' * 50_000_000)",
    "no JSON": "import json\njson.dumps = lambda *a, **k: '{\"a\": '",
    "another answer": 'import json\njson.dumps = lambda *a, **k: \'1}, {"type": "returned", "value": "\' + chr(0) * 10',
    "JSON of other things": "import json\njson.dumps = lambda *a, **k: 'NaN'",
    "a hundred thousand brackets": "import json\njson.dumps = lambda *a, **k: '[' * 100_000",
    "an answer that is no text": "import json\njson.dumps = lambda *a, **k: 7",
    "an error that is none": "import json\njson.dumps = lambda *a, **k: '{}'\nraise ValueError",
    "an error with a strange kind": 'import json\njson.dumps = lambda *a, **k: \'{"kind": "processor", "message": 1}\'\nraise ValueError',
    "sleep": "import time\ntime.sleep(60)",
    "wait": "import select\nselect.select([], [], [], 60)",
    "poll": "import select\np = select.poll()\np.register(0)\np.poll(60_000)",
    "standard output": "import sys, os\nos.write(1, b'\\xff\\xff\\xff\\xff' * 100)\nsys.__stdout__.write('x' * 10_000)\nsys.__stdout__.flush()",
    "standard input": "import sys, os\nreturn sys.stdin.read() + os.read(0, 100).decode()",
    "a segment fault": "import sys\nsys.setrecursionlimit(10 ** 9)\nexec('(' * 90 + ')' * 90)\nf = lambda g: g(g)\nf(f)",
}

JAVASCRIPT = {
    "process": "return process.env",
    "require": "return require('fs').readFileSync('SECRET', 'utf8')",
    "fetch": "return await fetch('http://127.0.0.1:PORT')",
    "XMLHttpRequest": "return new XMLHttpRequest()",
    "import": "return (await import('fs')).readFileSync('SECRET', 'utf8')",
    "node:": "return (await import('node:child_process')).execSync('cat SECRET').toString()",
    "QuickJS' std": "return (await import('std')).loadFile('SECRET')",
    "QuickJS' os": "return (await import('os')).exec(['touch', 'FOLDER/owned'])",
    "QuickJS' globals": "return std.loadFile('SECRET') + os.readdir('/')",
    "a file by its path": "return await import('SECRET')",
    "Deno and Bun": "return typeof Deno !== 'undefined' ? Deno.readTextFileSync('SECRET') : Bun.file('SECRET')",
    "the constructor": "return (0).constructor.constructor('return process')().mainModule.require('fs').readFileSync('SECRET', 'utf8')",
    "this' constructor (n8n CVE-2025-68613)": (
        "return (function () { return this.process.mainModule.require('child_process').execSync('cat SECRET').toString() })()"
    ),
    "Function (Flowise CVE-2025-59528)": "return Function('return process.mainModule.require(\"fs\")')().readFileSync('SECRET', 'utf8')",
    "vm2 issue 32: a host error": "try { null.x } catch (e) { return e.constructor.constructor('return process')().mainModule.require('fs') }",
    "vm2 issue 174: getPrototypeOf": (
        "let p; try { throw new Proxy({}, {getPrototypeOf() { throw (x) => x.constructor.constructor('return process')() }}) }\n"
        "catch (e) { try { e instanceof Error } catch (f) { p = f(() => {}) } } return p.mainModule"
    ),
    "vm2 issue 177: construct": (
        "const C = new Proxy(class A {}, {construct() { return () => (x) => x.constructor('return process')() }});\nreturn new C()()(() => {}).mainModule"
    ),
    "vm2 issue 178: a prototype": (
        "let p; Object.prototype.has = (t) => { p = t.constructor('return process')() }; '' in console.log; return p.mainModule"
    ),
    "vm2 issue 184: lookupGetter": (
        "return Object.getOwnPropertyDescriptor(console.log.__lookupGetter__('__proto__').call(console.log), 'constructor')"
        ".value('return process')().mainModule"
    ),
    "vm2 issue 199: the stack's end": (
        "RangeError.prototype.c = (f) => f.constructor('return process')();\nconst r = () => { try { r() } catch (e) { return e } };\n"
        "let e; try { e = r() } catch (x) { e = x } return e.c(console.log).mainModule"
    ),
    "vm2 issue 225: a TypeError": (
        "TypeError.prototype.go = (f) => f.constructor('return process')();\ntry { Object.preventExtensions([]).x.y } catch (e) { return e.go(() => {}).mainModule }"
    ),
    "vm2 CVE-2023-29017: prepareStackTrace": (
        "Error.prepareStackTrace = (e, frames) => { for (const f of frames) { const t = f.getThis?.() ?? f.getFunction?.();"
        " if (t) return t.constructor.constructor('return process')() } return 'none' };\nreturn new Error().stack.mainModule?.filename"
    ),
    "vm2 CVE-2023-30547: a thrown proxy": (
        "const p = new Proxy({}, {getPrototypeOf() { const e = new Error(); e.stack; throw e }});\n"
        "try { throw p } catch (e) { return e.constructor.constructor('return process')().mainModule.filename }"
    ),
    "vm2 CVE-2023-37466: Symbol.species": (
        "const f = async () => { const e = new Error(); e.name = Symbol(); return e.stack };\nlet p = f();\n"
        "p.constructor = {[Symbol.species]: class { constructor(go) { go((x) => x, (e) => e.constructor.constructor('return process')().exit()) } }};\n"
        "p.then(); return (await f()).mainModule"
    ),
    "vm2 CVE-2026-22709: then of an async function": (
        "const then = Promise.prototype.then; Promise.prototype.then = function (a, b) { return then.call(this, a, (e) => b(e.constructor.constructor('return process')())) };\n"
        "throw (async () => { throw new Error() })()"
    ),
    "eval": "return (0, eval)('typeof process + typeof require + typeof __host + typeof __run')",
    "the door": "return [typeof __host, typeof __run, Object.getOwnPropertyNames(globalThis).filter((n) => n.startsWith('__') && n.includes('host'))]",
    "caught by a patched JSON": "JSON.stringify = () => '{'; JSON.parse = () => 7; return 1",
    "caught by toJSON": "return {toJSON() { return {toString: null, a: 1} }}",
    "a getter that throws": "return {get a() { throw new Error('x') }}",
    "a thenable": "return {then(resolve) { resolve({a: 1}); resolve({a: 2}); throw 1 }}",
    "patched internals": (
        "String.prototype.slice = () => { throw 1 }; Array.prototype.map = () => 1; RegExp.prototype.exec = () => 1;\n"
        "Object.hasOwn = null; Promise = null; console.log('x')"
    ),
    "WebAssembly": "return new WebAssembly.Module(new Uint8Array(8))",
    "blocking the host": "Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60000)",
    "a worker": "return new Worker('x')",
    "timers": "setTimeout(() => {}, 60000)",
    "finalizers": "new FinalizationRegistry(() => { throw 1 }).register({}, 1); return 1",
    "bytes": "const b = new Uint8Array(1 << 20); return new DataView(b.buffer).getFloat64((1 << 20) - 1)",
    "a resized buffer": (
        "const b = new ArrayBuffer(8, {maxByteLength: 1 << 20}); const v = new Uint32Array(b);\n"
        "v.fill({valueOf() { b.resize(0); return 1 }}); b.resize(1 << 20); return v.length"
    ),
    "a sort that shrinks": "const a = Array(1000).fill(1); a.sort(() => { a.length = 0; return -1 }); return a.length",
    "a species that lies": (
        "class L extends Array { static get [Symbol.species]() { return function () { return new Uint8Array(1) } } }\nreturn L.from([1, 2, 3]).map((x) => x).length"
    ),
}


@pytest.mark.parametrize("code", PYTHON.values(), ids=PYTHON.keys())
async def test_python_does_not_get_out(sandbox: Sandbox, outside: Outside, code: str) -> None:
    attack = await attacked(sandbox, outside, "python", code)
    assert CANARY not in attack.everything
    assert outside.untouched()
    assert "code.sandbox" not in attack.everything, attack.outcome


@pytest.mark.parametrize("code", JAVASCRIPT.values(), ids=JAVASCRIPT.keys())
async def test_javascript_does_not_get_out(sandbox: Sandbox, outside: Outside, code: str) -> None:
    attack = await attacked(sandbox, outside, "javascript", code)
    assert CANARY not in attack.everything
    assert outside.untouched()
    assert "code.sandbox" not in attack.everything, attack.outcome


@pytest.mark.parametrize(
    "code",
    [
        "return [typeof process, typeof require, typeof fetch, typeof WebAssembly, typeof setTimeout, typeof std, typeof os, typeof __host]",
        "return [1, 2, 3, 4, 5, 6, 7, 8].map(() => Function('return typeof process')())",
    ],
)
async def test_javascript_has_its_language_and_nothing_else(sandbox: Sandbox, code: str) -> None:
    assert (await tried(sandbox, "javascript", code)).output == ["undefined"] * 8


async def test_the_traps_are_set(outside: Outside) -> None:
    # Without this, a test above could pass because there was nothing to find.
    assert outside.secret.read_text() == os.environ["AUTOMATEOS_CANARY"] == CANARY
    _, writer = await asyncio.open_connection("127.0.0.1", outside.port)
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()
    await asyncio.sleep(0.05)
    assert outside.visits == ["tcp"]
    assert not outside.untouched()
