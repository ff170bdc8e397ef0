"""Role sessions at an STS that verifies (SeaweedFS) and at an IAM that is evaluated (MiniStack)."""

import json
from collections.abc import AsyncIterator, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from broker.backends.aws_options import AwsOptions, session_policy_text
from broker.backends.aws_sts import AwsSts
from broker.backends.seam import BackendError, StillWorks, Surroundings
from broker.keys.files import FileKeyStore
from broker.model import JobIdentity
from tests.contract.rigs.aws_sts import AwsStsRig, session_policy
from tests.contract.rigs.base import JOB, remember, surroundings
from tests.servers import ministack, seaweedfs
from tests.servers.aws import can
from tests.servers.faults import Answer, hop
from tests.servers.issuer import Issuer
from tests.servers.ministack import MiniStack
from tests.servers.seaweedfs import SeaweedFS

pytestmark = pytest.mark.server
TABLE = {"aws-sts": AwsSts}
ROLE = f"arn:aws:iam::{ministack.ACCOUNT}:role/"


@pytest.fixture
def around(broker_keys: FileKeyStore, broker_issuer: Issuer) -> Surroundings:
    return surroundings(broker_keys, broker_issuer.url)


@pytest.fixture
async def rig(around: Surroundings, seaweedfs_server: SeaweedFS, tmp_path: Path) -> AsyncIterator[AwsStsRig]:
    found = AwsStsRig(TABLE, around, seaweedfs_server, tmp_path)
    yield found
    await found.close()


# --- Web identity, verified by SeaweedFS ---------------------------------------------------------------------------

WEB = {"via": "web-identity"}


async def test_web_identity_needs_no_secret_of_the_brokers(rig: AwsStsRig, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    backend = rig.build(auth="none")
    await backend.ping()
    with pytest.raises(BackendError, match="via: web-identity"):
        backend.plan(rig.order())
    minted = await backend.mint(rig.order(options=WEB), remember)
    assert rig.works(minted)
    assert not rig.works_outside(minted)


async def test_ping_without_a_way_in_still_notices_an_outage(rig: AwsStsRig) -> None:
    with hop(None) as broken:  # nothing but 500s
        with pytest.raises(BackendError) as failed:
            await rig.build(auth="none", endpoint_url=broken.url).ping()
        assert failed.value.retry


async def test_another_audience_is_refused(rig: AwsStsRig) -> None:
    with pytest.raises(BackendError, match="AWS answered") as refused:
        await rig.mint(rig.order(options={**WEB, "audience": "somebody-else"}))
    assert not refused.value.retry


async def test_another_brokers_keys_are_refused(rig: AwsStsRig, tmp_path: Path, broker_issuer: Issuer) -> None:
    liar = surroundings(FileKeyStore(tmp_path / "other"), broker_issuer.url)
    backend = AwsSts("liar", AwsSts.Settings.model_validate(rig.settings), liar)
    with pytest.raises(BackendError, match="AWS answered"):
        await backend.mint(rig.order(options=WEB), remember)
    await backend.close()


async def test_another_brokers_url_is_refused(rig: AwsStsRig, broker_keys: FileKeyStore) -> None:
    liar = surroundings(broker_keys, "https://other.acme.example")
    backend = AwsSts("liar", AwsSts.Settings.model_validate(rig.settings), liar)
    with pytest.raises(BackendError, match="AWS answered"):
        await backend.mint(rig.order(options=WEB), remember)
    await backend.close()


async def test_a_role_of_the_brokers_own_by_web_identity(
    around: Surroundings, broker_issuer: Issuer, tmp_path: Path
) -> None:
    """First the broker's role with the broker's token, then, with that session, GetCallerIdentity."""
    with seaweedfs.seaweedfs(broker_issuer.url, subjects="broker:backend:*") as server:
        rig = AwsStsRig(TABLE, around, server, tmp_path)
        backend = rig.build(auth={"web_identity": seaweedfs.ROLE})
        await backend.ping()
        with pytest.raises(
            BackendError, match="AWS answered"
        ) as refused:  # a session that assumes a role needs its trust
            await backend.mint(rig.order(ttl=timedelta(hours=1)), remember)
        assert not refused.value.retry
        with pytest.raises(BackendError, match="1:00:00"):
            backend.plan(rig.order(ttl=timedelta(hours=1, seconds=1)))
        with pytest.raises(BackendError):
            await backend.mint(rig.order(options=WEB), remember)  # a job's token does not pass for the broker's own
        await rig.close()


async def test_objects_named_by_the_job(rig: AwsStsRig) -> None:
    """What a template puts into the session policy decides what can be read."""
    reads = session_policy("arn:aws:s3:::art/app/x")
    minted = await rig.mint(rig.order(options={"session_policy": json.dumps(reads)}))
    assert rig.works(minted)
    other = await rig.mint(rig.order(options={"session_policy": session_policy("arn:aws:s3:::art/other/*")}))
    assert not rig.works(other)


# --- IAM, evaluated by MiniStack ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def account(ministack_server: MiniStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A broker user, and roles whose trust policies look at tags and the external id."""
    iam, s3 = ministack_server.client("iam"), ministack_server.client("s3")
    s3.create_bucket(Bucket="art")
    s3.put_object(Bucket="art", Key="app/x", Body=b"hi")
    s3.put_object(Bucket="art", Key="zzz", Body=b"no")
    iam.create_user(UserName="broker")
    key = iam.create_access_key(UserName="broker")["AccessKey"]
    may = ["sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"]
    _allow(iam.put_user_policy, UserName="broker", action=may)

    def role(name: str, action: list[str], condition: dict[str, Any] | None = None) -> None:
        statement: dict[str, Any] = {
            "Effect": "Allow",
            "Principal": {"AWS": f"arn:aws:iam::{ministack.ACCOUNT}:user/broker"},
            "Action": action,
        }
        if condition:
            statement["Condition"] = condition
        trust = {"Version": "2012-10-17", "Statement": [statement]}
        iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), MaxSessionDuration=43200)
        _allow(iam.put_role_policy, RoleName=name, action=["s3:*"])

    role("Plain", ["sts:AssumeRole"])
    role("Tagged", ["sts:AssumeRole", "sts:TagSession"], {"StringEquals": {"aws:RequestTag/project": "acme/payments"}})
    role("Partner", ["sts:AssumeRole"], {"StringEquals": {"sts:ExternalId": "jobkey-1"}})
    folder = tmp_path_factory.mktemp("aws")
    (folder / "id").write_text(key["AccessKeyId"])
    (folder / "secret").write_text(key["SecretAccessKey"] + "\n")
    yield {
        "region": "us-east-1",
        "endpoint_url": ministack_server.url,
        "auth": {"access_key_id": f"file:{folder}/id", "secret_access_key": f"file:{folder}/secret"},
    }
    iam.close()
    s3.close()


