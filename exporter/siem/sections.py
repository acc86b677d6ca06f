"""What a pack is made of: files to copy, and the names in them that only the customer knows.

A placeholder is written one way everywhere: `<AWS ACCOUNT ID>`. It must not know a consumer or a cloud.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from exporter.siem.delivery import Delivery

PLACEHOLDERS: Final = {
    "AWS ACCOUNT ID": "the 12 digits of the AWS account that owns the bucket, and has the queue",
    "REGION": "the region of the bucket; the queue has to be in the same one",
    "BUCKET": "the bucket that the export delivers to",
    "INDEX": "the Splunk index for these records",
    "SPLUNK AWS ACCOUNT": "the name of the AWS account in the add-on's configuration",
    "HEC TOKEN": "a new token, such as `uuidgen` makes; the same goes into the file that `token` names",
    "FILE WITH THE TOKEN": "a file with nothing but the token, where audit-exporter runs",
    "SPLUNK HOST": "the host of the HTTP Event Collector, with its port",
    "WORKSPACE": "the name of the Log Analytics workspace that Sentinel is on",
    "WORKSPACE ID": "the id of that workspace",
    "SUBSCRIPTION ID": "the Azure subscription",
    "RESOURCE GROUP": "the Azure resource group",
    "LOCATION": "the Azure region of the workspace",
    "DATA COLLECTION ENDPOINT": "the name of a data collection endpoint in that region",
    "DATA COLLECTION RULE ID": "the immutableId that Azure gave to the data collection rule",
    "STORAGE ACCOUNT": "the storage account that the export delivers to",
    "CONTAINER": "the container that the export delivers to",
    "ELASTICSEARCH": "the address of Elasticsearch, such as https://elastic.example:9200",
    "API KEY": "an API key of Elasticsearch, as id:key",
    "PROJECT": "the Google Cloud project of the bucket",
    "KEY FILE": "the service account's key, as a JSON file where Filebeat runs",
    "CLIENT ID": "the application of Microsoft Entra that the reader signs in as",
    "CLIENT SECRET": "its secret; better from Filebeat's keystore",
    "ACCESS KEY ID": "a key of the store that may list the bucket and read the export's folder",
    "SECRET ACCESS KEY": "its secret; better from Filebeat's keystore",
    "TENANT ID": "its Microsoft Entra tenant",
    "LOG TYPE": "the log type of the feed, projects/…/logTypes/…: one of your own for these records",
    "SECOPS SERVICE ACCOUNT": "what `fetchFeedServiceAccount` of the feed management API answers",
    "REPOSITORY": "the LogScale repository",
    "LOGSCALE ROLE": "the role, or user, of AWS that LogScale says it assumes yours with",
    "LOGSCALE EXTERNAL ID": "the external id that LogScale shows for the feed",
    "FORWARDER ARN": "the ARN of the Forwarder's Lambda function",
}
"""Every name that a pack may leave open, and what it stands for."""

_PLACEHOLDER = re.compile(r"<([A-Z][A-Z0-9 ]+)>")


@dataclass(frozen=True, slots=True)
class Section:
    """One file of a pack: where it goes, in a sentence, and its text in a syntax of its own."""

    file: str
    about: str
    syntax: Literal["conf", "yaml", "json", "xml", "sh", "text"]
    text: str


def of_json(file: str, about: str, value: object) -> Section:
    """A file of JSON."""
    return Section(file, about, "json", json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def of_yaml(file: str, about: str, value: object) -> Section:
    """A file of YAML."""
    text = yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=110)
    return Section(file, about, "yaml", text)


def of_conf(file: str, about: str, stanzas: Mapping[str, Mapping[str, object]]) -> Section:
    """A file of stanzas, as Splunk and AWS have them."""
    blocks = (
        "\n".join([f"[{name}]", *(f"{key} = {value}" for key, value in keys.items())])
        for name, keys in stanzas.items()
    )
    return Section(file, about, "conf", "\n\n".join(blocks) + "\n")


def placeholders(sections: Iterable[Section]) -> dict[str, str]:
    """The names that these sections leave open, in order, and what each stands for."""
    found = dict.fromkeys(name for one in sections for name in _PLACEHOLDER.findall(one.text))
    return {name: PLACEHOLDERS[name] for name in found}


def slug(delivery: Delivery, longest: int = 28) -> str:
    """A name for what a pack makes: of lower-case letters, digits and `-`, as every system takes it.

    It is that of one export and one reader: where the export's own name cannot be in it, a hash of it is.
    ``longest`` is for the export's part: the whole and `-dead` fit into the 63 characters of an Azure queue.
    """
    plain = re.sub(r"[^a-z0-9]+", "-", delivery.export.lower()).strip("-")
    short = plain[:longest].rstrip("-")
    tag = "" if short == delivery.export else hashlib.sha256(delivery.export.encode()).hexdigest()[:6]
    return "-".join(part for part in ("audit", short, tag, delivery.reader) if part)


def one_word(text: str) -> str:
    """Text from outside as it may stand in a line of a file: no line breaks, nor what ends a stanza."""
    return re.sub(r"[\r\n\[\]]", " ", text)
