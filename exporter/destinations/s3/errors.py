"""What the errors of S3 mean: one table from vendor's words to ours, and whether it can have landed.

When in doubt, it can. What to do about each code is in ``advice``. It must not raise, try anything again
or know a secret: whoever raises these errors takes secrets out of them.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING

from exporter.destinations.s3.advice import MACHINE_ROLE_HINT, on_no_way_to_sts, on_refusal, on_role, text_in
from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused

if TYPE_CHECKING:
    from botocore.exceptions import ClientError

    from exporter.destinations.s3.settings import S3Settings

UNKNOWN_CODES = {"ConditionalRequestConflict", "OperationAborted", "RequestTimeout"}
UNKNOWN_STATUSES = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.CONFLICT}

CREDENTIALS_HINT = (
    "give access_key_id and secret_access_key, or run where AWS gives credentials"
    " (pod identity, instance role, AWS_PROFILE)"
)
CONNECTION_HINT = "check endpoint_url, region, ca_file and the network between here and the store"


class RoleFailed(NotSent):
    """A role that could not be assumed: which one, because a chain has several."""

    role = ""

    @classmethod
    def of(cls, role: str, error: DeliveryError) -> RoleFailed:
        """What failed, of this role."""
        failed = cls(error.message, hint=error.hint, fix=error.fix)
        failed.role = role
        return failed


def sdk_errors(*others: type[Exception]) -> tuple[type[Exception], ...]:
    """What a request can raise. A bare OSError is the archive's: those of the network come wrapped."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ClientError, ResponseParserError, OSError, *others


def put_failed(error: Exception, settings: S3Settings, name: str, *, sent: bool = True) -> DeliveryError:
    """What it means for the object ``name`` that a request raised ``error``.

    ``sent``: anything of the request may have left.
    """
    from botocore.exceptions import ClientError

    if isinstance(error, ClientError):
        return _answered(error, settings, name)
    return _unanswered(error, settings, name, sent=sent)


def access_failed(error: Exception, settings: S3Settings, role: str = "") -> NotSent:
    """What it means that there are no credentials for a request, or that ``role`` could not be assumed."""
    from botocore.exceptions import ClientError

    message = f"no access to bucket '{settings.bucket}': {_words(error)}"
    if isinstance(error, ClientError):
        hint, fix = on_role(error, settings, role) if role else (MACHINE_ROLE_HINT, "")
        return NotSent(message, hint=hint, fix=fix)
    if isinstance(error, ValueError):  # an address that no request can be made of
        return NotSent(message, hint=CONNECTION_HINT)
    return NotSent(message, hint=on_no_way_to_sts(settings, role) if role else CREDENTIALS_HINT)


def lacks_feature(error: BaseException) -> bool:
    """Whether the store said, somewhere behind this error, that it does not know what it was asked for."""
    response = getattr(error, "response", None)
    if response is None:
        return error.__cause__ is not None and lacks_feature(error.__cause__)
    return bool(response["ResponseMetadata"]["HTTPStatusCode"] == HTTPStatus.NOT_IMPLEMENTED)


def _answered(error: ClientError, settings: S3Settings, name: str) -> DeliveryError:
    """The meaning of an error answer of the store."""
    code = error.response.get("Error", {}).get("Code")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    store = settings.store_name
    if code == "PreconditionFailed" or status == HTTPStatus.PRECONDITION_FAILED:
        return ObjectExists(f"{store} already has {name}")
    hint, fix = on_refusal(error, settings, name)
    if code in UNKNOWN_CODES or status in UNKNOWN_STATUSES or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return OutcomeUnknown(
            f"{store} did not say whether it took {name}: {_words(error)}", hint=hint, fix=fix
        )
    return Refused(f"{store} refused {name}: {_words(error)}", hint=hint, fix=fix)


def _unanswered(error: Exception, settings: S3Settings, name: str, *, sent: bool) -> DeliveryError:
    """The meaning of no answer, or of none that can be read."""
    store, words = settings.store_name, _words(error)
    if not sent or _never_sent(error):
        return NotSent(f"{store} was not asked to take {name}: {words}", hint=CONNECTION_HINT)
    return OutcomeUnknown(f"{store} did not say whether it took {name}: {words}", hint=CONNECTION_HINT)


def _never_sent(error: Exception) -> bool:
    """Whether the failure is certain to come before the first byte of the request."""
    from botocore import exceptions as botocore

    if not isinstance(error, botocore.BotoCoreError):  # some of those are OSError too
        return isinstance(error, OSError)
    before = (
        botocore.EndpointConnectionError,  # whatever came before a connection: DNS, TCP, a proxy, TLS
        botocore.ConnectTimeoutError,
        botocore.ProxyConnectionError,
        botocore.ParamValidationError,
        botocore.EndpointProviderError,
        botocore.NoCredentialsError,
    )
    return isinstance(error, before)


def _words(error: Exception) -> str:
    """The vendor's words, with the id of the request that its support asks for."""
    response = getattr(error, "response", None)
    if response is None:
        return _own_words(error)
    told = response.get("Error", {})  # a token service that is none says nothing
    words = ": ".join(filter(None, (text_in(told, "Code"), text_in(told, "Message")))) or str(error)
    request_id = response["ResponseMetadata"].get("RequestId")
    return f"{words} (request {request_id})" if request_id else words


def _own_words(error: Exception) -> str:
    """What botocore says, or a failed connection; what broke in it at an odd answer says nothing."""
    if isinstance(error, sdk_errors(ValueError)):
        reason = getattr(error, "kwargs", {}).get("error")
        return reason.message if isinstance(reason, NotSent) else str(error)
    return f"its answer cannot be read ({type(error).__name__})"
