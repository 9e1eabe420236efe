import re
from dataclasses import replace

import pytest

from crd.names import ModelName
from ollama_op.base.errors import ADVICE_LIMIT, RegistryUnavailable, StorageFailed
from ollama_op.ollama.pull_errors import pull_failed
from support.virtual.pull_faults import FAULTS, Fault

LLAMA = ModelName.parse("llama3.2:1b")

by_id = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)


@by_id
def test_ollamas_words_say_which_failure_it_is(fault: Fault):
    """Each has one reason, whatever its case; what a person must act on is not tried again."""
    error = fault.error()
    assert (error.reason, error.is_final) == (fault.reason, fault.stalled)
    assert replace(fault, text=fault.text.upper()).error().reason is fault.reason
    assert max(1, error.patience_s) == fault.wait_s or error.is_final


@by_id
def test_what_is_shown_names_the_cause(fault: Fault):
    """The registry's own words are in it, and no JSON, no HTML, and no prefix of Ollama's."""
    message = str(fault.error())
    assert [words for words in fault.says if words not in message] == []
    assert [
        words for words in (*fault.hides, "pull model manifest", "..", "{") if words in message
    ] == []
    assert not re.search(r"[\x00-\x1f]", message)


@pytest.mark.parametrize(
    "digest", ["4013" + "0" * 60, "a403" + "f" * 60], ids=["with 401", "with 403"]
)
def test_digits_inside_a_digest_are_no_status(digest):
    """One digest in thirty has 401 or 403 in it; that says nothing of credentials."""
    text = f'max retries exceeded: Get "https://r/v2/library/m/blobs/sha256:{digest}": EOF'
    assert type(pull_failed(text, LLAMA)) is RegistryUnavailable


def test_a_models_own_name_is_no_cause():
    """A tag may have 403 in it, or a model the letters eof."""
    text = 'open "/models/manifests/registry.ollama.ai/library/geoffrey/403": permission denied'
    assert type(pull_failed(text, ModelName.parse("geoffrey:403"))) is StorageFailed


def test_what_is_shown_is_one_line_without_secrets():
    """A registry may redirect to a signed URL, and Ollama repeats it."""
    text = "Get https://user:hunter2@cdn/x?X-Sig=hunter2: EOF\n\x1b[31mred" + "y" * 5000
    message = str(pull_failed(text, LLAMA))
    assert "hunter2" not in message
    assert not re.search(r"[\x00-\x1f]", message)
    assert "y" * 10 in message
    assert len(message) <= ADVICE_LIMIT
