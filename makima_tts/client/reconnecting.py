"""How a client comes back to a service that is away for a while.

In: nothing. Out: how long to wait before each attempt. Does not know: sockets, clocks, what is said.
"""

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from makima_tts.client.failures import ClientError, ServiceError

_random = random.SystemRandom().random


@dataclass(frozen=True, slots=True)
class Reconnects:
    """At most so many attempts: the first at once, the others after waits that double up to the longest.

    ``attempts`` 0: a connection that is lost stays lost.
    """

    attempts: int = 12
    first_wait_s: float = 0.25
    longest_wait_s: float = 8.0

    def waits_s(self, jitter: Callable[[], float] = _random) -> Iterator[float]:
        """One wait for each attempt. Chance takes up to half of it, so that clients do not come as one."""
        for attempt in range(self.attempts):
            whole_s = min(self.longest_wait_s, self.first_wait_s * 2.0 ** (attempt - 1))
            yield whole_s * (1 - jitter() / 2) if attempt else 0.0


def may_pass(failure: ClientError) -> bool:
    """Whether trying again can help; not, for example, with a token that was refused."""
    return not isinstance(failure, ServiceError) or failure.recoverable


def asked_wait_s(failure: ClientError) -> float:
    """How long the service itself asked us to wait."""
    return (failure.retry_after_s or 0.0) if isinstance(failure, ServiceError) else 0.0