def _allow(put: Any, *, action: list[str], **whose: str) -> None:
    document = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}
    put(**whose, PolicyName="p", PolicyDocument=json.dumps(document))


@pytest.fixture
async def iam_backend(account: dict[str, Any], around: Surroundings) -> AsyncIterator[AwsSts]:
    backend = AwsSts("aws-prod", AwsSts.Settings.model_validate(account), around)
    yield backend
    await backend.close()


def order(rig: AwsStsRig, role: str, **options: Any) -> Any:
    return rig.order(options={"role_arn": ROLE + role, "session_policy": None, **options})


@pytest.mark.parametrize(
    ("role", "options", "allowed"),
    [
        pytest.param("Plain", {}, True, id="plain"),
        pytest.param("Plain", {"tags": {"project": "acme/payments"}}, False, id="a tag where tagging is not trusted"),
        pytest.param("Tagged", {"tags": {"project": "acme/payments"}}, True, id="the right tag"),
        pytest.param("Tagged", {"tags": {"project": "acme/other"}}, False, id="another project's tag"),
        pytest.param("Tagged", {}, False, id="no tag"),
        pytest.param("Partner", {"external_id": "jobkey-1"}, True, id="the right external id"),
        pytest.param("Partner", {"external_id": "jobkey-2"}, False, id="another external id"),
        pytest.param("Nobody", {}, False, id="no such role"),
    ],
)
async def test_trust_policies_decide(
    rig: AwsStsRig, iam_backend: AwsSts, role: str, options: dict[str, Any], *, allowed: bool
) -> None:
    asked = order(rig, role, **options)
    if allowed:
        minted = await iam_backend.mint(asked, remember)
        assert minted.facts["session_name"] == asked.lease
        assert minted.facts["role_arn"] == ROLE + role
        assert minted.env["AWS_REGION"] == "us-east-1"
    else:
        with pytest.raises(BackendError) as refused:
            await iam_backend.mint(asked, remember)
        assert not refused.value.retry


