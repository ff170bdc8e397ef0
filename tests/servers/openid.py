"""A real OpenID provider on loopback, Django OAuth Toolkit as it comes: code flow with PKCE, device flow (RFC 8628), refresh, revocation.

    with openid() as provider:
        provider.url, provider.person("dana")          # the issuer; a person with a password and a browser

As a program, `python -m tests.servers.openid FOLDER PORT` migrates a SQLite file in the folder and serves until it is stopped;
`python -m tests.servers.openid visit NAME URL` is that person's browser.
Ours is only its configuration: some people, their groups as a claim, two public clients (an application there has one
grant type each). `Browser` is a person before it: cookies, forms, redirects, no script.
"""

import contextlib
import html.parser
import json
import os
import socketserver
import sys
import urllib.parse
import urllib.request
import wsgiref.simple_server
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from http.cookiejar import CookieJar
from pathlib import Path
from typing import Any

from tests.servers.process import Launch, free_port, started

ROOT = Path(__file__).parents[2]
CODE_CLIENT, DEVICE_CLIENT = "jobkey-code", "jobkey-device"
PASSWORD = "correct horse battery staple"
PEOPLE: dict[str, Sequence[str]] = {  # name -> groups; the address is NAME@acme.example
    "owen": ("team-payments",),
    "sam": ("team-storefront",),
    "ada": ("sec-audit",),
    "pat": ("platform",),
    "nina": (),
}
UNVERIFIED = "eve"  # typed pat's address into a profile, which nobody verified


@dataclass
class Form(html.parser.HTMLParser):
    """The page's first form: where it goes, and what it would send."""

    page: str
    action: str = ""
    fields: dict[str, str] = field(default_factory=dict)
    buttons: dict[str, str] = field(default_factory=dict)  # what is shown on it -> its name

    def __post_init__(self) -> None:
        super().__init__()
        self.feed(self.page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "form":
            self.action = given.get("action", "")
        elif tag in {"input", "button"} and "name" in given:
            if given.get("type") == "submit":
                self.buttons[given.get("value", "")] = given["name"]
            else:
                self.fields[given["name"]] = given.get("value", "")


class Browser:
    """A person with a browser."""

    def __init__(self, user: str, password: str = PASSWORD) -> None:
        self.user, self.password = user, password
        self._open = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPCookieProcessor(CookieJar())
        )

    def visit(self, url: str, *, press: str = "", most: int = 8) -> str:
        """Open a page, sign in where asked, and press the button of that value on each form; the last page."""
        page, here = self._get(url)
        for _ in range(most):
            form = Form(page)
            if not form.fields and not form.buttons:
                return page
            sent = dict(form.fields)
            if "password" in sent:
                sent |= {"username": self.user, "password": self.password}
            elif form.buttons:
                if press not in form.buttons:
                    return page
                sent[form.buttons[press]] = press
            elif "user_code" not in sent:
                return page
            page, here = self._get(urllib.parse.urljoin(here, form.action or here), sent)
        raise AssertionError(f"{here}: forms without end")

    def _get(self, url: str, sent: dict[str, str] | None = None) -> tuple[str, str]:
        body = None if sent is None else urllib.parse.urlencode(sent).encode()
        request = urllib.request.Request(url, data=body, headers={"Referer": url})
        try:
            with self._open.open(request, timeout=20) as answer:
                return answer.read().decode(), answer.url
        except urllib.error.HTTPError as error:
            with error:
                return error.read().decode(errors="replace"), error.url


@dataclass(frozen=True)
class Provider:
    url: str

    def person(self, name: str) -> Browser:
        return Browser(name)


@contextlib.contextmanager
def openid() -> Iterator[Provider]:
    """Start it, and stop it at the end."""

    def start(launch: Launch) -> Provider:
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-W", "ignore", "-m", "tests.servers.openid", launch.folder, port]
        running = launch.spawn(command, env={"PYTHONPATH": str(ROOT)})

        def answers() -> None:
            with urllib.request.urlopen(url + "/.well-known/openid-configuration", timeout=2) as answer:
                assert json.load(answer)["issuer"] == url

        launch.wait(running, answers)
        return Provider(url)

    with started(start) as provider:
        yield provider


# ---- the program


class _Server(socketserver.ThreadingMixIn, wsgiref.simple_server.WSGIServer):
    daemon_threads = True


