"""What the errors of Azure mean: one table from vendor's words to ours, with a hint for each code.

What decides is whether the blob can have landed; when in doubt, it can. It must not raise, try anything
again or show a secret: the SDK's own errors hold the URL with its SAS, so none is the cause of ours.
"""

from __future__ import annotations

import html
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from exporter.errors import DeliveryError, NotSent, ObjectExists, OutcomeUnknown, Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from exporter.destinations.azure.fixes import Fixes

EXISTS_CODES: Final = {
    "BlobAlreadyExists",
    "ConditionNotMet",
    "TargetConditionNotMet",
    "UnauthorizedBlobOverwrite",  # a SAS or role that may create, and met a blob
    "BlobImmutableDueToPolicy",  # a policy protects blobs that are there, and lets new ones come
    "BlobImmutableDueToLegalHold",
}
PASSING: Final = {HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS}
UNKNOWN_CODES: Final = {"InternalError", "OperationTimedOut", "ServerBusy"}


NO_RIGHT: Final = "AuthorizationPermissionMismatch"


class NoRight(Refused):
    """The credentials are good, and do not carry the right to this request."""


class Advice(NamedTuple):
    """What a person does about a code; ``fix`` names one of `Fixes`."""

    hint: str
    fix: str = ""


ROLE_ADVICE: Final = Advice(
    "give the identity a role on the container with blobs/add/action; it takes effect within 10 minutes",
    "role",
)
SAS_ADVICE: Final = Advice("give a new SAS in `sas`: container level, permission c, https only", "sas")
KEY_ADVICE: Final = Advice(
    "enter account_key again, whole and of this account: it is not, or no longer, valid", "key"
)
CLOCK_ADVICE: Final = Advice("set this machine's clock: it differs from Azure's by over 15 minutes")
NETWORK_ADVICE: Final = Advice(
    "let the account's firewall and the SAS's address range take this program's address", "network"
)
SCOPE_ADVICE: Final = Advice("set encryption_scope to the one that the container asks for", "scopes")
VAULT_ADVICE: Final = Advice(
    "let the storage account use its key: the vault, the key and the account's right to it", "vault"
)
CHECKSUM_ADVICE: Final = Advice(
    "look at what lies between here and the account: the bytes changed on their way"
)
BUSY_ADVICE: Final = Advice("nothing, unless it stays: the account asks for fewer requests")

ADVICE: Final = {
    NO_RIGHT: ROLE_ADVICE,
    "InsufficientAccountPermissions": Advice(
        "enable writing in the account, or give a new key or SAS", "sas"
    ),
    "AuthorizationFailure": NETWORK_ADVICE,
    "AuthorizationSourceIPMismatch": NETWORK_ADVICE,
    "AuthorizationProtocolMismatch": Advice("write https in account_url: the SAS is for https alone"),
    "AuthorizationServiceMismatch": SAS_ADVICE,
    "AuthorizationResourceTypeMismatch": SAS_ADVICE,
    "PublicAccessNotPermitted": SAS_ADVICE,
    "NoAuthenticationInformation": SAS_ADVICE,
    "AuthenticationFailed": KEY_ADVICE,
    "InvalidAuthenticationInfo": Advice(
        "see that tenant_id is the tenant of the account's subscription, and that this machine's clock is"
        " right"
    ),
    "KeyBasedAuthenticationNotPermitted": Advice(
        "give an identity instead of a key or SAS, or switch keys on", "shared_keys"
    ),
    "ContainerNotFound": Advice("create the container, or correct container or account", "container_create"),
    "ContainerBeingDeleted": Advice("wait, then create the container again", "container_create"),
    "ContainerDisabled": Advice("ask the account's owner why the container is disabled"),
    "ResourceNotFound": Advice("correct container or account", "container_create"),
    "AccountIsDisabled": Advice("enable the storage account or its subscription: the owner's bill, mostly"),
    "AccountBeingCreated": Advice("wait until the account is ready"),
    "EncryptionScopeNotFound": Advice(
        "correct encryption_scope, or let the account's owner make the scope", "scope_create"
    ),
    "EncryptionScopeDisabled": Advice(
        "correct encryption_scope, or let the account's owner enable the scope", "scope"
    ),
    "EncryptionScopeMismatch": SCOPE_ADVICE,
    "RequestForbiddenByContainerEncryptionPolicy": SCOPE_ADVICE,
    "KeyVaultEncryptionKeyNotFound": VAULT_ADVICE,
    "KeyVaultAccessTokenCannotBeAcquired": VAULT_ADVICE,
    "KeyVaultVaultNotFound": VAULT_ADVICE,
    "KeyVaultNotFound": VAULT_ADVICE,
    "Md5Mismatch": CHECKSUM_ADVICE,
    "InvalidMd5": CHECKSUM_ADVICE,
    "RequestBodyTooLarge": Advice("lower part_limit: the store does not take blobs of this size"),
    "InvalidResourceName": Advice("correct container: 3 to 63 lower-case letters, digits and '-'"),
    "AccessTierNotSupportedForBlobType": Advice("remove access_tier: this account has no tiers"),
    "FeatureNotYetSupportedForHierarchicalNamespaceAccounts": Advice(
        "remove access_tier and encryption_scope, or use an account without a hierarchical namespace"
    ),
    "ServerBusy": BUSY_ADVICE,
    "OperationTimedOut": BUSY_ADVICE,
}
REASONS: Final = (
    ("signature not valid in the specified time frame", SAS_ADVICE),
    ("signed expiry", SAS_ADVICE),
    ("date header", CLOCK_ADVICE),
    ("lifetime validation failed", CLOCK_ADVICE),
    ("issuer validation failed", ADVICE["InvalidAuthenticationInfo"]),
    ("audience validation failed", ADVICE["InvalidAuthenticationInfo"]),
)
"""Why an authentication failed, as the answer's detail says it."""

