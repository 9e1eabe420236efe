"""Specs as people write them, and the one answer that every door gives: one row each.

The doors are the function in `crd`, the REST API, the webhook, the status, and the policies of
config/policy on a real kube-apiserver.
"""

import math
from dataclasses import dataclass, field
from typing import Any

HEX = "0123456789abcdef" * 4


@dataclass(frozen=True)
class Taken:
    """A spec that has one meaning."""

    spec: dict[str, Any]
    model: str = "llama3.2:1b"
    care: dict[str, float] = field(default_factory=dict)  # fields of Options


@dataclass(frozen=True)
class Refused:
    """A spec that has none: the field, and the words. `form`: Kubernetes' own schema refuses it."""

    spec: dict[str, Any]
    field: str
    says: str
    form: bool = False


def _spec(name: str = "llama3.2", tag: Any = "1b", **more: Any) -> dict[str, Any]:
    return {"name": name, "tag": tag, **more}


_EXAMPLES = "write for example llama3.2, user/model or hf.co/Org/Model"
_DURATION = "write 90s, 5m or 1h30m"

TAKEN = [
    Taken(_spec()),
    Taken(_spec("llama3.2:1b")),
    Taken(_spec("llama3.2:1B")),
    Taken(_spec("LLAMA3.2")),
    Taken(_spec("registry.ollama.ai/library/llama3.2:1b")),
    Taken(_spec("localhost:5000/user/model:1b"), "localhost:5000/user/model:1b"),
    Taken(_spec("hf.co/Org/Model", "Q4_K_M"), "hf.co/Org/Model:Q4_K_M"),
    Taken(_spec("m" * 255, "t" * 255), f"{'m' * 255}:{'t' * 255}"),
    Taken(_spec("gpt-oss", "120b-cloud"), "gpt-oss:120b-cloud"),
    Taken(_spec(keepAlive=-1), care={"keep_alive_s": math.inf}),
    Taken(_spec(keepAlive="-1"), care={"keep_alive_s": math.inf}),
    Taken(_spec(keepAlive="-1m"), care={"keep_alive_s": math.inf}),
    Taken(_spec(keepAlive=3600), care={"keep_alive_s": 3600}),
    Taken(_spec(keepAlive="3600"), care={"keep_alive_s": 3600}),
    Taken(_spec(keepAlive="1d"), care={"keep_alive_s": 86400}),
    Taken(_spec(keepAlive="1.5h"), care={"keep_alive_s": 5400}),
    Taken(_spec(refreshInterval="1d"), care={"refresh_interval_s": 86400}),
    Taken(_spec(refreshInterval="1w12h"), care={"refresh_interval_s": 648000}),
    Taken(_spec(interval="1s"), care={"interval_s": 1}),
    Taken(_spec(timeout="3650d"), care={"timeout_s": 315360000}),
    Taken(_spec(expectedDigest=f"SHA256:{HEX.upper()}")),
]

