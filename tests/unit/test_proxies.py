import pytest
from structlog.testing import capture_logs

from ollama_op.app.process import check_proxy
from ollama_op.base.parsing import ConfigError
from ollama_op.base.proxies import check_proxies, proxy_for, shown_proxy

PROXY = "http://proxy:3128"


def through(url: str, no_proxy: str, **environ: str) -> bool:
    """Ask whether `url` is called through a proxy, with this NO_PROXY."""
    set_up = {"HTTP_PROXY": PROXY, "HTTPS_PROXY": PROXY, "NO_PROXY": no_proxy} | environ
    return proxy_for(url, set_up) is not None


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("http://10.1.2.3:11434", "10.0.0.0/8"),
        ("http://10.1.2.3", "10.9.9.9/8"),  # Go ignores the bits of the host
        ("http://[fd00::7]:11434", "fd00::/8"),
        ("http://[::ffff:10.1.2.3]", "10.0.0.0/8"),
        ("http://10.1.2.3", "10.1.2.3"),
        ("http://10.1.2.3:80", "10.1.2.3:80"),
        ("http://[fd00::7]:80", "[fd00::7]:80"),
        ("http://[fd00::7]:80", "fd00::7"),
        ("http://ollama.ai.svc:11434", ".svc"),
        ("http://ollama.ai.svc:11434", "*.svc"),
        ("http://ollama.ai.svc:11434", "svc"),
        ("http://ollama.ai.svc:11434", "other, ollama.AI.svc:11434"),
        ("http://ollama.ai.svc.", "ollama.ai.svc"),
        ("https://ollama", "ollama:443"),
        ("http://ollama", "ollama."),
        ("http://ollama", "one two ollama"),
        ("http://anything", "*"),
        ("http://localhost:11434", ""),
        ("http://127.0.0.9:11434", ""),
        ("http://[::1]:11434", ""),
    ],
)
def test_what_no_proxy_covers_is_called_directly(url, no_proxy):
    """Networks, addresses, domains and ports, as Go has them; this machine is never far away."""
    assert not through(url, no_proxy)


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("http://11.1.2.3", "10.0.0.0/8"),
        ("http://10.1.2.3", "fd00::/8"),
        ("http://ollama.10.0.0.0", "10.0.0.0/8"),  # a name is not looked up for this
        ("http://10.1.2.3:81", "10.1.2.3:80"),
        ("http://ai.svc", ".ai.svc"),  # Go: what is below, and not itself
        ("http://notai.svc", "ai.svc"),
        ("http://ollama:11434", "ollama:80"),
        ("http://ollama", ""),
        ("http://ollama", ",,"),
        ("http://10.1.2.3", "10.0.0.0/33"),
    ],
)
def test_what_no_proxy_does_not_cover_goes_through_the_proxy(url, no_proxy):
    """And so does what an entry that is not understood names."""
    assert through(url, no_proxy)


def test_each_scheme_has_its_proxy():
    """ALL_PROXY is for what has none; a name in lower case wins; `http://` may be missing."""
    environ = {"HTTP_PROXY": "up:1", "http_proxy": "low:2", "ALL_PROXY": "http://all:3"}
    assert proxy_for("http://ollama", environ) == "http://low:2"
    assert proxy_for("https://ollama", environ) == "http://all:3"
    assert proxy_for("http://ollama", {**environ, "http_proxy": "", "ALL_PROXY": ""}) is None
    assert proxy_for("http://ollama", {}) is None


@pytest.mark.parametrize(
    "url", ["https://10.96.0.1:443", "https://10.96.0.1", "https://kubernetes.default.svc"]
)
def test_the_api_server_of_the_cluster_is_never_behind_a_proxy(url):
    """Whatever NO_PROXY says; the same address at another port is somebody else."""
    pod = {"KUBERNETES_SERVICE_HOST": "10.96.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert not through(url, "", **pod)
    assert through("https://10.96.0.1:8443", "", **pod)
    assert through("https://10.96.0.2", "", **pod)


@pytest.mark.parametrize(
    "entry", ["10.0.0.0/33", "http://ollama", "ol*ma", "10.0.0.*", "ollama:port", "ollama:70000"]
)
def test_what_is_not_understood_in_no_proxy_is_named(entry):
    """It exempts nothing, which would be found out late."""
    known = "10.0.0.0/8,fd00::/8, .svc ,*.svc,ollama:80,[fd00::7]:80,fd00::7,*,a_b"
    assert check_proxies({"NO_PROXY": f"{known},{entry}"}) == [entry]
    assert check_proxies({"no_proxy": known}) == []
    assert check_proxies({}) == []


def test_it_is_said_at_the_start(monkeypatch):
    """Once, with the entries."""
    monkeypatch.setenv("NO_PROXY", ".svc,10.0.0.0/33,ol*ma")
    with capture_logs() as lines:
        check_proxy()
    assert [(line["log_level"], line["entries"]) for line in lines] == [
        ("warning", ["10.0.0.0/33", "ol*ma"])
    ]


@pytest.mark.parametrize(
    "proxy", ["socks5://me:hunter2@proxy", "http://", "http://me:hunter2@proxy:99999", "ftp://x"]
)
def test_a_proxy_that_cannot_be_used_is_refused_without_repeating_it(proxy):
    """At the start: each call would fail, and its password belongs in no log."""
    with pytest.raises(ConfigError, match="HTTPS_PROXY") as caught:
        check_proxies({"HTTPS_PROXY": proxy})
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize(
    ("proxy", "text"),
    [
        ("http://me:hun@ter2@proxy:3128/hunter2?x", "http://proxy:3128"),
        ("http://[fd00::7]:3128", "http://[fd00::7]:3128"),
    ],
)
def test_a_proxy_is_shown_without_its_credentials(proxy, text):
    """Only where it is."""
    assert shown_proxy(proxy) == text
