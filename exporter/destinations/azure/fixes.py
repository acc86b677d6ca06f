"""What the owner of a container types into `az`, to be copied as it is: one statement for each remedy.

Text alone: it must not know when which is needed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from shlex import quote

ROLE = "Audit log writer"
YEAR = timedelta(days=365)
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
        definition = (
            f'{{"Name": "{ROLE}", "Description": "Creates blobs, and does nothing else", "Actions": [],'
            f' "DataActions": ["{CREATE}"],'
            f' "AssignableScopes": ["\'"{subscription}"\'"]}}'
        )
        return (
            f"az role definition create --role-definition '{definition}'\n"
            f'az role assignment create --role "{ROLE}" --assignee {self._who} --scope {self._scope}'
        )

    @property
    def narrower_role(self) -> str:
        """The same, and the end of the roles that give more."""
        return (
            f"{self.role}\n"
            f"az role assignment list --assignee {self._who} --scope {self._scope} --include-inherited"
            " --include-groups --output table\n"
            f'az role assignment delete --assignee {self._who} --role "ROLE_THAT_GIVES_MORE"'
            " --scope SCOPE_OF_THAT_ASSIGNMENT"
        )

    @property
    def sas(self) -> str:
        """A SAS that creates blobs and does nothing else, for a year."""
        return (
            f"az storage container generate-sas --account-name {self.account} --name {self.container}"
            f" --permissions c --https-only --expiry {datetime.now(UTC) + YEAR:%Y-%m-%dT%H:%MZ}"
            " --auth-mode key --output tsv"
        )

    def policy(self, name: str) -> str:
        """What a stored access policy says."""
        return (
            f"az storage container policy show --account-name {self.account}"
            f" --container-name {self.container} --name {quote(name)} --auth-mode key"
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
        """The encryption scope, enabled."""
        return (
            f"az storage account encryption-scope update --account-name {self.account}"
            f" --name {self._encryption_scope} --state Enabled"
        )

    @property
    def scope_create(self) -> str:
        """The encryption scope itself, with a key of Microsoft's."""
        return (
            f"az storage account encryption-scope create --account-name {self.account}"
            f" --name {self._encryption_scope} --key-source Microsoft.Storage"
        )

    @property
    def scopes(self) -> str:
        """The encryption scopes that there are."""
        return f"az storage account encryption-scope list --account-name {self.account} --output table"

    @property
    def vault(self) -> str:
        """The right of the account's identity to use its key."""
        return (
            'az role assignment create --role "Key Vault Crypto Service Encryption User"'
            f' --assignee "$(az storage account show --name {self.account} --query identity.principalId'
            ' --output tsv)" --scope ID_OF_THE_KEY_VAULT'
        )

    @property
    def _who(self) -> str:
        """`az` takes the id of an application, and of whatever else has one in the directory."""
        return quote(self.identity or "ID_OF_THE_IDENTITY")

    @property
    def _scope(self) -> str:
        return f'"{self._id}/blobServices/default/containers/{self.container}"'

    @property
    def _encryption_scope(self) -> str:
        return quote(self.encryption_scope or "NAME")

    @property
    def _id(self) -> str:
        return f"$(az storage account show --name {self.account} --query id --output tsv)"
