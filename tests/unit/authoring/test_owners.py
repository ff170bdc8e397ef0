"""Lists of owners: one name a line, and CODEOWNERS as the hosts write it."""

import pytest

from broker.authoring.owners import read_owners

GITHUB = """\
# everything else
*       @acme/platform @dana   # by name @nobody
/docs/  docs@acme.example
apps/my\\ app/ @acme/apps
/@types/ @acme/web
/build/
"""
GITLAB = """\
* @acme/platform
^[Docs]
*.md @acme/docs
[Database][2] @acme/dba
db/
[Two words] @acme/both dana@acme.example
"""
PLAIN = "\ufeff# who there is\r\nteam-payments@acme.example\r\n\n  @acme/web   # the storefront\nTeam Seven\n"


@pytest.mark.parametrize(
    ("text", "codeowners", "names"),
    [
        pytest.param(GITHUB, True, {"@acme/platform", "@dana", "docs@acme.example", "@acme/apps", "@acme/web"}, id="GitHub"),
        pytest.param(GITLAB, True, {"@acme/platform", "@acme/docs", "@acme/dba", "@acme/both", "dana@acme.example"}, id="GitLab"),
        pytest.param(PLAIN, False, {"team-payments@acme.example", "@acme/web", "Team Seven"}, id="a name a line"),
        pytest.param("# nobody\n\n", False, set(), id="nobody"),
        pytest.param("*\n/docs/ nobody\n", True, set(), id="patterns and no owner"),
    ],
)  # fmt: skip
def test_everybody_whom_a_list_names(text: str, codeowners: bool, names: set[str]) -> None:
    assert read_owners(text, codeowners=codeowners) == names
