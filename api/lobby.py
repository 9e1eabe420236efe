"""What is answered while there is nothing to serve yet: the operator has not reached Kubernetes."""

from typing import Final

from api.problems import Kind, Problem
from api.reads import HEALTH, OK
from ollama_op.base.asgi import PREFIX, Receive, Scope, Send

WAIT: Final = {"retry-after": "5"}


async def lobby(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer that the process is up and not ready. No key is checked: nothing is known yet."""
    path = scope["path"]
    problem = Problem(Kind.NOT_READY, "The operator has not reached Kubernetes yet.", headers=WAIT)
    answer = OK if path == HEALTH else problem.answer(path, scope.get(PREFIX, ""))
    await answer(scope, receive, send)
