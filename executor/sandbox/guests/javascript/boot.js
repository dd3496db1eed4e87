// The inside of the JavaScript sandbox, run before the user's code. Nothing here protects anybody: user code can change all
// of it, and the outside believes nothing that comes from here.
(() => {
  const host = globalThis.__host;
  delete globalThis.__host;
  const { stringify, parse } = JSON;
  const WRAPPER_LINES = 2;
  const MESSAGE_CHARS = 1900;
  const LINE_CHARS = 8000;

  const lineOf = (stack) => {
    const found = /<input>:(\d+)/.exec(stack ?? "");
    return found ? Math.max(0, Number(found[1]) - WRAPPER_LINES) : 0;
  };

  const shown = (value) => {
    if (typeof value === "string") return value;
    if (value instanceof Error || typeof value === "bigint") return String(value);
    try {
      return stringify(value) ?? String(value);
    } catch {
      return Object.prototype.toString.call(value);
    }
  };

  class InputError extends Error {
    name = "InputError";
  }

  class Asked extends Error {
    constructor(message, retry) {
      super(message);
      this.retry = retry;
    }
  }

  const say = (level) => (...values) => {
    const text = values.map(shown).join(" ");
    const line = lineOf(new Error().stack);
    for (const each of text.split("\n")) {
      host("s" + stringify({ level, line, text: each.slice(0, LINE_CHARS).toWellFormed() }));
    }
  };

  globalThis.console = {
    debug: say("debug"), trace: say("debug"), log: say("info"), info: say("info"), warn: say("warning"), error: say("error"),
  };

  const kindOf = (value) => (value === null ? "null" : Array.isArray(value) ? "array" : typeof value);

  // The value at `customer.email` or `lines.0.price` of the input; throws when it is missing or of another type.
  const need = (input) => (path, kind, ...preset) => {
    let value = input;
    for (const part of path.split(".")) {
      const there = value !== null && typeof value === "object" && Object.hasOwn(value, part);
      if (!there && preset.length) return preset[0];
      if (!there) throw new InputError(`the input has no ${path}`);
      value = value[part];
    }
    if (kind !== undefined && kindOf(value) !== kind) {
      throw new InputError(`${path} of the input is ${kindOf(value)}, not ${kind}`);
    }
    return value;
  };

  // Ends the attempt with this message; `{ retry: true }` lets the step's retry policy try again.
  const fail = (message = "The code failed the step.", { retry = false } = {}) => {
    throw new Asked(String(message), retry === true);
  };

  const isOutOfMemory = (problem) => problem instanceof Error && String(problem) === "InternalError: out of memory";

  // The engine seeds its own by the clock; this one (sfc32) is seeded by the attempt.
  const chance = (seed) => {
    let [a, b, c, d] = [0, 8, 16, 24].map((at) => parseInt(seed.slice(at, at + 8) || "1", 16) | 0);
    const next = () => {
      const sum = (((a + b) | 0) + d) | 0;
      d = (d + 1) | 0;
      a = b ^ (b >>> 9);
      b = (c + (c << 3)) | 0;
      c = ((c << 21) | (c >>> 11)) + sum | 0;
      return sum >>> 0;
    };
    for (let i = 0; i < 12; i++) next();
    return () => ((next() >>> 5) * 67108864 + (next() >>> 6)) / 9007199254740992;
  };

  const failed = (problem) => {
    const isError = problem instanceof Error;
    const asked = problem instanceof Asked;
    const text = asked ? problem.message : isError ? String(problem) : `Uncaught ${shown(problem)}`;
    host("e" + stringify({
      kind: asked ? "asked" : isOutOfMemory(problem) ? "memory" : "code",
      line: asked || !isError ? 0 : lineOf(problem.stack),
      message: text.toWellFormed().slice(0, MESSAGE_CHARS),
      retry: asked && problem.retry,
    }));
  };

  const returned = (value) => {
    let text;
    try {
      text = stringify(value) ?? "null";
      // Halves of characters, which UTF-8 cannot say.
      if (text.includes("\\ud")) text = stringify(value, (_, each) => (typeof each === "string" ? each.toWellFormed() : each));
    } catch (problem) {
      if (isOutOfMemory(problem)) return failed(problem);
      return failed(new TypeError(`What the code returned cannot be written as JSON: ${problem.message}`));
    }
    host("v" + text);
  };

  globalThis.__run = (source, given) => {
    delete globalThis.__run;
    try {
      const facts = parse(given);
      Math.random = chance(facts.seed);
      const Code = (async () => {}).constructor;
      const code = new Code("input", "need", "fail", "now", "key", source);
      const ending = code(facts.input, need(facts.input), fail, new Date(facts.now * 1000), facts.key);
      if (!(ending instanceof Promise)) throw new SyntaxError("the code closes a brace that it did not open");
      ending.then(returned, failed);
    } catch (problem) {
      failed(problem);
    }
  };
})();
