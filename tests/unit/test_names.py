import string

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from crd.names import InvalidNameError, ModelName

LETTERS = string.ascii_letters + string.digits + "_"


def part(extra: str, limit: int = 255) -> st.SearchStrategy[str]:
    """Any legal part: a letter, a digit or `_`, then also the characters in `extra`."""
    rest = st.text(LETTERS + extra, max_size=limit - 1)
    return st.builds(str.__add__, st.sampled_from(LETTERS), rest)


hosts = part("-.:", limit=350)
namespaces = part("-")
models = part("-.")
tags = part("-.")
names = st.builds(ModelName, host=hosts, namespace=namespaces, model=models, tag=tags)
# Pieces that parsers stumble over, so that random texts are often nearly a name, or just one.
scraps = st.lists(
    st.sampled_from([*"aZ0_-.:/", "//", "é", "K", "٣", "\n", "\0", " ", "x" * 254, "h" * 349])
).map("".join)


def ollama_reads(text: str) -> tuple[str, str, str, str] | None:
    """Do what Ollama's ParseName and IsValid do, step by step: host, namespace, model and tag."""

    def cut(text: str, sep: str) -> tuple[str, str, bool]:
        before, found, after = text.rpartition(sep)
        return (before or "!", after or "!", True) if found else (text, "", False)

    host, namespace, tag = "registry.ollama.ai", "library", "latest"
    if text.rfind(":") > text.rfind("/"):
        text, tag, _ = cut(text, ":")
    text, model, promised = cut(text, "/")
    if not promised:
        model = text
    else:
        text, namespace, promised = cut(text, "/")
        if promised:
            host = text
        else:
            namespace = text
    for kind, value, limit in (("-.:", host, 350), ("-", namespace, 255), ("-.", model, 255)):
        if not legal(value, kind, limit):
            return None
    return (host, namespace, model, tag) if legal(tag, "-.", 255) else None


def legal(text: str, extra: str, limit: int) -> bool:
    """Do what Ollama's isValidPart does: count bytes, look at one character after the other."""
    if not 1 <= len(text.encode()) <= limit or text[0] not in LETTERS:
        return False
    return all(char in LETTERS + extra for char in text)


@given(names)
def test_what_is_printed_reads_back_as_the_same_name(name):
    """Parsing loses nothing, and printing leaves out only what parsing puts back."""
    assert name == ModelName.parse(str(name))
    assert str(name) == str(ModelName.parse(str(name)))


@given(names)
def test_the_canonical_form_is_itself_a_name_and_stays_as_it_is(name):
    """Making a name canonical twice changes nothing, and it is still the same model."""
    again = ModelName.parse(name.canonical)
    assert name == again
    assert name.canonical == again.canonical


@given(names)
def test_case_does_not_tell_two_names_apart(name):
    """Ollama ignores case when it looks a model up, so equality and hash do too."""
    shouted = ModelName.parse(str(name).upper())
    assert name == shouted
    assert hash(name) == hash(shouted)
    assert len({name, shouted}) == 1


@given(names, names)
def test_two_names_are_equal_exactly_if_their_canonical_forms_are(one, other):
    """The canonical form can stand for the name as a key."""
    assert (one == other) == (one.canonical == other.canonical)


def test_a_name_is_not_equal_to_its_text():
    """A text has no canonical form, so it is never taken for a name by accident."""
    assert ModelName.parse("llama3.2:1b") != "llama3.2:1b"


@given(scraps)
@example("")
@example(":")
@example("a/b/c/d")
@example("a:b:c")
@example("h:1/n/m:t")
def test_a_text_is_a_name_exactly_if_ollama_takes_it_for_one(text):
    """Nothing that Ollama refuses gets through, nothing that it takes is refused."""
    assume("://" not in text)  # the one difference; see below
    try:
        name = ModelName.parse(text)
    except InvalidNameError:
        assert ollama_reads(text) is None
    else:
        assert ollama_reads(text) == (name.host, name.namespace, name.model, name.tag)


@given(st.one_of(st.text(), scraps), st.one_of(st.text(), scraps))
def test_any_text_is_a_name_or_a_readable_complaint(name, tag):
    """Whatever stands in a spec, the worst that comes of it is one short line of plain ASCII."""
    complaint = ""
    try:
        ModelName.of(name, tag)
    except InvalidNameError as error:
        complaint = str(error)
    assert complaint.isascii()
    assert complaint.isprintable()
    assert len(complaint) < 180


@given(hosts, namespaces, models, tags)
def test_name_and_tag_make_the_name_that_they_spell_together(host, namespace, model, tag):
    """The two fields of a spec are one name cut at its last colon."""
    path = f"{host}/{namespace}/{model}"
    assert ModelName(host, namespace, model, tag) == ModelName.of(path, tag)


@pytest.mark.parametrize(
    ("text", "host", "namespace", "model", "tag"),
    [
        ("llama3.2", "registry.ollama.ai", "library", "llama3.2", "latest"),
        ("llama3.2:1b", "registry.ollama.ai", "library", "llama3.2", "1b"),
        ("user/model:v1.5", "registry.ollama.ai", "user", "model", "v1.5"),
        ("hf.co/Org/Model:Q4_K_M", "hf.co", "Org", "Model", "Q4_K_M"),
        ("localhost:5000/library/tiny", "localhost:5000", "library", "tiny", "latest"),
        ("localhost:5000/library/tiny:1", "localhost:5000", "library", "tiny", "1"),
        ("_/_/_:_", "_", "_", "_", "_"),
    ],
)
def test_parts_left_out_have_ollamas_defaults(text, host, namespace, model, tag):
    """Names are read from the right; what is missing on the left is Ollama's own library."""
    name = ModelName.parse(text)
    assert (host, namespace, model, tag) == (name.host, name.namespace, name.model, name.tag)


