"""Microsoft Sentinel: table, data collection rule and connector, for S3 and for Azure Blob Storage."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from exporter.siem import aws, azure
from exporter.siem.judging import PLAIN
from exporter.siem.sections import Section, of_json, of_yaml, slug

if TYPE_CHECKING:
    from exporter.siem.delivery import Delivery

# learn.microsoft.com/azure/sentinel/connect-aws: the commercial cloud's; those of the government differ.
_ISSUER: Final = "sts.windows.net/33e01921-4d64-4f8c-a055-5bdaffd5e33d/"
_AUDIENCE: Final = "api://1462b192-27f7-4cb9-8523-0f4ecb54b47e"
_WORKSPACE = (
    "/subscriptions/<SUBSCRIPTION ID>/resourceGroups/<RESOURCE GROUP>/providers"
    "/Microsoft.OperationalInsights/workspaces/<WORKSPACE>"
)
_ENDPOINT = (
    "/subscriptions/<SUBSCRIPTION ID>/resourceGroups/<RESOURCE GROUP>/providers"
    "/Microsoft.Insights/dataCollectionEndpoints/<DATA COLLECTION ENDPOINT>"
)
_API = "https://management.azure.com"
_RESERVED: Final = frozenset({"id", "Title", "Type", "TenantId", "UniqueId", "BilledSize", "IsBillable"})
_MOMENTS: Final = {
    "rfc3339": "todatetime({})",
    "epoch": "unixtime_microseconds_todatetime(todouble({}) * 1000000)",
    "epoch_s": "unixtime_seconds_todatetime(tolong({}))",
    "epoch_ms": "unixtime_milliseconds_todatetime(tolong({}))",
    "": "todatetime({})",
}
_PLAIN_STANDARD: Final = {
    "Date": "time | rfc3339",
    "Email": "email | text",
    "Action": "action | text",
    "ActionId": "action_id | text",
    "Description": "description | text",
    "IPAddress": "ip_address | text",
    "EventId": "id | text",
}
"""The fields of `standard`, under names that a column can have."""


def from_s3(delivery: Delivery) -> list[Section]:
    """Table, rule, connector, the role that Sentinel assumes, and the wiring."""
    data_format: dict[str, object] = {"Format": "JsonLine", "IsCompressed": delivery.archive == "gzip"}
    if delivery.archive == "gzip":
        data_format["compressType"] = "Gzip"
    properties = {
        "connectorDefinitionName": slug(delivery),
        "dataTypes": {"logs": {"state": "enabled"}},
        "dcrConfig": _rule_reference(delivery),
        "destinationTable": _table(delivery),
        "dataFormat": data_format,
        "roleArn": aws.role_arn(delivery, _role(delivery)),
        "sqsUrls": [aws.queue_url(delivery)],
    }
    condition = {
        "StringEquals": {
            f"{_ISSUER}:aud": _AUDIENCE,
            "sts:RoleSessionName": "MicrosoftSentinel_<WORKSPACE ID>",
        }
    }
    provider = f"arn:{aws.partition(delivery)}:iam::{aws.ACCOUNT}:oidc-provider/{_ISSUER}"
    return [
        *_format(delivery),
        *_collection(delivery),
        _connector(delivery, "AmazonWebServicesS3", properties),
        aws.trust_policy({"Federated": provider}, "sts:AssumeRoleWithWebIdentity", condition),
        *aws.wiring(delivery),
    ]


def from_azure(delivery: Delivery) -> list[Section]:
    """Table, rule, connector, the event subscription and the reader's roles."""
    queue = azure.queue_name(delivery)
    properties = {
        "connectorDefinitionName": slug(delivery),
        "dataType": _table(delivery),
        "auth": {"type": "ServicePrincipal"},
        "request": {
            "QueueUri": azure.queue_uri(delivery, queue),
            "DlqUri": azure.queue_uri(delivery, f"{queue}-dead"),
            "StorageAccountSubscriptionId": "<SUBSCRIPTION ID>",
            "StorageAccountResourceGroupName": "<RESOURCE GROUP>",
        },
        "dcrConfig": _rule_reference(delivery),
        "response": {
            "EventsJsonPaths": ["$"],
            "format": "json",
            "IsGzipCompressed": delivery.archive == "gzip",
        },
    }
    application = "4f05ce56-95b6-4612-9d98-a45c8cc33f9f (Microsoft's application for this connector)"
    return [
        *_format(delivery),
        *_collection(delivery),
        _connector(delivery, "StorageAccountBlobContainer", properties),
        azure.event_subscription(delivery),
        azure.reader_roles(delivery, application, queues=True),
    ]


