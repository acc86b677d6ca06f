"""Where the blobs of a storage account are, from its URL or from a connection string.

Every spelling of one place has one name. It must not connect to anything, and no error of it may quote
what may hold a key: a connection string, or a URL with a query.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from exporter.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

PUBLIC_CLOUD: Final = "blob.core.windows.net"
AZURE_HOSTS: Final = (
    f"*.{PUBLIC_CLOUD}",
    "*.blob.core.usgovcloudapi.net",
    "*.blob.core.chinacloudapi.cn",
    "*.blob.storage.azure.net",
)
"""Nobody but Azure answers there; private DNS may lead them to a private endpoint."""

TEXT_URL: Final = "the connection_string's blob endpoint"
"""What errors call an account's URL that is not a setting of its own."""

_URL = re.compile(
    r"(?P<scheme>https?)://(?P<host>[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(:(?P<port>[0-9]{1,5}))?"
    r"(?P<path>/[A-Za-z0-9-]{1,63})?/?"
)
_AZURE = re.compile(
    r"(?P<account>[a-z0-9]{3,24})(?P<part>(-[a-z0-9]+)*)(\.privatelink)?\."
    r"(?P<cloud>blob\.core\.(windows\.net|usgovcloudapi\.net|chinacloudapi\.cn)|z[0-9]+\.blob\.storage\.azure\.net)"
)
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_URL_HINT: Final = "write https://ACCOUNT.blob.core.windows.net, and what gives access in settings of its own"
_TEXT_HINT: Final = (
    "copy it as the portal shows it (`Access keys` or `Shared access signature`), with AccountName"
    " and AccountKey, or with BlobEndpoint and SharedAccessSignature"
)
_KEY_HINT: Final = "set account_url, and move the key to account_key"


@dataclass(frozen=True, slots=True)
class Account:
    """One storage account: its URL without a slash at the end, its name, and which cloud of Azure it is in.

    ``name`` is empty where the URL does not tell, ``cloud`` where the host is not one of Azure's own.
    """

    url: str
    name: str
    cloud: str

    @classmethod
    def at(cls, url: str, setting: str, name: str = "") -> Account:
        """The account behind a URL. Raises ConfigError, naming the setting that the URL is from."""
        match = _URL.fullmatch(url)
        if match is None or not 0 < int(match["port"] or 1) <= 65535:  # noqa: PLR2004 - the highest port
            raise ConfigError(f"{setting} is no address of a storage account", hint=_URL_HINT)
        host = match["host"].lower().rstrip(".")
        port = int(match["port"] or _DEFAULT_PORTS[match["scheme"]])
        own = _AZURE.fullmatch(host)
        if own is not None and match["scheme"] != "https":
            raise ConfigError(f"{setting} is not encrypted", hint="write https:// instead of http://")
        if own is not None and port == _DEFAULT_PORTS["https"]:
            return cls._of_azure(match, own, setting)
        if re.search(r"\.(dfs|file|queue|table|web)\.(core|storage)\.", host):
            raise ConfigError(
                f"{setting} is not the account's address for blobs", hint=f"{_URL_HINT}: 'blob', not another"
            )
        path = match["path"] or ""
        shown = "" if match["port"] is None else f":{port}"
        return cls(f"{match['scheme']}://{host}{shown}{path}", name or path.removeprefix("/"), "")

    @classmethod
    def _of_azure(cls, match: re.Match[str], own: re.Match[str], setting: str) -> Account:
        if match["path"]:
            raise ConfigError(f"{setting} has a path", hint="end it after the host, and set `container`")
        if "-secondary" in own["part"]:
            raise ConfigError(
                f"{setting} is the account's second region, which cannot be written to",
                hint="remove '-secondary' from it",
            )
        return cls(f"https://{own[0]}", own["account"], own["cloud"])

    def store(self, container: str) -> str:
        """The canonical name: an account of Azure by its name, any other by its host, port and path."""
        if self.cloud:
            zone = "" if self.cloud == PUBLIC_CLOUD else f".{self.cloud}"
            return f"azure://{self.name}{zone}/{container}"
        url = urlsplit(self.url)
        host = f"[{url.hostname}]" if ":" in (url.hostname or "") else url.hostname
        port = "" if url.port in {None, _DEFAULT_PORTS[url.scheme]} else f":{url.port}"
        return f"azure://{container}@{host}{port}{url.path}"


@dataclass(frozen=True, slots=True, repr=False)
class ConnectionString:
    """What a connection string says: the account, and a key or a SAS for it."""

    account: Account
    key: str | None
    sas: str | None

    @classmethod
    def parse(cls, text: str) -> ConnectionString:
        """The meaning of a connection string. Raises ConfigError, which quotes nothing of it."""
        if re.fullmatch(r"[A-Za-z0-9+/]{40,}={0,2}", text.strip()):
            raise ConfigError("the connection_string is an account key alone", hint=_KEY_HINT)
        if text.strip()[:1] in {"'", '"'}:
            raise ConfigError("the connection_string is in quotes", hint="give it without them")
        fields = _fields(text)
        if "usedevelopmentstorage" in fields or "developmentstorageproxyuri" in fields:
            raise ConfigError("the connection_string is that of an emulator", hint=_TEXT_HINT)
        key, sas = fields.get("accountkey"), fields.get("sharedaccesssignature")
        if (key is None) == (sas is None):
            raise ConfigError(
                "the connection_string needs an AccountKey or a SharedAccessSignature, not both",
                hint=_TEXT_HINT,
            )
        account = Account.at(_blob_endpoint(fields), TEXT_URL, _name(fields))
        return cls(account, key, sas)


def _fields(text: str) -> dict[str, str]:
    """The fields by their names in lower case, as nobody agrees on their case."""
    pairs = [part.partition("=") for part in text.strip().split(";") if part.strip()]
    if not pairs or not all(equals for _, equals, _ in pairs):
        raise ConfigError("the connection_string is not made of NAME=VALUE;NAME=VALUE", hint=_TEXT_HINT)
    return {name.strip().lower(): value.strip() for name, _, value in pairs if value.strip()}


def _name(fields: Mapping[str, str]) -> str:
    name = fields.get("accountname", "")
    if not re.fullmatch("[a-z0-9]{0,24}", name):
        raise ConfigError("the connection_string's AccountName is not one", hint=_TEXT_HINT)
    return name


def _blob_endpoint(fields: Mapping[str, str]) -> str:
    if "blobendpoint" in fields:
        return fields["blobendpoint"]
    if "accountname" not in fields:
        raise ConfigError("the connection_string has no AccountName and no BlobEndpoint", hint=_TEXT_HINT)
    scheme = fields.get("defaultendpointsprotocol", "https").lower()
    return f"{scheme}://{_name(fields)}.blob.{fields.get('endpointsuffix', 'core.windows.net')}"
