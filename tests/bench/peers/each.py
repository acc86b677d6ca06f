"""The script in a loop: a connection, a zip and an object for each account.

`each URL OUT SELECT ACCOUNTS [S3]`; ``ACCOUNTS`` is a file with a name on each line. With an address of S3,
objects go there.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import psycopg

if TYPE_CHECKING:
    from collections.abc import Callable


def zipped(url: str, select: str, account: str) -> bytes:
    """One account's records, read over a connection of their own."""
    with psycopg.connect(url) as connection:
        cursor = connection.execute(select, [account])
        names = [column.name for column in cursor.description or ()]
        lines = [orjson.dumps(dict(zip(names, row, strict=True)), default=str) for row in cursor]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("audit.json", b"".join(line + b"\n" for line in lines))
    return content.getvalue()


def to_folder(out: Path) -> Callable[[str, bytes], object]:
    """Files in a folder."""
    return lambda account, body: (out / f"{account}.zip").write_bytes(body)


def to_s3(address: str) -> Callable[[str, bytes], object]:
    """Objects in a bucket."""
    import boto3

    client = boto3.client(
        "s3",
        endpoint_url=address,
        region_name="us-east-1",
        aws_access_key_id="bench",
        aws_secret_access_key="bench",
    )
    return lambda account, body: client.put_object(Bucket="bench", Key=f"{account}.zip", Body=body)


if __name__ == "__main__":
    url, folder, select, accounts, *s3 = sys.argv[1:]
    put = to_s3(s3[0]) if s3 else to_folder(Path(folder))
    for name in Path(accounts).read_text(encoding="utf-8").split():
        put(name, zipped(url, select, name))