def _table(delivery: Delivery) -> str:
    return f"{slug(delivery).capitalize().replace('-', '_')}_CL"


def _role(delivery: Delivery) -> str:
    return f"OIDC_{slug(delivery)}"  # Sentinel assumes no role whose name begins otherwise


def _rule_reference(delivery: Delivery) -> dict[str, str]:
    return {
        "streamName": f"Custom-{_table(delivery)}",
        "dataCollectionEndpoint": "https://<DATA COLLECTION ENDPOINT>.ingest.monitor.azure.com",
        "dataCollectionRuleImmutableId": "<DATA COLLECTION RULE ID>",
    }


def _connector(delivery: Delivery, kind: str, properties: dict[str, Any]) -> Section:
    about = (
        f"the body of PUT {_API}{_WORKSPACE}/providers/Microsoft.SecurityInsights/dataConnectors/"
        f"{slug(delivery)}?api-version=2025-09-01; `connectorDefinitionName` is the definition, of kind"
        " Customizable, that its tile in Sentinel is made of"
    )
    return of_json("connector.json", about, {"name": slug(delivery), "kind": kind, "properties": properties})


def _collection(delivery: Delivery) -> list[Section]:
    """The table, and the rule that fills it: of `standard`, those of the format to write in its place."""
    if delivery.format == "standard":
        delivery = replace(delivery, fields=dict.fromkeys(_PLAIN_STANDARD, "string"))
    table = _table(delivery)
    taken = {name: kind for name, kind in delivery.fields.items() if PLAIN.fullmatch(name)}
    taken["bad_record"] = "dynamic"  # what goes out in place of a record that cannot be rendered
    columns = [{"name": "TimeGenerated", "type": "datetime"}]
    columns += [{"name": _column(name), "type": kind} for name, kind in taken.items()]
    streams = {f"Custom-{table}": {"columns": [{"name": name, "type": kind} for name, kind in taken.items()]}}
    rule = {
        "location": "<LOCATION>",
        "properties": {
            "dataCollectionEndpointId": _ENDPOINT,
            "streamDeclarations": streams,
            "destinations": {"logAnalytics": [{"workspaceResourceId": _WORKSPACE, "name": "sentinel"}]},
            "dataFlows": [
                {
                    "streams": [f"Custom-{table}"],
                    "destinations": ["sentinel"],
                    "transformKql": _transform(delivery, taken),
                    "outputStream": f"Custom-{table}",
                }
            ],
        },
    }
    at = f"the body of PUT {_API}"
    rules = "/subscriptions/<SUBSCRIPTION ID>/resourceGroups/<RESOURCE GROUP>/providers/Microsoft.Insights"
    return [
        of_json(
            "table.json",
            f"{at}{_WORKSPACE}/tables/{table}?api-version=2023-09-01",
            {"properties": {"schema": {"name": table, "columns": columns}}},
        ),
        of_json(
            "data-collection-rule.json",
            f"{at}{rules}/dataCollectionRules/{slug(delivery)}?api-version=2023-03-11; its answer has the"
            " immutableId for the connector",
            rule,
        ),
    ]


def _format(delivery: Delivery) -> list[Section]:
    """For whoever has the format `standard`: the same under names that a column can have."""
    if delivery.format != "standard":
        return []
    about = (
        "to put beside the configuration of audit-exporter, with `format: sentinel-format.yml` in the export;"
        " table and rule are for it"
    )
    content = {
        "about": "The fields of standard, under names that Azure Monitor has columns for.",
        "unfilled": "nothing",
        "fields": _PLAIN_STANDARD,
    }
    return [of_yaml("sentinel-format.yml", about, content)]


def _column(name: str) -> str:
    """A column of the table: some names are Azure Monitor's own."""
    return f"record_{name}" if name in _RESERVED else name


def _transform(delivery: Delivery, taken: dict[str, str]) -> str:
    """What becomes of a record on its way into the table: above all, its own time."""
    time = delivery.time
    moment = "now()"
    if time is not None and time.path[0] in taken:
        field = "".join(f"[{json.dumps(name)}]" for name in time.path)  # some names are words of the language
        moment = f"coalesce({_MOMENTS[time.notation].format(field)}, now())"
    steps = ["source", f"extend TimeGenerated = {moment}"]
    steps += [f"project-rename {_column(name)} = [{json.dumps(name)}]" for name in taken if name in _RESERVED]
    return " | ".join(steps)