@pytest.mark.parametrize(
    ("text", "printed", "canonical"),
    [
        ("Llama3.2", "Llama3.2:latest", "registry.ollama.ai/library/llama3.2:latest"),
        ("Registry.Ollama.AI/Library/m:T", "m:T", "registry.ollama.ai/library/m:t"),
        ("registry.ollama.ai/User/m", "User/m:latest", "registry.ollama.ai/user/m:latest"),
        ("hf.co/library/M:Q4", "hf.co/library/M:Q4", "hf.co/library/m:q4"),
    ],
)
def test_a_name_prints_short_and_keeps_its_case_and_its_canonical_form_does_neither(
    text, printed, canonical
):
    """People see what `ollama list` shows; keys are whole and in lower case."""
    name = ModelName.parse(text)
    assert (printed, canonical) == (str(name), name.canonical)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "the model is empty"),
        (":", "the tag is empty"),
        (":1b", "the model is empty"),
        ("m:", "the tag is empty"),
        ("/m", "the namespace is empty"),
        ("//m", "the host is empty"),
        ("host//m", "the namespace is empty"),
        ("user/", "the model is empty"),
        ("../m", "the namespace begins with '.'"),
        ("..", "the model begins with '.'"),
        ("host/../m", "the namespace begins with '.'"),
        (
            "../../etc/passwd:1",
            "the name has 4 parts; Ollama takes no more than host/namespace/model",
        ),
        ("-m", "the model begins with '-'"),
        (".m", "the model begins with '.'"),
        ("m:-1", "the tag begins with '-'"),
        ("a.b/m", "the name has the host a.b and no namespace; write a.b/library/m, or"),
        ("localhost:5000/m", "the name has the host localhost:5000 and no namespace"),
        ("a/b/c/d", "the name has 4 parts"),
        ("a:b:c", "the model has ':'"),
        ("m\n", r"the model has '\n'"),
        ("m:1b\n", r"the tag has '\n'"),
        ("m\0:1b", r"the model has '\x00'"),
        ("m\x1b[31m", r"the model has '\x1b'"),
        ("mod\u00e8le", r"the model has '\xe8'"),
        ("m\u0663", r"the model has '\u0663'"),
        ("\u212aelvin", r"the model begins with '\u212a'"),
        ("m m", "the model has ' '"),
        ("m@latest", "the model has '@'"),
        ("m@sha256:abc", "the name carries a digest, by which Ollama does not pull"),
        ("x" * 256, "the model has 256 characters; Ollama takes 255"),
        ("x" * 256 + "/m", "the namespace has 256 characters; Ollama takes 255"),
        ("m:" + "x" * 256, "the tag has 256 characters; Ollama takes 255"),
        ("h" * 351 + "/n/m", "the host has 351 characters; Ollama takes 350"),
        ("https://hf.co/Org/Model", "the name is a URL; leave out the scheme"),
    ],
)
def test_a_wrong_name_says_which_part_is_wrong_and_why(text, complaint):
    """The complaint names the part and the character, so that a person can mend it."""
    with pytest.raises(InvalidNameError) as caught:
        ModelName.parse(text)
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize(
    "text", ["x" * 255, "x" * 255 + "/m", "m:" + "x" * 255, "h" * 350 + "/n/m"]
)
def test_parts_may_be_as_long_as_ollama_takes_them(text):
    """The limits are the last lengths that pass, not the first that fail."""
    assert ModelName.parse(text)


@pytest.mark.parametrize(
    ("name", "tag"),
    [("llama3.2:1b", "1b"), ("llama3.2:1B", "1b"), ("llama3.2:1b", None), ("llama3.2", "1b")],
)
def test_a_tag_in_the_name_is_taken_if_there_is_no_other_one(name, tag):
    """The two fields then have one meaning, however they are written."""
    assert ModelName.of(name, tag) == ModelName.parse("llama3.2:1b")


@pytest.mark.parametrize(
    ("name", "tag", "complaint"),
    [
        ("llama3.2:1b", "3b", "the name carries the tag 1b, and the tag is 3b; write one tag"),
        ("m:", "1b", "the name carries a tag; put it into the tag field"),
        ("localhost:5000", "1b", "the name carries the tag 5000, and the tag is 1b"),
        ("llama3.2", None, "the tag is required; write for example 1b, or latest"),
        (None, "1b", "the name is required; write for example llama3.2"),
    ],
)
def test_two_tags_or_none_are_told(name, tag, complaint):
    """They would leave open which one is meant."""
    with pytest.raises(InvalidNameError, match=f"^{complaint}"):
        ModelName.of(name, tag)


@pytest.mark.parametrize("tag", ["5000/user/model", "5000/user/model:1b", "a:b", "", "1b\n"])
def test_a_tag_cannot_turn_the_name_into_another_one(tag):
    """`host` with the tag `5000/user/model` does not become a port and a path."""
    with pytest.raises(InvalidNameError, match=r"^the tag "):
        ModelName.of("host", tag)


@pytest.mark.parametrize(
    "name", ["https://user:hunter2@host/n/m", "user:hunter2@host/n/m", "n/user:hunter2@host"]
)
def test_a_password_in_a_name_is_not_repeated(name):
    """Complaints end up in status, events and logs, where no secret may go."""
    with pytest.raises(InvalidNameError) as caught:
        ModelName.of(name, "1b")
    assert "hunter2" not in str(caught.value)
