"""What the owner of a container types into `az`, to be copied as it is: one statement for each remedy.

Text alone: it must not know when which is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from shlex import quote

ROLE = "Audit log writer"
CREATE = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/add/action"


@dataclass(frozen=True, slots=True)
class Fixes:
    """The statements for one container; ``identity`` is the application or identity that writes."""

    account: str
    container: str
    identity: str = ""
    encryption_scope: str = ""

    @property
    def role(self) -> str:
        """A role that creates blobs and does nothing else, for the identity that writes."""
        subscription = "$(az account show --query id --output tsv | sed s,^,/subscriptions/,)"
        who = quote(self.identity or "OBJECT_ID_OF_THE_IDENTITY")
        definition = (
            f'{{"Name": "{ROLE}", "Description": "Creates blobs, and does nothing else", "Actions": [],'
            f' "DataActions": ["{CREATE}"],'
            f' "AssignableScopes": ["\'"{subscription}"\'"]}}'
        )
        return (
            f"az role definition create --role-definition '{definition}'\n"
            f'az role assignment create --role "{ROLE}" --assignee {who}'
            f' --scope "{self._id}/blobServices/default/containers/{self.container}"'
        )

    @property
    def sas(self) -> str:
        """A SAS that creates blobs and does nothing else, for a year."""
        return (
            f"az storage container generate-sas --account-name {self.account} --name {self.container}"
            " --permissions c --https-only --expiry $(date -u -d '1 year' +%Y-%m-%dT%H:%MZ)"
            " --auth-mode key --output tsv"
        )

    @property
    def key(self) -> str:
        """The account's keys as they are now."""
        return f"az storage account keys list --account-name {self.account} --output table"

    @property
    def container_create(self) -> str:
        """The container itself."""
        return (
            f"az storage container create --account-name {self.account} --name {self.container}"
            " --auth-mode login"
        )

    @property
    def network(self) -> str:
        """A hole in the account's firewall."""
        return (
            f"az storage account network-rule add --account-name {self.account}"
            " --ip-address ADDRESS_OF_THIS_PROGRAM"
        )

    @property
    def shared_keys(self) -> str:
        """Keys, and SAS signed with one, switched on."""
        return f"az storage account update --name {self.account} --allow-shared-key-access true"

    @property
    def scope(self) -> str:
        """The encryption scope, made or enabled."""
        scope = quote(self.encryption_scope or "NAME")
        return (
            f"az storage account encryption-scope update --account-name {self.account} --name {scope}"
            " --state Enabled"
        )

    @property
    def vault(self) -> str:
        """The right of the account's identity to use its key."""
        return (
            'az role assignment create --role "Key Vault Crypto Service Encryption User"'
            f' --assignee "$(az storage account show --name {self.account} --query identity.principalId'
            ' --output tsv)" --scope ID_OF_THE_KEY_VAULT'
        )

    @property
    def _id(self) -> str:
        return f"$(az storage account show --name {self.account} --query id --output tsv)"
