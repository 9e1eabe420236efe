import re
from pathlib import Path

import pytest

from crd.reasons import Reason
from crd.v1alpha1 import REFRESH
from ollama_op.sandbox.ollama.pulls import PullTrouble
from support.virtual.pull_faults import FAULTS, Fault
from support.virtual.world import MB, condition, reason, world

REASONS = (Path(__file__).parents[2] / "docs/reasons.md").read_text(encoding="utf-8")
HOUR_S = 3600
by_id = pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.id)


def causes(name: str) -> list[str]:
    """Return the quoted words with which the numbered causes of a section begin."""
    text = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", REASONS, re.MULTILINE | re.DOTALL)
    assert text
    begins = re.findall(r"^\d+\. ((?:`[^`]+`(?:, | or |: ?|,? and )*)+)", text[1], re.MULTILINE)
    return [words for each in begins for words in re.findall(r"`([^`]+)`", each)]


def shown(fault: Fault) -> str:
    """Return what the status says of a fault, in lower case."""
    return str(fault.error()).lower()


@by_id
async def test_a_verdict_ends_the_waiting_and_trouble_does_not(fault: Fault):
    """Stalled at once, and never asked again; or tried again in time, and then it is there."""
    async with world() as w:
        w.ollama.publish(fault.model, MB)
        if fault.is_load:
            w.ollama.load_error = fault.text
        else:
            w.ollama.trouble(fault.model, PullTrouble(error=fault.text))
        w.start()
        await w.apply("m", fault.model, spec={"keepAlive": "-1"} if fault.is_load else None)
        status = await w.until("m", lambda s: reason(s) == fault.reason)
        assert (condition(status, "Stalled") == "True") == fault.stalled
        assert (condition(status, "Reconciling") == "True") != fault.stalled
        message = condition(status, "Ready", "message") or ""
        assert [words for words in fault.says if words not in message] == []
        if fault.stalled:
            await w.rest(quiet_s=HOUR_S)
            assert w.ollama.calls["POST /api/pull"] == 1
        else:
            since, w.ollama.load_error = w.now(), ""
            await w.until("m", lambda s: reason(s) == "Available", within_s=2 * fault.wait_s + 10)
            assert (w.now() - since).total_seconds() >= fault.wait_s - 1


@by_id
def test_the_docs_lead_from_each_message_to_what_to_do(fault: Fault):
    """The section of its reason quotes words of the message, where it quotes any."""
    quoted, message = causes(fault.reason), shown(fault)
    assert not quoted or any(words.lower() in message for words in quoted), (message, quoted)


@pytest.mark.parametrize("name", sorted({fault.reason for fault in FAULTS}))
def test_the_docs_quote_only_what_leads_there(name: Reason):
    """Each quoted cause is in the message of a fault that really ends in this reason."""
    messages = [shown(fault) for fault in FAULTS if fault.reason is name]
    assert [w for w in causes(name) if not any(w.lower() in each for each in messages)] == []


async def test_a_denial_that_stays_is_a_verdict_until_a_refresh_asks_again() -> None:
    """Tried three times within three minutes, then left alone; a refresh takes it up again."""
    denied = PullTrouble(
        error='pull model manifest: 401: {"error":"Invalid username or password."}'
    )
    async with world() as w:
        w.ollama.publish("m:1", MB)
        w.ollama.trouble("m:1", denied, denied, denied)
        w.start()
        await w.apply("m", "m:1")
        status = await w.until(
            "m", lambda s: condition(s, "Stalled") == "True", within_s=180, every_s=1
        )
        assert (reason(status), status["attempts"]) == ("AuthenticationFailed", 3)
        assert "Invalid username or password" in status["error"]
        await w.rest(quiet_s=HOUR_S)
        assert w.ollama.calls["POST /api/pull"] == 3
        await w.patch("m", {"metadata": {"annotations": {REFRESH: "access granted"}}})
        await w.ready("m", within_s=5)
