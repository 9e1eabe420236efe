"""The API below a path of a reverse proxy's choice: what it links to is there, too."""

import re
from collections.abc import AsyncGenerator
from importlib.resources import files

import anyio
import httpx
import pytest

from api.access import Keys
from api.app import ApiOptions, create_api
from ollama_op.base.forwarded import prefix
from ollama_op.base.parsing import Address
from ollama_op.base.serve import serve
from support.virtual.models import made, manifest
from support.virtual.rest import KEY, Known, Written, key

MODELS = "/api/v1/models"


@pytest.fixture
def anyio_backend() -> str:
    """Sockets are real, and so is time."""
    return "asyncio"


@pytest.fixture
async def client() -> AsyncGenerator[httpx.AsyncClient]:
    """Serve the API to proxies at 127.0.0.1, which are trusted, and be one of them."""
    known, writer = Known(), Written()
    api = create_api(known, writer, ApiOptions(keys=Keys([key()]), locked=True))
    writer.answer = made(manifest("a"))
    sock = Address("", 0).bind()

    async def run(*, task_status) -> None:
        await serve(api.app, sock, trusted_proxies=["127.0.0.1"], task_status=task_status)

    async with anyio.create_task_group() as tasks:
        await tasks.start(run)
        headers = {"x-api-key": KEY, "x-forwarded-prefix": "/ollama"}
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        async with httpx.AsyncClient(base_url=url, headers=headers, trust_env=False) as http:
            yield http
        api.close()
        tasks.cancel_scope.cancel()


async def test_what_was_made_is_where_the_client_finds_it(client):
    """`Location` is a path from the root, and that is the proxy's."""
    answer = await client.post(MODELS, json={"name": "a", "tag": "1"})
    assert answer.status_code == 201
    assert answer.headers["location"].startswith(f"/ollama{MODELS}/")


@pytest.mark.parametrize("headers", [{}, {"x-api-key": "wrong"}])
async def test_problems_are_explained_where_the_client_finds_it(client, headers):
    """`type` and `instance` too, whoever answers: the door, or a route."""
    answer = await client.get(f"{MODELS}/none", headers=headers)
    assert answer.json()["type"].startswith("/ollama/docs/problems#")
    assert answer.json()["instance"] == f"/ollama{MODELS}/none"


async def test_whose_word_is_not_trusted_moves_nothing(client):
    """Anybody can send a header: links to their own place come of none."""
    url = str(client.base_url).replace("127.0.0.1", "[::1]")
    async with httpx.AsyncClient(base_url=url, trust_env=False) as stranger:
        answer = await stranger.get(f"{MODELS}/none", headers={"x-forwarded-prefix": "/evil"})
    assert answer.json()["type"] == "/docs/problems#unauthorized"


@pytest.mark.parametrize(
    ("values", "path"),
    [
        ([b"/ollama"], "/ollama"),
        ([b"/ollama/"], "/ollama"),
        ([b"/a/b-c.d_e~1"], "/a/b-c.d_e~1"),
        ([b"/a", b"/b"], "/a/b"),  # one proxy behind another
        ([b"/a, /b/"], "/a/b"),
        ([], ""),
        ([b""], ""),
        ([b"/"], ""),
        ([b"ollama"], ""),
        ([b"//evil.example"], ""),
        ([b"/a,//evil.example"], ""),
        ([b"https://evil.example"], ""),
        ([b"/a\r\nset-cookie: x"], ""),
        ([b"/a?b"], ""),
        ([b"/" + b"a" * 300], ""),
    ],
)
def test_a_prefix_is_a_path_or_nothing(values, path):
    """It becomes a part of links, which must not lead elsewhere."""
    assert prefix(values) == path


async def test_pages_link_only_to_what_is_beside_them(client):
    """Whatever path they are below; the API's description says that it is beside itself."""
    for path in ("/", "/docs", "/docs/reasons", "/docs/problems"):
        text = (await client.get(path)).text
        links = re.findall(r'(?:href|src)="([^"#][^"]*)"', text)
        assert links, path
        for link in links:
            assert not link.startswith("/"), (path, link)
            found = await client.get(httpx.URL(f"http://x{path}").join(link).path)
            assert found.status_code == 200, (path, link)
    described = (await client.get("/openapi.json")).json()
    assert described["servers"] == [{"url": "./"}]
    assert "](/" not in described["info"]["description"]
    for script in (files("api") / "page").iterdir():
        if script.name.endswith(".js"):
            assert not re.search(r"""["'`]/(api|docs|page|openapi)""", script.read_text())
