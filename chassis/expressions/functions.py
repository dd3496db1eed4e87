"""The functions and macros of expressions, each with an example that a test evaluates; docs/ is generated from this."""

from typing import Final, Literal, TypeAlias

from msgspec import Struct

Group: TypeAlias = Literal[
    "operators", "lists and objects", "text", "numbers", "time", "bytes", "conversion", "sets"
]


class FunctionDoc(Struct, frozen=True):
    """One row: how it is written, what it does, and an expression with the result that it gives."""

    name: str
    group: Group
    usage: str
    text: str
    example: str
    gives: str
    """As JSON."""
    calls: tuple[str, ...] = ()
    """The engine's names for it, where they differ from `name`."""


MACROS: Final = frozenset({"has", "orValue", "hasValue", "all", "exists", "exists_one", "filter", "map", "sortBy", "cel.bind"})  # fmt: skip
"""Names that are expanded into something else before anything runs; they are never called."""

# One row, one line.
# fmt: off
FUNCTIONS: Final = (
    # --- operators
    FunctionDoc("+", "operators", "a + b", "Sum of numbers; texts, lists or bytes in a row; a moment and a duration. Whole and floating-point numbers mix and give floating-point.", "[1 + 2.5, 2 + 2]", "[3.5, 4]", ("_+_",)),
    FunctionDoc("-", "operators", "a - b", "Difference of numbers, moments or durations.", "[5 - 2, 5 - 0.5]", "[3, 4.5]", ("_-_",)),
    FunctionDoc("*", "operators", "a * b", "Product.", "100 * 1.19", "119.0", ("_*_",)),
    FunctionDoc("/", "operators", "a / b", "Quotient. Two whole numbers give a whole number: write 7 / 2.0 or double(7) / 2 for 3.5.", "[7 / 2, 7 / 2.0]", "[3, 3.5]", ("_/_",)),
    FunctionDoc("%", "operators", "a % b", "Remainder of whole numbers.", "7 % 3", "1", ("_%_",)),
    FunctionDoc("-", "operators", "-a", "The negative number.", "-(1 + 2)", "-3", ("-_",)),
    FunctionDoc("==", "operators", "a == b", "Equal; `!=`: not equal. Lists and objects are compared by what is in them.", "[{'a': 1} == {'a': 1}, 1 != 2]", "[true, true]", ("_==_", "_!=_")),
    FunctionDoc("<", "operators", "a < b", "Less; also `<=`, `>`, `>=`. For numbers, texts, moments, durations.", "[1 < 1.5, 'a' <= 'b', 2 > 1, 2 >= 3]", "[true, true, true, false]", ("_<_", "_<=_", "_>_", "_>=_")),
    FunctionDoc("&&", "operators", "a && b", "Both. An error on one side does not count when the other side is false.", "true && false", "false", ("_&&_",)),
    FunctionDoc("||", "operators", "a || b", "One or both. An error on one side does not count when the other side is true.", "1 / 0 > 1 || true", "true", ("_||_",)),
    FunctionDoc("!", "operators", "!a", "Not.", "!(1 > 2)", "true", ("!_",)),
    FunctionDoc("? :", "operators", "condition ? a : b", "The first when the condition holds, else the second. Only the chosen one is evaluated.", "2 > 1 ? 'more' : 'less'", '"more"', ("_?_:_",)),
    FunctionDoc("in", "operators", "a in list", "Whether a list has the item, or an object the name.", "[2 in [1, 2], 'b' in {'a': 1}]", "[true, false]", ("@in",)),
    FunctionDoc("[ ]", "operators", "list[0], object['name']", "An item by its place (from 0), or a member by its name.", "[[7, 8][1], {'a b': 1}['a b']]", "[8, 1]", ("_[_]",)),
    # --- lists and objects
    FunctionDoc("has", "lists and objects", "has(a.b)", "Whether a field is there.", "has({'a': 1}.a)", "true"),
    FunctionDoc("orValue", "lists and objects", "a.?b.orValue(c), list[?0].orValue(c)", "What is there, or something else where it is absent; of a way of several parts, all from the first `?` on may be absent. A null is there.", "cel.bind(x, {'a': {'b': 1}, 'l': []}, [x.?a.b.orValue(0), x.?c.b.orValue(0), x.l[?0].orValue(0)])", '[1, 0, 0]'),
    FunctionDoc("hasValue", "lists and objects", "a.?b.hasValue()", "Whether it is there.", "cel.bind(x, {'a': 1}, [x.?a.hasValue(), x.?b.hasValue()])", "[true, false]"),
    FunctionDoc("size", "lists and objects", "size(x), x.size()", "Number of items, members, characters or bytes.", "[size([1, 2]), 'été'.size()]", "[2, 3]"),
    FunctionDoc("map", "lists and objects", "list.map(x, expr), list.map(x, condition, expr)", "A list of what the expression gives for each item; with a condition, only for items where it holds. Over an object: its names, sorted.", "[1, 2, 3].map(x, x > 1, x * 10)", "[20, 30]"),
    FunctionDoc("filter", "lists and objects", "list.filter(x, condition)", "The items for which the condition holds.", "[1, 2, 3].filter(x, x % 2 == 1)", "[1, 3]"),
    FunctionDoc("all", "lists and objects", "list.all(x, condition)", "Whether the condition holds for every item.", "[1, 2].all(x, x > 0)", "true", ("@not_strictly_false",)),
    FunctionDoc("exists", "lists and objects", "list.exists(x, condition)", "Whether it holds for at least one item.", "['a', 'b'].exists(x, x == 'b')", "true"),
    FunctionDoc("exists_one", "lists and objects", "list.exists_one(x, condition)", "Whether it holds for exactly one item.", "[1, 1].exists_one(x, x == 1)", "false"),
    FunctionDoc("sort", "lists and objects", "list.sort()", "The items in ascending order; all of one kind.", "[3, 1, 2].sort()", "[1, 2, 3]"),
    FunctionDoc("sortBy", "lists and objects", "list.sortBy(x, expr)", "The items in ascending order of what the expression gives.", "[{'n': 2}, {'n': 1}].sortBy(x, x.n).map(x, x.n)", "[1, 2]", ("@sortByAssociatedKeys",)),
    FunctionDoc("distinct", "lists and objects", "list.distinct()", "Each item once, in the order of its first place.", "[1, 2, 1].distinct()", "[1, 2]"),
    FunctionDoc("reverse", "lists and objects", "x.reverse()", "A list or text from its end.", "[[1, 2].reverse(), 'abc'.reverse()]", '[[2, 1], "cba"]'),
    FunctionDoc("slice", "lists and objects", "list.slice(from, to)", "The items from one place up to, not including, another.", "[1, 2, 3, 4].slice(1, 3)", "[2, 3]"),
    FunctionDoc("flatten", "lists and objects", "list.flatten(), list.flatten(depth)", "A list of lists as one list.", "[[1], [2, 3]].flatten()", "[1, 2, 3]"),
    # --- text
    FunctionDoc("join", "text", "list.join(), list.join(between)", "The texts of a list as one text.", "['a', 'b'].join(', ')", '"a, b"'),
    # --- lists and objects
    FunctionDoc("cel.bind", "lists and objects", "cel.bind(name, value, expr)", "The expression, with a name for a value that it needs more than once.", "cel.bind(x, 2 + 3, x * x)", "25"),
    # --- text
    FunctionDoc("contains", "text", "text.contains(part)", "Whether a part is in the text.", "'tacocat'.contains('coca')", "true"),
    FunctionDoc("startsWith", "text", "text.startsWith(part)", "Whether the text begins so.", "'hello'.startsWith('he')", "true"),
    FunctionDoc("endsWith", "text", "text.endsWith(part)", "Whether the text ends so.", "'hello'.endsWith('lo')", "true"),
    FunctionDoc("matches", "text", "text.matches(pattern)", "Whether an RE2 pattern is found in the text; `^…$` for all of it.", "'ab-12'.matches('^[a-z]+-[0-9]+$')", "true"),
    FunctionDoc("indexOf", "text", "text.indexOf(part), text.indexOf(part, from)", "The place of the first occurrence, or -1.", "'hello mellow'.indexOf('ello')", "1"),
    FunctionDoc("lastIndexOf", "text", "text.lastIndexOf(part)", "The place of the last occurrence, or -1.", "'hello mellow'.lastIndexOf('ello')", "7"),
    FunctionDoc("charAt", "text", "text.charAt(place)", "One character.", "'hello'.charAt(4)", '"o"'),
    FunctionDoc("substring", "text", "text.substring(from), text.substring(from, to)", "A part of the text.", "['tacocat'.substring(4), 'tacocat'.substring(0, 4)]", '["cat", "taco"]'),
    FunctionDoc("split", "text", "text.split(between), text.split(between, most)", "The parts of the text as a list.", "'a b c'.split(' ')", '["a", "b", "c"]'),
    FunctionDoc("replace", "text", "text.replace(old, new), text.replace(old, new, most)", "The text with a part replaced everywhere.", "'a-b-c'.replace('-', '+')", '"a+b+c"'),
    FunctionDoc("lowerAscii", "text", "text.lowerAscii()", "A to Z in small letters.", "'TacoCat'.lowerAscii()", '"tacocat"'),
    FunctionDoc("upperAscii", "text", "text.upperAscii()", "a to z in capital letters.", "'TacoCat'.upperAscii()", '"TACOCAT"'),
    FunctionDoc("trim", "text", "text.trim()", "Without white space at both ends.", "'  a b '.trim()", '"a b"'),
    FunctionDoc("format", "text", "pattern.format(list)", "%s anything, %d whole number, %.2f number, %x hexadecimal, %e exponent, %b binary, %% a percent sign.", "'%s: %.2f'.format(['sum', 3.14159])", '"sum: 3.14"'),
    FunctionDoc("strings.quote", "text", "strings.quote(text)", "The text in quotation marks, its special characters escaped.", "strings.quote('a \"b\"')", '"\\"a \\\\\\"b\\\\\\"\\""'),
    FunctionDoc("upper", "text", "text.upper()", "Capital letters, in all alphabets.", "'straße'.upper()", '"STRASSE"'),
    FunctionDoc("lower", "text", "text.lower()", "Small letters, in all alphabets.", "'ÀÉ'.lower()", '"àé"'),
    FunctionDoc("padStart", "text", "text.padStart(length), text.padStart(length, character)", "Filled up at the beginning, up to 1,000 characters; padEnd: at the end.", "['7'.padStart(3, '0'), '7'.padEnd(3, '.')]", '["007", "7.."]', ("padStart", "padEnd")),
    FunctionDoc("regex.replace", "text", "regex.replace(text, pattern, new), regex.replace(text, pattern, new, most)", "What an RE2 pattern finds, replaced; \\1 in the new text is the first group.", "regex.replace('2026-11-20', '([0-9]+)-([0-9]+)-([0-9]+)', '\\\\3.\\\\2.\\\\1')", '"20.11.2026"'),
    FunctionDoc("regex.extractAll", "text", "regex.extractAll(text, pattern)", "A list of all that an RE2 pattern finds, or of its one group.", "regex.extractAll('id:1, id:22', 'id:([0-9]+)')", '["1", "22"]'),
    FunctionDoc("urlEncode", "text", "text.urlEncode()", "As a part of a URL; urlDecode: the way back.", "['a b/ü'.urlEncode(), 'a%20b'.urlDecode()]", '["a%20b%2F%C3%BC", "a b"]', ("urlEncode", "urlDecode")),
    FunctionDoc("htmlEscape", "text", "text.htmlEscape()", "As a part of a page or a mail in HTML, also inside of an attribute: no letter of it means anything there.", "'<b>\"Ü\"</b>'.htmlEscape()", '"&lt;b&gt;&quot;Ü&quot;&lt;/b&gt;"'),
    FunctionDoc("parseJson", "text", "text.parseJson()", "The value that a text in JSON stands for.", "'{\"a\": [1]}'.parseJson().a[0] + 1", "2"),
    FunctionDoc("toJson", "text", "x.toJson()", "Any value as a text in JSON, the names of objects sorted.", "[{'b': [1, null], 'a': 'x'}.toJson(), 'a'.toJson()]", '["{\\"a\\":\\"x\\",\\"b\\":[1,null]}","\\"a\\""]'),
    # --- numbers
    FunctionDoc("math.least", "numbers", "math.least(a, b, …), math.least(list)", "The smallest.", "math.least(3, 1.5, 2)", "1.5", ("math.@min",)),
    FunctionDoc("math.greatest", "numbers", "math.greatest(a, b, …), math.greatest(list)", "The largest.", "math.greatest([3, 7, 2])", "7", ("math.@max",)),
    FunctionDoc("math.abs", "numbers", "math.abs(x)", "Without its sign.", "math.abs(-3)", "3"),
    FunctionDoc("math.sign", "numbers", "math.sign(x)", "-1, 0 or 1.", "math.sign(-2.5)", "-1.0"),
    FunctionDoc("math.ceil", "numbers", "math.ceil(x)", "Up to a whole number; of floating-point numbers.", "math.ceil(1.2)", "2.0"),
    FunctionDoc("math.floor", "numbers", "math.floor(x)", "Down to a whole number.", "math.floor(1.8)", "1.0"),
    FunctionDoc("math.round", "numbers", "math.round(x)", "To the nearest whole number, halves away from zero.", "math.round(2.5)", "3.0"),
    FunctionDoc("math.trunc", "numbers", "math.trunc(x)", "Without what is behind the point.", "math.trunc(-1.8)", "-1.0"),
    FunctionDoc("math.sqrt", "numbers", "math.sqrt(x)", "The square root.", "math.sqrt(81)", "9.0"),
    FunctionDoc("math.isNaN", "numbers", "math.isNaN(x)", "Whether a calculation had no answer.", "math.isNaN(0.0 / 0.0)", "true"),
    FunctionDoc("math.isInf", "numbers", "math.isInf(x)", "Whether a number became infinite.", "math.isInf(1.0 / 0.0)", "true"),
    FunctionDoc("math.isFinite", "numbers", "math.isFinite(x)", "Whether it is an ordinary number.", "math.isFinite(1.5)", "true"),
    FunctionDoc("math.bitAnd", "numbers", "math.bitAnd(a, b)", "Bits of both; also math.bitOr, math.bitXor, math.bitNot.", "[math.bitAnd(6, 3), math.bitOr(6, 3), math.bitXor(6, 3), math.bitNot(0)]", "[2, 7, 5, -1]", ("math.bitAnd", "math.bitOr", "math.bitXor", "math.bitNot")),
    FunctionDoc("math.bitShiftLeft", "numbers", "math.bitShiftLeft(a, n)", "Bits moved; also math.bitShiftRight.", "[math.bitShiftLeft(1, 4), math.bitShiftRight(16, 4)]", "[16, 1]", ("math.bitShiftLeft", "math.bitShiftRight")),
    FunctionDoc("math.sum", "numbers", "math.sum(list)", "The sum of a list of numbers; of none: 0.", "[math.sum([1, 2, 3.5]), math.sum([])]", "[6.5, 0]"),
    # --- conversion
    FunctionDoc("int", "conversion", "int(x)", "A whole number from a number, a text or a moment (seconds since 1970).", "[int('42'), int(3.9), int(timestamp('1970-01-01T00:01:00Z'))]", "[42, 3, 60]"),
    FunctionDoc("uint", "conversion", "uint(x)", "An unsigned whole number.", "uint('7')", "7"),
    FunctionDoc("double", "conversion", "double(x)", "A floating-point number from a number or a text.", "double('1.5')", "1.5"),
    FunctionDoc("string", "conversion", "string(x)", "A text from a number, a truth, a moment, a duration or UTF-8 bytes.", "[string(1.5), string(true), string(b'abc')]", '["1.5", "true", "abc"]'),
    FunctionDoc("bool", "conversion", "bool(x)", "A truth from the text 'true' or 'false'.", "bool('true')", "true"),
    FunctionDoc("type", "conversion", "type(x) == string", "The kind of a value: int, uint, double, string, bool, bytes, list, map, null_type.", "[type(1) == int, type('a') == string, type([]) == list]", "[true, true, true]"),
    FunctionDoc("dyn", "conversion", "dyn(x)", "The same value, whose kind is looked at only in a run: lets both sides of ? : differ.", "true ? dyn(1) : dyn('none')", "1"),
    # --- time
    FunctionDoc("timestamp", "time", "timestamp(text), timestamp(seconds)", "A moment, from RFC 3339 or seconds since 1970. In a result: RFC 3339 in UTC.", "timestamp('2026-11-20T12:00:00+01:00')", '"2026-11-20T11:00:00Z"'),
    FunctionDoc("duration", "time", "duration(text)", "A length of time: '90s', '1h30m', '1.5s'. In a result: seconds.", "duration('1h30m') + duration('1.5s')", '"5401.5s"'),
    FunctionDoc("getFullYear", "time", "moment.getFullYear(), moment.getFullYear('Europe/Berlin')", "The year, in UTC or in a time zone (by name or as '+02:00').", "timestamp('2026-12-31T23:30:00Z').getFullYear('+01:00')", "2027"),
    FunctionDoc("getMonth", "time", "moment.getMonth()", "The month from 0.", "timestamp('2026-11-20T12:00:00Z').getMonth()", "10"),
    FunctionDoc("getDate", "time", "moment.getDate()", "The day of the month from 1; getDayOfMonth: from 0.", "[timestamp('2026-11-20T12:00:00Z').getDate(), timestamp('2026-11-20T12:00:00Z').getDayOfMonth()]", "[20, 19]", ("getDate", "getDayOfMonth")),
    FunctionDoc("getDayOfWeek", "time", "moment.getDayOfWeek()", "The day of the week, Sunday is 0.", "timestamp('2026-11-20T12:00:00Z').getDayOfWeek()", "5"),
    FunctionDoc("getDayOfYear", "time", "moment.getDayOfYear()", "The day of the year from 0.", "timestamp('2026-02-01T00:00:00Z').getDayOfYear()", "31"),
    FunctionDoc("getHours", "time", "moment.getHours(), duration.getHours()", "The hour; also getMinutes, getSeconds, getMilliseconds. Of a duration: all of it in that unit.", "[timestamp('2026-11-20T12:34:56.789Z').getHours(), timestamp('2026-11-20T12:34:56.789Z').getMinutes(), timestamp('2026-11-20T12:34:56.789Z').getSeconds(), timestamp('2026-11-20T12:34:56.789Z').getMilliseconds(), duration('90m').getHours()]", "[12, 34, 56, 789, 1]", ("getHours", "getMinutes", "getSeconds", "getMilliseconds")),
    FunctionDoc("parseDate", "time", "text.parseDate(pattern), text.parseDate(pattern, zone)", "A moment from a text by a pattern; where it has no offset it is meant in the zone, else in UTC.", "'20.11.2026 15:05'.parseDate('dd.MM.yyyy HH:mm', 'Europe/Berlin')", '"2026-11-20T14:05:00Z"'),
    FunctionDoc("formatDate", "time", "moment.formatDate(pattern), moment.formatDate(pattern, zone)", "A moment as text by a pattern.", "timestamp('2026-11-20T12:00:00Z').formatDate('EEE d MMM yyyy, HH:mm', 'Asia/Tokyo')", '"Fri 20 Nov 2026, 21:00"'),
    FunctionDoc("add", "time", "moment.add(count, unit), moment.add(count, unit, zone)", "So many years, quarters, months, weeks, days, hours, minutes or seconds later, or earlier. Days and more go by the zone's calendar and keep the time of day; a day that a month does not have is its last.", "[timestamp('2027-01-31T12:00:00Z').add(1, 'month'), timestamp('2026-03-28T12:00:00Z').add(1, 'day', 'Europe/Berlin')]", '["2027-02-28T12:00:00Z", "2026-03-29T11:00:00Z"]'),
    FunctionDoc("startOf", "time", "moment.startOf(unit), moment.startOf(unit, zone)", "The first moment of the unit in which it lies; weeks begin on Monday.", "timestamp('2026-11-20T12:00:00Z').startOf('week', 'Europe/Berlin')", '"2026-11-15T23:00:00Z"'),
    FunctionDoc("diff", "time", "later.diff(earlier, unit), later.diff(earlier, unit, zone)", "How many whole units lie between two moments; negative when the first is earlier.", "timestamp('2026-12-24T00:00:00Z').diff(timestamp('2026-11-20T12:00:00Z'), 'days')", "33"),
    # --- bytes
    FunctionDoc("bytes", "bytes", "bytes(text)", "The UTF-8 bytes of a text. In a result: base64.", "bytes('abc')", '"YWJj"'),
    FunctionDoc("base64.encode", "bytes", "base64.encode(bytes)", "Bytes as base64 text.", "base64.encode(b'hello')", '"aGVsbG8="'),
    FunctionDoc("base64.decode", "bytes", "base64.decode(text)", "The bytes of base64 text.", "string(base64.decode('aGVsbG8='))", '"hello"'),
    # --- sets
    FunctionDoc("sets.contains", "sets", "sets.contains(list, list)", "Whether every item of the second is in the first.", "sets.contains([1, 2, 3], [2])", "true"),
    FunctionDoc("sets.intersects", "sets", "sets.intersects(list, list)", "Whether at least one item is in both.", "sets.intersects([1, 2], [2, 3])", "true"),
    FunctionDoc("sets.equivalent", "sets", "sets.equivalent(list, list)", "Whether both have the same items, in any order and number.", "sets.equivalent([1, 2, 2], [2, 1])", "true"),
)
# fmt: on
"""What builders may use, in the order of the docs."""
