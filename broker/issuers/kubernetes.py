"""Kubernetes projected service-account tokens: self-hosted runners, Tekton, Argo, Jenkins agents. One issuer per cluster.

The identity is the service account: whoever may create pods with it is it. An account deleted and made again has the same
`sub` and another `uid`, so `project_id` is the uid. A token bound to no pod was asked for by a person or a controller
(`kubectl create token`) and is an unsafe trigger. Legacy secret tokens have no expiry and are rejected for that.
Source: Kubernetes KEP-1205 and "Managing Service Accounts".
"""

from datetime import timedelta
from types import MappingProxyType
from typing import Final

from broker.issuers.seam import STANDARD, Claims, IssuerKind, Trust
from broker.issuers.words import inner, text
from broker.model import JobIdentity

NO_POD: Final = "no-pod"
TRIGGERS: Final = MappingProxyType({
    NO_POD: "bound to no pod: anybody who may create token requests made it, on any machine",
})  # fmt: skip


def identity(claims: Claims) -> JobIdentity:
    """The service account in the broker's words: `project` is `<namespace>/<account>`, the run is the pod."""
    cluster = inner(claims, "kubernetes.io")
    namespace, account, pod = text(cluster, "namespace"), inner(cluster, "serviceaccount"), inner(cluster, "pod")
    name = text(account, "name")
    return JobIdentity(
        project=f"{namespace}/{name}" if namespace and name else None,
        project_id=text(account, "uid"),
        owner=namespace,
        run_id=text(pod, "uid"),
        job_id=text(pod, "name"),
        runner=text(inner(cluster, "node"), "name"),
    )


def unsafe_triggers(claims: Claims) -> tuple[str, ...]:
    """A token that no kubelet asked for."""
    return () if text(inner(claims, "kubernetes.io", "pod"), "uid") else (NO_POD,)


_ACCOUNT = {
    "namespace": "release",
    "serviceaccount": {"name": "runner", "uid": "aa11bb22-3333-4333-8333-000000000001"},
}
_POD = {
    **_ACCOUNT,
    "node": {"name": "ip-10-0-1-5.internal", "uid": "aa11bb22-1111-4111-8111-000000000001"},
    "pod": {"name": "runner-abc12", "uid": "aa11bb22-2222-4222-8222-000000000001"},
}
_SUB = {"sub": "system:serviceaccount:release:runner", "jti": "aa11bb22-0000-4000-8000-0000000000c1"}

KUBERNETES: Final = IssuerKind(
    name="kubernetes",
    title="Kubernetes service accounts",
    url=None,
    accepts=r"https://[^/?#]+(/[^?#]*)?",
    required=frozenset({"sub", "kubernetes.io"}),
    claims=MappingProxyType({
        **STANDARD,
        "aud": Trust.USER,
        "sub": Trust.NAME,
        "jti": Trust.ID,
        "kubernetes.io": Trust.FACT,  # its uids are ids, its names are names
    }),
    identity=identity,
    unsafe_triggers=unsafe_triggers,
    trigger_names=TRIGGERS,
    immutable=("project_id",),
    max_age=timedelta(hours=1),  # the kubelet replaces the file at 80 % of its life, which is an hour unless the pod says so
    max_lifetime=timedelta(hours=24),
    fresh_tokens=False,
    chooses_audience=False,  # the pod's spec says it
    docs="https://kubernetes.io/docs/tasks/configure-pod-container/configure-service-account/",
    examples=MappingProxyType({
        "kubernetes-pod": {**_SUB, "kubernetes.io": _POD},
        "kubernetes-other-account": {
            "sub": "system:serviceaccount:release:default",
            "jti": "aa11bb22-0000-4000-8000-0000000000c2",
            "kubernetes.io": {**_POD, "serviceaccount": {"name": "default", "uid": "aa11bb22-3333-4333-8333-000000000002"}},
        },
        "kubernetes-token-request": {**_SUB, "kubernetes.io": _ACCOUNT},
    }),
)  # fmt: skip
