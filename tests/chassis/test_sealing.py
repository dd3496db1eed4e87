"""What sealed values promise: they open in their own place, with their own key, and nowhere else."""

import base64
import json
import string
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis.sealing import (
    BadPointer,
    DataKey,
    KeyFileUnusable,
    MasterKey,
    Opener,
    Place,
    Sealer,
    SigningKey,
    Unsealable,
    generation_of,
    new_data_key,
    new_salt,
    open_document,
    open_sealed,
    parse_pointer,
    seal,
    seal_paths,
    unwrap_data_key,
    verify,
    wrap_data_key,
    wrapped_by,
)
from chassis.seals import is_sealed, mark
from chassis.secret import Secret
from chassis.written import written
from contracts.codec import Malformed

PLACE = Place(org="org_a", object="secret_1", field="value")
SALT = new_salt()
KEY = new_data_key("org_a", 1)


def master() -> MasterKey:
    return MasterKey(Secret(bytes(range(32))))


def sealer(key: DataKey = KEY, place: Place = PLACE) -> Sealer:
    return Sealer(key, SALT, "run.value", place)


def opener(*keys: DataKey, place: Place = PLACE) -> Opener:
    return Opener({key.generation: key for key in keys or (KEY,)}, SALT, "run.value", place)


@given(st.binary(max_size=2_000))
def test_what_is_sealed_opens_again(plaintext: bytes) -> None:
    blob = seal(KEY, SALT, "vault.secret", PLACE, plaintext)
    version, generation, nonce, _ = blob.split("|")
    assert (version, generation, len(nonce)) == ("v1", "1", 16)
    assert open_sealed({1: KEY}, SALT, "vault.secret", PLACE, blob) == plaintext


def test_the_same_value_sealed_twice_looks_different() -> None:
    assert len({sealer().seal(b"x") for _ in range(100)}) == 100


@pytest.mark.parametrize(
    "place",
    [
        Place(org="org_a", object="secret_2", field="value"),
        Place(org="org_a", object="secret_1", field="other"),
        Place(org="org_a", object="secret_1|value", field=""),
        Place(org="org_a", object="secret_1%7Cvalue", field=""),
        Place(org="org_a", object="", field="secret_1|value"),
    ],
)
def test_a_copied_row_does_not_open_in_another_place(place: Place) -> None:
    with pytest.raises(Unsealable, match="not authentic"):
        opener(place=place).open(sealer().seal(b"x"))


def test_no_two_places_are_one_place_written_differently() -> None:
    blob = sealer(place=Place(org="org_a", object="a|b", field="c")).seal(b"x")
    for place in (Place(org="org_a", object="a", field="b|c"), Place(org="org_a", object="a%7Cb", field="c")):
        with pytest.raises(Unsealable, match="not authentic"):
            opener(place=place).open(blob)


def test_a_proof_is_the_same_for_the_same_bytes_and_only_with_the_same_key_and_salt() -> None:
    proof = sealer().proof(b"0007")
    assert sealer().proof(b"0007") == proof
    assert len(proof) == 64
    others = [
        Sealer(new_data_key("org_a", 1), SALT, "run.value", PLACE),
        Sealer(KEY, new_salt(), "run.value", PLACE),
        Sealer(KEY, SALT, "worker.lease", PLACE),
    ]
    proofs = [sealer().proof(b"0008"), *(other.proof(b"0007") for other in others)]
    assert len({proof, *proofs}) == 5


def test_a_blob_has_one_spelling() -> None:
    blob = sealer().seal(b"x")  # 17 bytes: the last character has bits that say nothing.
    opened = []
    for last in string.ascii_letters + string.digits + "-_":
        try:
            opened.append(opener().open(blob[:-1] + last))
        except Unsealable:
            continue
    assert opened == [b"x"]


def test_a_blob_does_not_open_under_another_key_salt_purpose_or_generation() -> None:
    blob = sealer().seal(b"x")
    with pytest.raises(Unsealable, match="not authentic"):
        opener(new_data_key("org_a", 1)).open(blob)
    with pytest.raises(Unsealable, match="not authentic"):
        open_sealed({1: KEY}, new_salt(), "run.value", PLACE, blob)
    with pytest.raises(Unsealable, match="not authentic"):
        open_sealed({1: KEY}, SALT, "vault.secret", PLACE, blob)
    same_key = DataKey(org="org_a", generation=2, key=KEY.key)
    with pytest.raises(Unsealable, match="not authentic"):
        opener(same_key).open(blob.replace("v1|1|", "v1|2|"))
    with pytest.raises(Unsealable, match="unknown key"):
        opener().open(blob.replace("v1|1|", "v1|2|"))


def test_a_key_seals_only_for_its_own_org() -> None:
    with pytest.raises(ValueError, match="own org"):
        sealer(new_data_key("org_b", 1))


def test_an_older_generation_still_opens_beside_a_newer_one() -> None:
    newer = new_data_key("org_a", 2)
    old, new = sealer().seal(b"old"), sealer(newer).seal(b"new")
    both = opener(KEY, newer)
    assert (both.open(old), both.open(new)) == (b"old", b"new")
    assert (generation_of(old), generation_of(new)) == (1, 2)