async def test_cloudtrails_name_is_the_lease(rig: AwsStsRig, iam_backend: AwsSts, ministack_server: MiniStack) -> None:
    asked = order(rig, "Plain")
    values = (await iam_backend.mint(asked, remember)).values
    sts = ministack_server.client("sts", values["access_key_id"], values["secret_access_key"], values["session_token"])
    assert sts.get_caller_identity()["Arn"].endswith(f"assumed-role/Plain/{asked.lease}")
    sts.close()


async def test_the_session_policy_cuts_the_role(
    rig: AwsStsRig, iam_backend: AwsSts, ministack_server: MiniStack
) -> None:
    for policy, both in ((None, True), (session_policy(), False)):
        values = (await iam_backend.mint(order(rig, "Plain", session_policy=policy), remember)).values
        s3 = ministack_server.client(
            "s3", values["access_key_id"], values["secret_access_key"], values["session_token"]
        )
        assert can(s3.get_object, Bucket="art", Key="app/x")
        assert can(s3.get_object, Bucket="art", Key="zzz") is both
        s3.close()


async def test_revoking_is_honest_before_and_after(rig: AwsStsRig, iam_backend: AwsSts) -> None:
    asked = order(rig, "Plain")
    planned = iam_backend.plan(asked)
    assert planned == {"role_arn": ROLE + "Plain", "session_name": asked.lease}
    before = await iam_backend.revoke(planned)
    minted = await iam_backend.mint(asked, remember)
    after = await iam_backend.revoke(minted.handle)
    assert isinstance(before, StillWorks)
    assert isinstance(after, StillWorks)
    assert "given to nobody" in before.why
    assert minted.expires_at.isoformat() in after.why


@pytest.mark.parametrize("ttl", [timedelta(minutes=14, seconds=59), timedelta(hours=12, seconds=1)])
async def test_durations_that_aws_does_not_take_are_refused_before_anything_is_planned(
    rig: AwsStsRig, ttl: timedelta
) -> None:
    with pytest.raises(BackendError, match="change the grant's ttl"):
        rig.backend.plan(rig.order(ttl=ttl))


# --- Faults and secrets ----------------------------------------------------------------------------------------------

XML = "<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>hunter2 {code}</Message></Error></ErrorResponse>"


def refusal(status: int, code: str) -> Answer:
    return Answer(status, XML.format(code=code).encode(), {"Content-Type": "text/xml"})


async def test_throttling_is_waited_out(rig: AwsStsRig) -> None:
    faults = (("", refusal(400, "Throttling")), ("", refusal(503, "ServiceUnavailable")))
    with hop(rig.server.url, *faults) as throttled:
        backend = rig.build(endpoint_url=throttled.url)
        assert rig.works(await backend.mint(rig.order(), remember))
        assert len(throttled.asked) == 3


@pytest.mark.parametrize(
    ("status", "code", "retry"),
    [
        (403, "AccessDenied", False),
        (403, "SignatureDoesNotMatch", False),
        (400, "PackedPolicyTooLarge", False),
        (400, "odd &lt;b&gt;", False),
        (400, "Throttling", True),
        (500, "InternalFailure", True),
    ],
)
async def test_codes_are_told_and_messages_are_not(rig: AwsStsRig, status: int, code: str, *, retry: bool) -> None:
    with hop(None, *[("", refusal(status, code))] * 4) as refusing:
        backend = rig.build(endpoint_url=refusing.url)
        with pytest.raises(BackendError) as refused:
            await backend.mint(rig.order(options=WEB), remember)
    assert refused.value.retry is retry
    assert "hunter2" not in str(refused.value)
    assert "<" not in str(refused.value)
    assert seaweedfs.BROKER[1] not in str(refused.value)


@pytest.mark.parametrize(
    "body", [b"", b"not xml", b"<a/>", b"<AssumeRoleResponse><AssumeRoleResult/></AssumeRoleResponse>"]
)
async def test_answers_that_are_no_session(rig: AwsStsRig, body: bytes) -> None:
    lies = [("", Answer(200, body, {"Content-Type": "text/xml"}))] * 4
    with hop(None, *lies) as lying, pytest.raises(BackendError) as failed:
        await rig.build(endpoint_url=lying.url).mint(rig.order(), remember)
    assert "AssumeRoleResult" not in str(failed.value)


async def test_a_rotated_key_needs_no_restart(rig: AwsStsRig) -> None:
    await rig.mint()
    (rig.folder / "secret").write_text("wrong")
    with pytest.raises(BackendError):
        await rig.mint()
    (rig.folder / "secret").write_text(seaweedfs.BROKER[1])
    assert rig.works(await rig.mint())


