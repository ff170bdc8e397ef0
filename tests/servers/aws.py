"""boto3 clients for the servers of these tests: no retries, path addressing, nothing of the developer's own AWS."""

from typing import Any

import boto3
import botocore
from botocore.config import Config
from botocore.exceptions import ClientError

REGION = "us-east-1"


def client(
    service: str, endpoint: str, key: str | None = None, secret: str | None = None, session: str | None = None
) -> Any:
    config = Config(
        retries={"max_attempts": 0},
        s3={"addressing_style": "path"},
        signature_version=None if key else botocore.UNSIGNED,
        connect_timeout=5,
        read_timeout=20,
    )
    return boto3.session.Session().client(
        service, endpoint_url=endpoint, region_name=REGION, config=config,
        aws_access_key_id=key, aws_secret_access_key=secret, aws_session_token=session,
    )  # fmt: skip


def can(call: Any, **asked: Any) -> bool:
    """Whether AWS allowed it; any refusal is a no, and a failure that is no refusal is raised."""
    try:
        answer = call(**asked)
        if "Body" in answer:
            answer["Body"].read()
    except ClientError as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        if status not in {400, 401, 403}:
            raise
        return False
    return True