@given(st.data())
def test_a_changed_blob_never_opens(data: st.DataObject) -> None:
    blob = sealer().seal(b"twenty bytes of text")
    place = data.draw(st.integers(0, len(blob) - 1))
    char = data.draw(st.characters(codec="ascii"))
    changed = blob[:place] + char + blob[place + 1 :]
    if changed != blob:
        with pytest.raises(Unsealable):
            opener().open(changed)


@given(st.text(max_size=80))
def test_any_other_text_is_refused(text: str) -> None:
    with pytest.raises(Unsealable):
        opener().open(text)
    with pytest.raises(Unsealable):
        unwrap_data_key([master()], "org_a", 1, text)


def test_a_data_key_opens_only_with_its_master_key_org_and_generation() -> None:
    wrapped = wrap_data_key(master(), KEY)
    assert unwrap_data_key([master()], "org_a", 1, wrapped).key.reveal() == KEY.key.reveal()
    assert wrapped_by(wrapped) == master().id
    for org, generation in (("org_b", 1), ("org_a", 2)):
        with pytest.raises(Unsealable, match="not authentic"):
            unwrap_data_key([master()], org, generation, wrapped)
    with pytest.raises(Unsealable, match="unknown key"):
        unwrap_data_key([MasterKey(Secret(bytes(32)))], "org_a", 1, wrapped)


def test_during_a_rotation_either_master_key_opens_its_own_rows() -> None:
    new = MasterKey(Secret(b"n" * 32))
    rows = [wrap_data_key(master(), KEY), wrap_data_key(new, KEY)]
    opened = [unwrap_data_key([new, master()], "org_a", 1, row).key.reveal() for row in rows]
    assert opened == [KEY.key.reveal()] * 2
    assert "n" * 8 not in repr(new)


def test_a_key_file_is_made_once_and_only_for_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    made = MasterKey.generate(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(base64.b64decode(path.read_bytes())) == 32
    assert MasterKey.from_file(path).id == made.id
    with pytest.raises(KeyFileUnusable, match="exists"):
        MasterKey.generate(path)


def test_a_key_file_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "master.key"
    MasterKey.generate(path)
    for mode in (0o640, 0o604, 0o660, 0o611):
        path.chmod(mode)
        with pytest.raises(KeyFileUnusable, match="chmod 600"):
            MasterKey.from_file(path)


@pytest.mark.parametrize(
    "content", [b"", b"short", b"!" * 44, base64.b64encode(b"x" * 31), base64.b64encode(b"x" * 33)]
)
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyFileUnusable):
        MasterKey.from_file(path)


def test_a_link_a_directory_and_a_missing_file_are_refused(tmp_path: Path) -> None:
    MasterKey.generate(tmp_path / "real")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for name in ("link", "missing", "."):
        with pytest.raises(KeyFileUnusable):
            MasterKey.from_file(tmp_path / name)


def test_an_anchor_is_verified_with_the_public_key_alone(tmp_path: Path) -> None:
    key = SigningKey.generate(tmp_path / "signing.key")
    signature = SigningKey.from_file(tmp_path / "signing.key").sign(b"root")
    assert verify(key.public, b"root", signature)
    assert not verify(key.public, b"toor", signature)
    assert not verify(key.public, b"root", signature[:-1] + bytes([signature[-1] ^ 1]))
    assert not verify(SigningKey(Secret(b"s" * 32)).public, b"root", signature)
    assert not verify(b"not a key", b"root", signature)
    assert not verify(key.public, b"root", b"")


# --- Documents ------------------------------------------------------------------------------

DOCUMENT: Any = {
    "user": {"name": "Ann", "password": "hunter2"},
    "cards": [{"number": 4111, "kind": "a"}, {"number": 4222, "kind": "b"}],
    "a/b": {"~c": 1.5},
    "note": None,
}


def shape(value: Any) -> Any:
    if is_sealed(value):
        return "sealed"
    if isinstance(value, dict):
        return {key: shape(item) for key, item in value.items()}
    return [shape(item) for item in value] if isinstance(value, list) else value


def test_the_named_places_are_sealed_and_nothing_else() -> None:
    before = json.dumps(DOCUMENT)
    sealed = seal_paths(DOCUMENT, ["/user/password", "/cards/*/number", "/a~1b/~0c", "/note"], sealer())
    assert shape(sealed) == {
        "user": {"name": "Ann", "password": "sealed"},
        "cards": [{"number": "sealed", "kind": "a"}, {"number": "sealed", "kind": "b"}],
        "a/b": {"~c": "sealed"},
        "note": "sealed",
    }
    assert "hunter2" not in json.dumps(sealed)
    assert open_document(sealed, opener()) == DOCUMENT
    assert json.dumps(DOCUMENT) == before