# --- Session policies ------------------------------------------------------------------------------------------------


def test_a_policy_is_sent_without_what_nobody_wrote() -> None:
    options = AwsOptions.model_validate({"role_arn": ROLE + "Plain", "session_policy": session_policy()})
    assert options.session_policy is not None
    assert json.loads(session_policy_text(options.session_policy)) == session_policy()


@pytest.mark.parametrize(
    "statement",
    [
        pytest.param({"Effect": "allow", "Action": "s3:*", "Resource": "*"}, id="effect in small letters"),
        pytest.param({"Effect": "Allow", "Actions": "s3:*", "Resource": "*"}, id="a misspelt key"),
        pytest.param({"Effect": "Allow", "Action": "s3:*"}, id="no resource"),
        pytest.param({"Effect": "Allow", "Action": "s3:*", "NotAction": "s3:*", "Resource": "*"}, id="both of a pair"),
        pytest.param({"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}, id="a principal"),
    ],
)
def test_a_policy_that_aws_would_not_take_does_not_load(statement: dict[str, str]) -> None:
    for policy in ({"Statement": [statement]}, json.dumps({"Statement": [statement]})):
        with pytest.raises(ValueError):
            AwsOptions.model_validate({"role_arn": ROLE + "Plain", "session_policy": policy})


async def test_all_that_narrows_a_session_is_on_the_wire(rig: AwsStsRig) -> None:
    """No server to be had evaluates a source identity, so the request itself is looked at (STS API, AssumeRole)."""
    options = {
        "tags": {"project": "acme/payments", "run": "7"}, "transitive_tags": ["project"], "source_identity": "ada@acme",
        "external_id": "jobkey-1", "session_name": "deploy-7", "policy_arns": ["arn:aws:iam::aws:policy/ReadOnlyAccess"],
    }  # fmt: skip
    with hop(None, ("", refusal(403, "AccessDenied"))) as refusing, pytest.raises(BackendError):
        await rig.build(endpoint_url=refusing.url).mint(rig.order(options=options, ttl=timedelta(hours=1)), remember)
    (body,) = refusing.bodies
    asked = {name: value for name, (value,) in parse_qs(body.decode(), strict_parsing=True).items()}
    assert json.loads(asked.pop("Policy")) == session_policy()
    assert asked == {
        "Action": "AssumeRole", "Version": "2011-06-15", "RoleArn": seaweedfs.ROLE, "RoleSessionName": "deploy-7",
        "DurationSeconds": "3600", "SourceIdentity": "ada@acme", "ExternalId": "jobkey-1",
        "PolicyArns.member.1.arn": "arn:aws:iam::aws:policy/ReadOnlyAccess",
        "Tags.member.1.Key": "project", "Tags.member.1.Value": "acme/payments",
        "Tags.member.2.Key": "run", "Tags.member.2.Value": "7", "TransitiveTagKeys.member.1": "project",
    }  # fmt: skip


async def test_web_identity_carries_tags_and_source_as_aws_reads_them(
    broker_keys: FileKeyStore, rig: AwsStsRig
) -> None:
    seen: list[tuple[str, str, Any]] = []

    def sign(subject: str, audience: str, ttl: timedelta, claims: Any) -> str:
        seen.append((subject, audience, claims))
        return "a.b.c"

    around = Surroundings(url="https://broker.acme.example", keys=broker_keys, web_identity=sign)
    with hop(None, *[("", refusal(400, "InvalidIdentityToken"))] * 4) as refusing:
        backend = AwsSts(
            "aws", AwsSts.Settings.model_validate({"region": "eu-west-1", "endpoint_url": refusing.url}), around
        )
        options = {**WEB, "tags": {"project": "p"}, "transitive_tags": ["project"], "source_identity": "ada"}
        with pytest.raises(BackendError, match="identity provider"):
            await backend.mint(rig.order(options=options, job=JobIdentity(project=JOB.project)), remember)
        await backend.close()
    ((subject, audience, claims),) = seen
    assert (subject, audience) == ("grant:payments/deploy:project:acme/payments", "sts.amazonaws.com")
    assert claims["https://aws.amazon.com/tags"] == {
        "principal_tags": {"project": ["p"]},
        "transitive_tag_keys": ["project"],
    }
    assert claims["https://aws.amazon.com/source_identity"] == "ada"
