"""stamina, as this program uses it: of a new try it says nothing.

By default it prints each, with its arguments: standard output is the report's, and arguments are customers'.
"""

from stamina import RetryingCaller, retry_context
from stamina.instrumentation import set_on_retry_hooks

__all__ = ["RetryingCaller", "retry_context"]

set_on_retry_hooks([])