def test_bytes_are_read_as_json_and_anything_else_is_refused() -> None:
    sealed = seal_paths(b'{"a":{"b":[1,2]}}', ["/a/b/1"], sealer())
    assert shape(sealed) == {"a": {"b": [1, "sealed"]}}
    for hostile in (b"{", b"\xff", b"[" * 100_000):
        with pytest.raises(Malformed):
            seal_paths(hostile, ["/a"], sealer())


@pytest.mark.parametrize(
    "path", ["/nobody", "/user/name/deeper", "/cards/7", "/cards/-1", "/cards/01", "/cards/x", "/*/nobody"]
)
def test_a_place_that_is_not_there_is_ignored(path: str) -> None:
    assert seal_paths(DOCUMENT, [path], sealer()) == DOCUMENT


def test_the_whole_document_and_overlapping_places_are_sealed_once() -> None:
    assert shape(seal_paths(DOCUMENT, ["", "/user"], sealer())) == "sealed"
    sealed = seal_paths(DOCUMENT, ["/user/password", "/user", "/user/*"], sealer())
    assert shape(sealed)["user"] == "sealed"
    assert open_document(sealed, opener()) == DOCUMENT


def test_a_stranger_cannot_pass_something_off_as_sealed() -> None:
    own = sealer().seal(b'"from elsewhere in the run"')
    pretended = {"password": {"$sealed": own}}
    sealed = seal_paths(pretended, ["/password"], sealer())
    # It was sealed as the text that it is, and comes out as that text again: never opened twice.
    assert open_document(sealed, opener()) == pretended


def test_a_sealed_value_carried_elsewhere_in_its_run_still_opens() -> None:
    sealed: Any = seal_paths(DOCUMENT, ["/user/password"], sealer())
    carried = {"config": {"headers": [{"value": sealed["user"]["password"]}]}}
    assert open_document(carried, opener()) == {"config": {"headers": [{"value": "hunter2"}]}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("hunter2", "hunter2"),
        (1234, "1234"),
        (1.0, "1"),
        (None, ""),
        (True, "true"),
        ([1], "[1]"),
        ("ü~|", "ü~|"),
    ],
)
def test_a_sealed_value_is_opened_inside_of_the_texts_into_which_a_template_wrote_it(
    value: Any, text: str
) -> None:
    sealed: Any = seal_paths({"token": value}, ["/token"], sealer())
    carried = {"headers": [f"Bearer {written(sealed['token'])}, {written(sealed['token'])}!"]}
    assert "hunter2" not in carried["headers"][0]
    assert open_document(carried, opener()) == {"headers": [f"Bearer {text}, {text}!"]}


def test_what_was_opened_is_not_opened_again_and_what_only_begins_like_a_mark_stays() -> None:
    inner = mark(sealer().seal(b'"never seen"'))
    sealed: Any = seal_paths({"token": inner}, ["/token"], sealer())
    assert open_document(f"<{written(sealed['token'])}>", opener()) == f"<{inner}>"
    for text in ("automateos-sealed~", "automateos-sealed~v1|1|x|y~", "automateos-sealed~" * 10_000):
        assert open_document(text, opener()) == text
    assert mark("v1|1|x|y") is None
    assert written({"$sealed": "v1|1|x|y"}) == '{"$sealed":"v1|1|x|y"}'


def test_a_mark_of_another_run_does_not_open() -> None:
    elsewhere = sealer(place=Place(org="org_a", object="another run", field="value"))
    with pytest.raises(Unsealable, match="not authentic"):
        open_document(f"Bearer {mark(elsewhere.seal(b'1'))}", opener())


def test_a_sealed_value_of_another_run_does_not_open() -> None:
    sealed = seal_paths(DOCUMENT, ["/user/password"], sealer())
    with pytest.raises(Unsealable):
        open_document(sealed, opener(place=Place(org="org_a", object="another run", field="value")))


def test_a_document_deeper_than_the_edge_lets_in_is_refused() -> None:
    deep: Any = 1
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(Unsealable, match="too deep"):
        open_document(deep, opener())


@pytest.mark.parametrize(
    "value", [None, 1, "v1|1|a|b", {}, {"$sealed": 1}, {"$sealed": "x", "more": 1}, [{"$sealed": "x"}]]
)
def test_what_does_not_look_sealed_is_left_alone(value: object) -> None:
    assert not is_sealed(value)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=20,
)
POINTERS = st.lists(
    st.lists(st.sampled_from(["*", "0", "1", "a", "", "a~1b", "~0"]), max_size=4).map(
        lambda tokens: "".join(f"/{token}" for token in tokens)
    ),
    max_size=4,
)


@given(JSON, POINTERS)
def test_opening_undoes_sealing(document: Any, paths: list[str]) -> None:
    sealed = seal_paths(document, paths, sealer())
    assert json.dumps(open_document(sealed, opener())) == json.dumps(document)


@pytest.mark.parametrize("text", ["a", "a/b", "/~", "/~2", "/a~", "#/a"])
def test_what_is_no_json_pointer_is_refused(text: str) -> None:
    with pytest.raises(BadPointer):
        parse_pointer(text)
