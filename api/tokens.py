"""Bearer tokens: who somebody is and what they may do, as Kubernetes says, remembered for a while.

The times are those of controller-runtime's filter for metrics: a token that is good for one minute,
a permission for five, a refusal for half a minute. A token that is no good is asked about again
after ten seconds. The caches are bounded; of tokens they hold hashes only.

Source: controller-runtime, pkg/metrics/filters/filters.go.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Hashable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Generic, TypeVar

import anyio

from api.ports import Reviewer, User
from ollama_op.base.errors import KubeError

T = TypeVar("T")

GOOD_S: Final = 60.0
BAD_S: Final = 10.0
ALLOWED_S: Final = 300.0
DENIED_S: Final = 30.0
REMEMBERED: Final = 1024
MAX_TOKEN: Final = 16_384  # characters; headers are bounded by the server, tokens of people shorter


class _Flight(Generic[T]):
    """A question that is being asked, and what came of it."""

    def __init__(self) -> None:
        self.landed = anyio.Event()
        self.answer: tuple[T] | None = None
        self.error: KubeError | None = None


class _Cache(Generic[T]):
    """Answers by question, each for its time; the oldest go first.

    Those who ask the same at the same time share one question. If whoever asks it is cancelled,
    one of the others asks.
    """

    def __init__(self, now: Callable[[], float], lasts_s: Callable[[T], float]) -> None:
        self._now, self._lasts_s = now, lasts_s
        self._known: OrderedDict[Hashable, tuple[float, T]] = OrderedDict()
        self._flights: dict[Hashable, _Flight[T]] = {}

    async def get(self, question: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        while True:
            found = self._known.get(question)
            if found is not None and found[0] > self._now():
                return found[1]
            flight = self._flights.get(question)
            if flight is None:
                return await self._ask(question, ask)
            await flight.landed.wait()
            if flight.error is not None:
                raise flight.error
            if flight.answer is not None:
                return flight.answer[0]

    async def _ask(self, question: Hashable, ask: Callable[[], Awaitable[T]]) -> T:
        flight = self._flights[question] = _Flight[T]()
        try:
            answer = await ask()
            flight.answer = (answer,)
        except KubeError as error:
            flight.error = error
            raise
        finally:
            del self._flights[question]
            flight.landed.set()
        self._known.pop(question, None)
        self._known[question] = (self._now() + self._lasts_s(answer), answer)
        if len(self._known) > REMEMBERED:
            self._known.popitem(last=False)
        return answer


class Tokens:
    """Knows the owners of bearer tokens."""

    def __init__(self, reviewer: Reviewer, now: Callable[[], float]) -> None:
        self._reviewer = reviewer
        self._users = _Cache[User | None](now, lambda user: GOOD_S if user else BAD_S)
        self._rights = _Cache[bool](now, lambda allowed: ALLOWED_S if allowed else DENIED_S)

    async def find(self, token: str) -> "Person | None":
        """Return whose token this is, if it is valid.

        Raises: KubeError.
        """
        if not token or len(token) > MAX_TOKEN:
            return None
        digest = sha256(token.encode()).digest()
        user = await self._users.get(digest, lambda: self._reviewer.who(token))
        return None if user is None else Person(user, self)

    async def may(self, user: User, verb: str, namespace: str | None) -> bool:
        """Return True if somebody may do something.

        Raises: KubeError.
        """
        ask = (user, verb, namespace)
        return await self._rights.get(ask, lambda: self._reviewer.may(user, verb, namespace))


@dataclass(frozen=True, slots=True)
class Person:
    """The owner of a bearer token, as a caller."""

    user: User
    tokens: Tokens

    @property
    def name(self) -> str:
        """The name that Kubernetes knows."""
        return self.user.name

    @property
    def sees_all(self) -> bool:
        """Kubernetes has to be asked."""
        return False

    async def may(self, verb: str, namespace: str | None) -> bool:
        """Ask Kubernetes."""
        return await self.tokens.may(self.user, verb, namespace)

    async def visible(self) -> Collection[str] | None:
        """Return no limit; whether that is allowed, `may` says."""
        return None