STRANGER_HINT: Final = (
    "see what lies between here and the account, such as a proxy or a sign-in page: Azure answers otherwise"
)
REDIRECT_HINT: Final = (
    "correct account_url: what answers there sends on to another place, and is not followed"
)
TROUBLE_HINT: Final = "nothing, unless it stays: then see Azure's health, and what lies between here and it"
SETTINGS_HINT: Final = (
    "correct what the settings ask for (container, prefix, access_tier, encryption_scope): Azure does not"
    " take it"
)

TOKEN_HINTS: Final = {
    "AADSTS700016": "let an administrator of the customer's tenant consent to the application, or correct"
    " client_id or tenant_id: the tenant does not know the application",
    "AADSTS7000215": "give a new client_secret, its value and not its id: the application has no such secret",
    "AADSTS7000222": "give a new client_secret: it has expired",
    "AADSTS7000229": "let an administrator consent to the application: it has no principal in the tenant",
    "AADSTS90002": "correct tenant_id: there is no such tenant",
    "AADSTS900023": "correct tenant_id: it is neither an id nor a domain",
    "AADSTS700024": "set this machine's clock, or see that the pod's token is renewed: it is not valid now",
    "AADSTS700027": "give the certificate that is registered with the application, with its private key",
    "AADSTS70021": "add a federated credential to the application for this pod's issuer and subject",
    "AADSTS700211": "add a federated credential to the application for this pod's issuer",
    "AADSTS700212": "let the federated credential's audience be api://AzureADTokenExchange",
    "AADSTS700213": "add a federated credential to the application for this pod's subject",
    "AADSTS500011": "see that the tenant has a subscription with storage: it does not know Azure Storage",
    "AADSTS53003": "exclude the application from the tenant's conditional access policy",
}
WAY_HINTS: Final = {
    "secret": "check tenant_id, client_id, client_secret and the way to {authority}",
    "certificate": "check tenant_id, client_id, client_certificate (PEM, certificate and private key) and"
    " the way to {authority}",
    "workload": "run in a pod with a workload identity (AZURE_CLIENT_ID, AZURE_TENANT_ID,"
    " AZURE_FEDERATED_TOKEN_FILE), or name another way in",
    "managed": "run on a machine with a managed identity, with client_id if it has several, or name another"
    " way in",
    "machine": "give a sas, an account_key or an application, or run where there is a workload or managed"
    " identity",
}
_REST: Final = re.compile(r"\s*(?:RequestId:|Trace ID:|Server used following|String to sign used)")
LONGEST_WORDS: Final = 600
WORDED: Final = ("Message", "AuthenticationErrorDetail")
CONNECTION_HINT: Final = "check account_url, ca_file and the network between here and the account"


class Asked(NamedTuple):
    """Whom a request was for, how it was allowed (`key`, `sas` or by a token), and what hides its secrets."""

    store: str
    way: str
    fixes: Fixes
    redacted: Callable[[str], str]


def put_failed(error: Exception, asked: Asked, name: str) -> DeliveryError:
    """What it means for the blob ``name`` that a request raised ``error``."""
    response = getattr(error, "response", None)
    if response is None:
        return _unanswered(error, asked, name)
    store, status = asked.store, response.status_code
    code, words = _answer(response, asked.redacted)
    advice = advice_for(code, words, asked.way)
    advice = advice if advice.hint else Advice(_hint_for(status, code))
    fix = str(getattr(asked.fixes, advice.fix)) if advice.fix else ""
    if code in EXISTS_CODES or status == HTTPStatus.PRECONDITION_FAILED:
        return ObjectExists(f"{store} already has {name}", hint="" if code else STRANGER_HINT)
    if _is_open(status, code):
        return OutcomeUnknown(
            f"{store} did not say whether it took {name}: {words}", hint=advice.hint, fix=fix
        )
    kind = NoRight if code == NO_RIGHT else Refused
    return kind(f"{store} refused {name}: {words}", hint=advice.hint, fix=fix)