def configure(folder: Path, url: str) -> None:
    """Django's settings; nothing of the toolkit is replaced, its own hook adds claims."""
    from cryptography.hazmat.primitives.asymmetric import rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
    from django.conf import settings

    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    templates = folder / "templates" / "registration"
    templates.mkdir(parents=True)
    (templates / "login.html").write_text(
        '<form method="post">{% csrf_token %}{{ form.as_p }}<input type="submit" value="Log in"></form>'
    )
    settings.configure(
        SECRET_KEY=os.urandom(32).hex(),
        ALLOWED_HOSTS=["127.0.0.1"],
        USE_TZ=True,
        PASSWORD_HASHERS=[
            "django.contrib.auth.hashers.MD5PasswordHasher"
        ],  # these passwords guard nothing, and come often
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(folder / "openid.sqlite3"),
                "OPTIONS": {"timeout": 20},
            }
        },
        INSTALLED_APPS=[
            "django.contrib.auth",
            "django.contrib.contenttypes",
            "django.contrib.sessions",
            "oauth2_provider",
        ],
        MIDDLEWARE=[
            "django.contrib.sessions.middleware.SessionMiddleware",
            "django.middleware.csrf.CsrfViewMiddleware",
            "django.contrib.auth.middleware.AuthenticationMiddleware",
        ],
        TEMPLATES=[
            {
                "BACKEND": "django.template.backends.django.DjangoTemplates",
                "DIRS": [str(templates.parent)],
                "APP_DIRS": True,
                "OPTIONS": {"context_processors": ["django.contrib.auth.context_processors.auth"]},
            }
        ],
        ROOT_URLCONF="tests.servers.openid_urls",
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            "handlers": {"log": {"class": "logging.StreamHandler"}},
            "loggers": {"django": {"handlers": ["log"], "level": "ERROR"}},
        },
        LOGIN_URL="/accounts/login/",
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
        OAUTH2_PROVIDER={
            "OIDC_ENABLED": True,
            "OIDC_ISS_ENDPOINT": url,
            "OIDC_RSA_PRIVATE_KEY": pem,
            "SCOPES": {"openid": "who you are", "email": "your address", "profile": "your groups"},
            "ACCESS_TOKEN_EXPIRE_SECONDS": 600,
            "ID_TOKEN_EXPIRE_SECONDS": 600,
            "ALLOWED_REDIRECT_URI_SCHEMES": ["http"],
            "OAUTH2_VALIDATOR_CLASS": "tests.servers.openid_urls.Claims",
            "OAUTH_DEVICE_VERIFICATION_URI": url + "/device/",
            "OAUTH_DEVICE_VERIFICATION_URI_COMPLETE": url + "/device/?user_code={user_code}",
            "DEVICE_FLOW_INTERVAL": 1,
            "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,  # RFC 9207
            "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
        },
    )


def populate() -> None:
    """The tables, the people, the clients."""
    from django.contrib.auth import get_user_model
    from django.contrib.auth.models import Group
    from django.core.management import call_command
    from oauth2_provider.models import get_application_model

    call_command("migrate", verbosity=0)
    users, clients = get_user_model().objects, get_application_model()
    for name, groups in PEOPLE.items():
        user = users.create_user(name, f"{name}@acme.example", PASSWORD)
        user.groups.set([Group.objects.get_or_create(name=group)[0] for group in groups])
    users.create_user(UNVERIFIED, "pat@acme.example", PASSWORD)
    for client, grant in ((CODE_CLIENT, clients.GRANT_AUTHORIZATION_CODE), (DEVICE_CLIENT, clients.GRANT_DEVICE_CODE)):
        clients.objects.create(
            name="Jobkey", client_id=client, client_type=clients.CLIENT_PUBLIC, authorization_grant_type=grant,
            redirect_uris="http://127.0.0.1/callback", algorithm=clients.RS256_ALGORITHM,
        )  # fmt: skip


def main() -> None:
    """Serve until stopped; or `visit NAME URL`, for a BROWSER that signs a person in."""
    if sys.argv[1] == "visit":
        Browser(sys.argv[2]).visit(sys.argv[3], press="Authorize")
        return
    folder, port = Path(sys.argv[1]), int(sys.argv[2])
    os.environ["OAUTHLIB_INSECURE_TRANSPORT"] = "1"  # loopback has no TLS
    configure(folder, f"http://127.0.0.1:{port}")
    import django
    from django.core.wsgi import get_wsgi_application

    django.setup()
    populate()
    application: Any = get_wsgi_application()
    with wsgiref.simple_server.make_server("127.0.0.1", port, application, server_class=_Server) as server:
        server.serve_forever()


if __name__ == "__main__":
    main()