REFUSED = [
    Refused(
        _spec("llama3.2:3b"),
        "name",
        "the name carries the tag 3b, and the tag is 1b; write one tag",
    ),
    Refused(_spec("llama3.2:"), "name", "the name carries a tag; put it into the tag field"),
    Refused(
        _spec("https://hf.co/Org/Model"),
        "name",
        "the name is a URL; leave out the scheme, as in hf.co/Org/Model",
    ),
    Refused(
        _spec(f"llama3.2@sha256:{HEX}"),
        "name",
        "the name carries a digest, by which Ollama does not pull; leave it out, and write name and"
        " tag; expectedDigest pins a digest",
    ),
    Refused(
        _spec("localhost:5000/llama3"),
        "name",
        "the name has the host localhost:5000 and no namespace; write"
        " localhost:5000/library/llama3, or the namespace that it is in",
    ),
    Refused(
        _spec("hf.co/Model"),
        "name",
        "the name has the host hf.co and no namespace; write hf.co/library/Model, or the namespace"
        " that it is in",
    ),
    Refused(
        _spec("registry.gitlab.com/group/sub/project/model"),
        "name",
        "the name has 5 parts; Ollama takes no more than host/namespace/model",
    ),
    Refused(
        _spec("ollama-op-grace/m"),
        "name",
        "ollama-op-grace is where the operator keeps models for --deletion-grace; name the model by"
        " its own name",
    ),
    Refused(
        _spec("a b"), "name", f"the model has ' ', which Ollama does not take there; {_EXAMPLES}"
    ),
    Refused(
        _spec("-m"),
        "name",
        f"the model begins with '-', which Ollama does not take there; {_EXAMPLES}",
    ),
    Refused(
        _spec("us er/m"),
        "name",
        f"the namespace has ' ', which Ollama does not take there; {_EXAMPLES}",
    ),
    Refused(
        _spec("ho st/user/m"),
        "name",
        f"the host has ' ', which Ollama does not take there; {_EXAMPLES}",
    ),
    Refused(_spec("user//m"), "name", f"the namespace is empty; {_EXAMPLES}"),
    Refused(_spec("user/"), "name", f"the model is empty; {_EXAMPLES}"),
    Refused(_spec("m" * 256), "name", "the model has 256 characters; Ollama takes 255"),
    Refused(
        _spec(tag="1 b"),
        "tag",
        "the tag has ' ', which Ollama does not take there; write for example 1b",
    ),
    Refused(
        _spec(tag="-1"),
        "tag",
        "the tag begins with '-', which Ollama does not take there; write for example 1b",
    ),
    Refused(
        _spec(tag=f"1b@sha256:{HEX}"),
        "tag",
        "the tag has '@', which Ollama does not take there; write for example 1b",
    ),
    Refused(_spec(interval="soon"), "interval", f"'soon' is no duration; {_DURATION}"),
    Refused(_spec(interval="1h 30m"), "interval", f"'1h 30m' is no duration; {_DURATION}"),
    Refused(_spec(interval="-5s"), "interval", f"'-5s' is no time to wait; {_DURATION}"),
    Refused(_spec(interval="0"), "interval", f"'0' is no time to wait; {_DURATION}"),
    Refused(_spec(interval="1ms"), "interval", "'1ms' is too short; at least 1s"),
    Refused(_spec(interval="9999999h"), "interval", "'9999999h' is too long; at most 87600h"),
    Refused(
        _spec(refreshInterval="24"),
        "refreshInterval",
        "'24' has no unit; write 24s, 24m or 24h",
    ),
    Refused(_spec(refreshInterval="30s"), "refreshInterval", "'30s' is too short; at least 60s"),
    Refused(_spec(timeout="3651d"), "timeout", "'3651d' is too long; at most 87600h"),
    Refused(_spec(keepAlive="1s"), "keepAlive", "'1s' is too short; at least 10s"),
    Refused(_spec(keepAlive=5), "keepAlive", "'5' is too short; at least 10s"),
    Refused(_spec(keepAlive=0), "keepAlive", "'0' would unload it at once; leave keepAlive out"),
    Refused(
        _spec(keepAlive="0m"), "keepAlive", "'0m' would unload it at once; leave keepAlive out"
    ),
    Refused(
        _spec("gpt-oss", "120b-cloud", keepAlive="-1"),
        "keepAlive",
        "a cloud model runs on ollama.com and is never in memory here; leave keepAlive out",
    ),
    Refused(_spec(keepAlive="ever"), "keepAlive", f"'ever' is no duration; {_DURATION}"),
    Refused(
        _spec(expectedDigest="abc"),
        "expectedDigest",
        "is no digest; write the 64 hex digits that status.digest shows",
    ),
    Refused(
        _spec(refreshWindow={"schedule": "0 2 * * 6", "duration": "4h"}),
        "refreshWindow",
        "needs a refreshInterval to hold back",
    ),
    Refused(
        _spec(refreshInterval="1d", refreshWindow={"schedule": "0 2 * * 6", "duration": "4"}),
        "refreshWindow.duration",
        "'4' has no unit; write 4s, 4m or 4h",
    ),
    Refused(
        _spec(refreshInterval="1d", refreshWindow={"schedule": "0 2 * *", "duration": "4h"}),
        "refreshWindow.schedule",
        "'0 2 * *' is no cron expression of five fields; write 0 2 * * 6",
    ),
    Refused(
        _spec(tag=3.2), "tag", '3.2 is a number; write it as a text, in quotes: "3.2"', form=True
    ),
    Refused(
        _spec(tag=True),
        "tag",
        'true is a boolean; write it as a text, in quotes: "true"',
        form=True,
    ),
    Refused(
        _spec(suspend="yes"),
        "suspend",
        "is a text; write true or false, without quotes",
        form=True,
    ),
    Refused(
        _spec(deletionPolicy="retain"),
        "deletionPolicy",
        "'retain' is not known there; write Delete or Retain",
        form=True,
    ),
]
