import contextlib
import dataclasses

import httpx
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ollama_op.base.parsing import Address, ConfigError, parse_duration, parse_url
from ollama_op.base.settings import Settings


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("5m", 300), ("1h30m", 5400), ("1.5h", 5400), ("500ms", 0.5), ("1h0m5s", 3605)],
)
def test_a_duration_is_read_as_go_writes_it(text, seconds):
    """Flags are the Go operator's."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "0", "0s", "90", "-5s", "s", "1x", "soon", "nan", "1h\n"])
def test_what_is_no_time_to_wait_is_refused_with_an_example(text):
    """Nothing waits for no time, or backwards; a bare number has no unit."""
    with pytest.raises(ConfigError) as caught:
        parse_duration(text)
    assert caught.value.hint.startswith("write 90s, ")


@given(st.text())
def test_any_text_is_a_positive_duration_or_refused(text):
    """And nothing else ever comes of it."""
    with contextlib.suppress(ConfigError):
        assert 0 < parse_duration(text) < float("inf")


@given(st.integers(0, 999), st.integers(0, 59), st.integers(1, 59))
def test_a_duration_is_the_sum_of_its_parts(hours, minutes, seconds):
    """Whatever their size."""
    text = f"{hours}h{minutes}m{seconds}s"
    assert parse_duration(text) == hours * 3600 + minutes * 60 + seconds


@pytest.mark.parametrize(
    ("text", "address"),
    [
        (":8081", Address("", 8081)),
        ("127.0.0.1:0", Address("127.0.0.1", 0)),
        ("localhost:65535", Address("localhost", 65535)),
        ("[::1]:8081", Address("::1", 8081)),
        ("[::]:8081", Address("::", 8081)),
        ("0", None),
    ],
)
def test_an_address_is_read(text, address):
    """As Go has it; 0 is for not listening at all. It is written back as it was read."""
    assert Address.parse(text) == address
    assert address is None or str(address) == text


@pytest.mark.parametrize(
    "text", ["", "8081", "localhost", ":", ":x", ":65536", ":-1", ":80 ", ":8081/", ":\xb2"]
)
def test_what_is_no_address_is_refused_with_examples(text):
    """The examples show all three forms."""
    with pytest.raises(ConfigError) as caught:
        Address.parse(text)
    assert caught.value.hint == "write :8081, 127.0.0.1:8081, or 0 for off"


@given(st.text(max_size=20))
@example(":" + "9" * 5000)
def test_any_text_is_an_address_or_refused(text):
    """And nothing else ever comes of it."""
    with contextlib.suppress(ConfigError):
        address = Address.parse(text)
        assert address is None or 0 <= address.port <= 65535


def test_an_address_can_be_bound():
    """Port 0 is any free port; the same one again is refused."""
    with Address("127.0.0.1", 0).bind() as sock:
        port = sock.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            Address("127.0.0.1", port).bind()


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://ollama:11434", "http://ollama:11434"),
        ("https://ollama.example.com/", "https://ollama.example.com"),
        ("http://proxy/ollama/", "http://proxy/ollama"),
        ("ollama:11434", "http://ollama:11434"),
        ("127.0.0.1", "http://127.0.0.1"),
        ("http://[::1]:11434", "http://[::1]:11434"),
    ],
)
def test_an_ollama_url_is_read(text, url):
    """Without a scheme, as OLLAMA_HOST is written, it is http."""
    assert parse_url(text) == url


@pytest.mark.parametrize(
    "text",
    [
        "",
        "http://",
        "ftp://ollama",
        "http://ollama:0",
        "http://ollama:99999",
        "http://ollama:port",
        "http://[::1",
        "http://ollama?key=hunter2",
        "http://ollama#hunter2",
        "http://user:hunter2@ollama",
        "http://hunter2@ollama",
    ],
)
def test_what_is_no_ollama_url_is_refused_without_repeating_it(text):
    """A password that was written into it goes no further."""
    with pytest.raises(ConfigError) as caught:
        parse_url(text)
    assert caught.value.hint
    assert "hunter2" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("host", ["ollama", "http://ollama", "https://[::1]"])
@pytest.mark.parametrize("port", ["0", "65536", "99999"])
def test_a_port_that_cannot_be_is_told(host, port):
    """With what could be one."""
    with pytest.raises(ConfigError) as caught:
        parse_url(f"{host}:{port}/below")
    assert str(caught.value) == f"port {port} is not between 1 and 65535"


@pytest.mark.parametrize("url", ["http://user:123456/7@ollama", "http://user:123456@ollama:99999"])
def test_a_password_that_looks_like_a_port_is_not_repeated(url):
    """It may be a number, with a slash in it."""
    with pytest.raises(ConfigError) as caught:
        parse_url(url)
    assert "123456" not in f"{caught.value} {caught.value.hint}"


@pytest.mark.parametrize("path", ["api", "v1"])
@pytest.mark.parametrize("end", ["", "/"])
def test_a_path_of_ollamas_own_is_left_off_its_url(path, end):
    """Other programs want it there; with it no call is answered."""
    with pytest.raises(ConfigError, match=f"ends with /{path}") as caught:
        parse_url(f"http://ollama:11434/{path}{end}")
    assert caught.value.hint == f"leave /{path} off"
    assert parse_url("http://gateway/my-api") == "http://gateway/my-api"
    assert parse_url(f"http://{path}") == f"http://{path}"


@given(st.text(max_size=30).map("http://ollama{}".format) | st.text(max_size=30))
@example("http://ollama:11434\n")
@example("http://ollama\t:11434")
def test_any_text_is_a_url_that_can_be_called_or_refused(text):
    """A line feed at its end, as from a file, must not come out as a traceback later."""
    try:
        url = parse_url(text)
    except ConfigError:
        return
    assert httpx.URL(url).host


def test_settings_cannot_be_changed():
    """What runs is what was said at the start."""
    with pytest.raises(dataclasses.FrozenInstanceError):
        Settings().namespace = "other"
