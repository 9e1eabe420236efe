import json
from collections.abc import Callable

import httpx
import pytest

from crd.names import ModelName
from ollama_op.base.errors import (
    LoadFailed,
    ModelAbsent,
    ModelBroken,
    NotOllama,
    OllamaError,
    ProtocolError,
    PullFailed,
    Refused,
)
from ollama_op.ollama.client import OllamaClient
from ollama_op.ollama.failures import VIA
from support.virtual.gateway import FOREIGN, Answer, as_json

LLAMA = ModelName.parse("llama3.2:1b")


async def _pull(ollama: OllamaClient) -> None:
    async with ollama.pull(LLAMA) as steps:
        async for _ in steps:
            pass


CALLS = {
    "tags": lambda o: o.tags(),
    "ps": lambda o: o.running(),
    "version": lambda o: o.version(),
    "show": lambda o: o.show(LLAMA),
    "load": lambda o: o.load(LLAMA, 60),
    "unload": lambda o: o.unload(LLAMA),
    "delete": lambda o: o.delete(LLAMA),
    "pull": _pull,
}
AN_EMPTY_200 = {
    ("delete", "200 empty")
}  # is how Ollama answers a deletion; its list tells the rest


def answering(answer: Answer, respond: Callable[..., httpx.Response] = httpx.Response):
    """Return a client to whom everything is answered so."""
    transport = httpx.MockTransport(
        lambda _request: respond(answer.status, content=answer.body, headers=answer.headers)
    )
    return OllamaClient(httpx.AsyncClient(transport=transport, base_url="http://u:hunter2@o:11434"))


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", FOREIGN)
async def test_what_is_not_in_ollamas_form_is_not_ollamas(call, name):
    """Whatever its status, whatever was asked; the error says what came, but none of its body."""
    if (call, name) in AN_EMPTY_200:
        await CALLS[call](answering(FOREIGN[name]))
        return
    with pytest.raises(NotOllama) as caught:
        await CALLS[call](answering(FOREIGN[name]))
    message = str(caught.value)
    assert message.startswith("http://o:11434 answered /api/")
    assert f"HTTP {FOREIGN[name].status} and " in message
    assert caught.value.hint
    assert not any(word in message for word in ("hunter2", "healthy", "Gateway Time", "Hello"))


def moved(location: str) -> Answer:
    return Answer(308, b"", {"location": location})


@pytest.mark.parametrize(
    ("answer", "words", "hint"),
    [
        (FOREIGN["401"], "it asks for credentials", "give the operator a token"),
        (FOREIGN["407"], "a proxy asks for credentials", "HTTPS_PROXY"),
        (FOREIGN["403 HTML"], "it does not let the operator in", "rules"),
        (FOREIGN["503"], "a gateway has no Ollama behind it", "the gateway's log"),
        (FOREIGN["200 HTML"], "a web server or a login is there", "correct --ollama-api-url"),
        (FOREIGN["404 text"], "something else is there", "--ollama-api-url may lead elsewhere"),
        (FOREIGN["400 text"], "it wants TLS", "write https:// in --ollama-api-url"),
        (FOREIGN["302"], "it sends elsewhere, as logins do", "give the operator a token"),
        (
            moved("https://o/api/tags"),
            "it sends elsewhere",
            "set --ollama-api-url to https://o",
        ),
        (
            moved("https://me:hunter2@new.example/llm/api/tags"),
            "it sends elsewhere",
            "set --ollama-api-url to https://new.example/llm",
        ),
        (
            moved("https://login.example/api/tags?rd=hunter2"),
            "it sends elsewhere, as logins do",
            "give the operator a token",
        ),
        (moved("http://[x"), "it sends elsewhere, as logins do", "give the operator a token"),
    ],
)
async def test_each_answer_in_ollamas_place_has_its_words_and_its_hint(answer, words, hint):
    """What it is, and the one thing to do; a redirect says where to."""
    with pytest.raises(NotOllama) as caught:
        await answering(answer).tags()
    assert caught.value.problem.endswith(f"which is not Ollama's: {words}")
    assert hint in caught.value.hint
    assert "hunter2" not in str(caught.value)