def advice_for(code: str, words: str, way: str) -> Advice:
    """What to do about a code, and about the reason that an answer gives."""
    if code in {"AuthenticationFailed", "InvalidAuthenticationInfo"}:
        for reason, advice in REASONS:
            if reason in words.lower():
                return advice
    if way == "sas" and code in {NO_RIGHT, "AuthenticationFailed", "InvalidAuthenticationInfo"}:
        return SAS_ADVICE
    if way == "key" and code == "InvalidAuthenticationInfo":
        return KEY_ADVICE
    return ADVICE.get(code, Advice(""))


def _hint_for(status: int, code: str) -> str:
    """What to do about an answer of which the table knows no more than its status."""
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return REDIRECT_HINT
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status in PASSING:
        return TROUBLE_HINT
    return SETTINGS_HINT if code else STRANGER_HINT


def token_failed(error: Exception, way: str, authority: str, redacted: Callable[[str], str]) -> NotSent:
    """What it means that there is no token for a request."""
    known = next((cause for cause in _causes(error) if isinstance(cause, NotSent)), None)
    if known is not None:  # the way to where tokens come from
        return NotSent(known.message, hint=known.hint)
    words = _first_lines(redacted(str(error)))
    code = re.search(r"AADSTS[0-9]+", words)
    hint = TOKEN_HINTS.get(code[0], "") if code else ""
    return NotSent(
        f"no token from Microsoft Entra ID: {words}", hint=hint or WAY_HINTS[way].format(authority=authority)
    )


def _is_open(status: int, code: str) -> bool:
    """Whether the blob can be there in spite of this answer; one below 300 is no error of Azure's."""
    return (
        status >= HTTPStatus.INTERNAL_SERVER_ERROR
        or status < HTTPStatus.MULTIPLE_CHOICES
        or status == HTTPStatus.REQUEST_TIMEOUT
        or (status == HTTPStatus.CONFLICT and not code)
        or code in UNKNOWN_CODES
    )


def _unanswered(error: Exception, asked: Asked, name: str) -> DeliveryError:
    """The meaning of no answer, or of none that can be read."""
    from azure.core.exceptions import ClientAuthenticationError

    words = _first_lines(asked.redacted(str(error)))
    if isinstance(error, ClientAuthenticationError):  # no answer: the key is none, and nothing was signed
        return NotSent(f"{asked.store} was not asked to take {name}: {words}", hint=KEY_ADVICE.hint)
    return OutcomeUnknown(f"{asked.store} did not say whether it took {name}: {words}", hint=CONNECTION_HINT)


def _answer(
    response: Any,  # noqa: ANN401 - the SDK has two kinds of answers
    redacted: Callable[[str], str],
) -> tuple[str, str]:
    """An answer's code, and its words: the code, the message, the detail, the id that support asks for."""
    body = _text(response)
    code = response.headers.get("x-ms-error-code") or _element(body, "Code")
    parts = [code or f"status {response.status_code}"]
    parts += filter(None, (_first_lines(redacted(_element(body, part))) for part in WORDED))
    words = ": ".join(part.rstrip(".:") for part in parts)
    request_id = response.headers.get("x-ms-request-id")
    return code, _shown(redacted(f"{words} (request {request_id})" if request_id else words))


def _text(response: Any) -> str:  # noqa: ANN401 - as above
    try:
        return str(response.text("utf-8"))
    except (UnicodeError, ValueError, RuntimeError):  # what it says is not text: its status has to do
        return ""


def _element(body: str, name: str) -> str:
    match = re.search(f"<{name}>(.*?)</{name}>", body, re.DOTALL)
    return html.unescape(match[1]).strip() if match else ""


def _first_lines(words: str) -> str:
    """Words on one line, without what follows: ids, the text that was to be signed, and its signature."""
    words = _REST.split(words, maxsplit=1)[0]
    words = re.sub(r"'[A-Za-z0-9+/]{40,}={0,2}'", "'***'", words)
    return _shown(words)


def _shown(words: str) -> str:
    """Words on one line, without what a terminal would obey, and not too many: a stranger wrote them.

    They have to be without secrets already: half of one would not be found any more.
    """
    return " ".join("".join(one if one.isprintable() else " " for one in words).split())[:LONGEST_WORDS]


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__