async def test_a_proxy_that_answers_is_named():
    """With plain HTTP its answers look like those of what is behind it."""

    def respond(request: httpx.Request) -> httpx.Response:
        request.extensions = {**request.extensions, VIA: "http://proxy:3128"}
        return httpx.Response(407)

    http = httpx.AsyncClient(transport=httpx.MockTransport(respond), base_url="http://o")
    with pytest.raises(NotOllama) as caught:
        await OllamaClient(http).tags()
    assert caught.value.problem.startswith(
        "http://o (through the proxy http://proxy:3128) answered"
    )


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "body", [[], {}, {"error": 7}, {"models": 7}, {"version": None}, {"message": "hi"}, "ok"]
)
async def test_json_of_another_type_is_not_ollamas(call, body):
    """A list of models without models is no list; it is above all not an empty one."""
    if call == "delete" and isinstance(body, dict):
        return  # a later Ollama may say something there
    with pytest.raises(NotOllama):
        await CALLS[call](answering(as_json(200, body)))


@pytest.mark.parametrize("call", [c for c in CALLS if c != "load"])
@pytest.mark.parametrize("status", [405, 409, 502, 503])
async def test_what_ollama_itself_refuses_keeps_its_status_and_words(call, status):
    """And says nothing of a model: Ollama has other statuses for that."""
    with pytest.raises(Refused, match=f"HTTP {status}: these words") as caught:
        await CALLS[call](answering(as_json(status, {"error": "these words"})))
    assert isinstance(caught.value, ProtocolError)


@pytest.mark.parametrize(
    ("call", "status", "error"),
    [
        ("show", 404, ModelAbsent),
        ("show", 500, ModelBroken),
        ("show", 400, Refused),
        ("load", 404, ModelAbsent),
        ("load", 500, LoadFailed),
        ("load", 503, LoadFailed),
        ("pull", 400, PullFailed),
        ("pull", 500, Refused),
        ("delete", 500, Refused),
        ("unload", 500, Refused),
        ("delete", 404, None),
        ("unload", 404, None),
    ],
)
async def test_ollamas_own_word_about_a_model_counts(call, status, error):
    """A status means what it means to Ollama once the form is Ollama's."""
    ask = CALLS[call](answering(as_json(status, {"error": "model said so"})))
    if error is None:
        await ask
        return
    with pytest.raises(OllamaError) as caught:
        await ask
    assert type(caught.value) is error


@pytest.mark.parametrize("call", ["show", "load"])
async def test_only_a_404_about_a_model_says_that_there_is_none(call):
    """What has no such endpoint says "not found" too."""
    with pytest.raises(OllamaError) as caught:
        await CALLS[call](answering(as_json(404, {"error": "no such route"})))
    assert not isinstance(caught.value, ModelAbsent)


async def test_a_login_that_ollamas_cloud_asks_for_is_its_own_word():
    """Which is a single word, as those of frameworks are."""
    with pytest.raises(Refused):
        await CALLS["show"](answering(as_json(401, {"error": "unauthorized"})))


@pytest.mark.parametrize("words", ["unauthorized", "Unauthorized", "token missing"])
@pytest.mark.parametrize("status", [401, 403, 407])
@pytest.mark.parametrize("call", ["tags", "ps", "version", "delete"])
async def test_who_asks_for_credentials_is_not_ollama(call, status, words):
    """Ollama has no users: JSON with an `error` is a gateway's too, and is not repeated."""
    with pytest.raises(NotOllama) as caught:
        await CALLS[call](answering(as_json(status, {"error": words})))
    assert words not in caught.value.problem
    hint = {401: "--ollama-header-file", 403: "rules", 407: "HTTP_PROXY"}[status]
    assert hint in caught.value.hint


@pytest.mark.parametrize("call", ["show", "pull", "load", "unload"])
async def test_who_asks_for_credentials_where_a_model_is_used_is_not_ollama(call):
    """Only its cloud asks there, in words of its own."""
    with pytest.raises(NotOllama):
        await CALLS[call](answering(as_json(401, {"error": "token missing"})))
    with pytest.raises(NotOllama):
        await CALLS[call](answering(as_json(403, {"error": "forbidden by policy"})))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (401, "unauthorized"),
        (403, "ollama cloud is disabled: remote model is unavailable"),
        (403, "this model requires a subscription, upgrade for access"),
    ],
)
@pytest.mark.parametrize("call", ["show", "pull"])
async def test_what_ollamas_cloud_says_is_ollamas_own_word(call, status, words):
    """It is kept, whatever its status."""
    with pytest.raises(Refused, match=words):
        await CALLS[call](answering(as_json(status, {"error": words})))


async def test_a_redirect_is_not_ollamas_even_with_an_error_in_it():
    """Ollama has no other place to go to; where it leads is said, without its query."""
    answer = Answer(
        307,
        json.dumps({"error": "moved"}).encode(),
        {"location": "https://login.example/?token=hunter2"},
    )
    with pytest.raises(NotOllama, match=r"a redirect to https://login\.example/, ") as caught:
        await answering(answer).show(LLAMA)
    assert "hunter2" not in str(caught.value)
