"""A description as text, Markdown or a page of HTML: the same words in each, escaped as each needs it."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, Final

from jinja2 import Environment, StrictUndefined

from broker.authoring.describe.description import Description

HEADINGS: Final = ("Who", "What", "When", "How long", "Grant")
GRANT_HEADINGS: Final = ("Grant", "Backend", "What the job sends", "Options as written")
ALWAYS: Final = "anything the backend takes"
_STARTS: Final = re.compile(r"^([0-9]*)([-+=.)])")  # what would begin a list or underline a heading
_SPECIAL: Final = re.compile(r"([\\`*_\[\]<>|#&~@!$(){}])")


def clean(text: str) -> str:
    """Without control, format or separator characters: nothing in a policy moves a cursor or hides text."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)


def rows_of(description: Description) -> list[tuple[str, ...]]:
    """The matrix, cell by cell."""
    return [
        tuple(clean(cell) for cell in (row.who, row.what, row.when, row.how_long, row.grant))
        for row in description.rows
    ]


def grants_of(description: Description) -> list[tuple[str, ...]]:
    """The grants with their options, cell by cell."""
    return [
        (
            clean(grant.name),
            clean(grant.backend),
            clean("; ".join(grant.params) or ALWAYS),
            clean("; ".join(f"{path} = {value}" for path, value in grant.options) or "none"),
        )
        for grant in description.grants
    ]


def facts_of(description: Description) -> list[tuple[str, str]]:
    """Label and text of what stands above the sentences."""
    facts = [("Owners", ", ".join(description.owners)), ("File", description.file)]
    return [(label, clean(text)) for label, text in facts]


def whole(description: Description) -> Iterator[tuple[str, Description]]:
    """The policy and the version on trial beside it, each with its heading."""
    yield clean(description.name), description
    if description.following is not None:
        yield f"{clean(description.name)}: the next version, on trial beside it", description.following


def markdown(descriptions: Sequence[Description]) -> str:
    """GitHub's and GitLab's dialect."""
    return "\n\n".join(part for one in descriptions for part in _markdown(one)) + "\n"


def _markdown(description: Description) -> Iterator[str]:
    for depth, (heading, one) in enumerate(whole(description)):
        mark = "#" * (2 + depth)
        yield f"{mark} {escaped(heading)}"
        if one.title:
            yield escaped(clean(one.title))
        yield "\n".join(f"* {label}: {escaped(text)}" for label, text in facts_of(one))
        yield from (escaped(clean(sentence)) for sentence in one.sentences)
        yield from (escaped(note) for note in one.notes)
        yield markdown_table(HEADINGS, rows_of(one))
        yield markdown_table(GRANT_HEADINGS, grants_of(one))


def markdown_table(headings: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A pipe table; every cell escaped."""
    lines = [_line(headings), _line(["---"] * len(headings))]
    return "\n".join([*lines, *(_line([escaped(cell) for cell in row]) for row in rows)])


def escaped(text: str) -> str:
    """Text that Markdown shows as it is: no markup, no HTML, no list or cell of its own."""
    return _STARTS.sub(r"\1\\\2", _SPECIAL.sub(r"\\\1", text.strip()))


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def html(descriptions: Sequence[Description]) -> str:
    """One page that needs nothing else: no script, no address outside, printable."""
    policies = [
        {
            "heading": heading, "title": clean(one.title), "facts": facts_of(one),
            "sentences": [clean(sentence) for sentence in one.sentences], "notes": one.notes,
            "rows": rows_of(one), "grants": grants_of(one),
        }
        for description in descriptions
        for heading, one in whole(description)
    ]  # fmt: skip
    return str(
        _template().render(
            title="Who may have what",
            policies=policies,
            headings=HEADINGS,
            grant_headings=GRANT_HEADINGS,
            caption="no policy",
            rows=(),  # what an empty folder is shown as
        )
    )


def html_table(title: str, caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A page with one table."""
    return str(_template().render(title=title, policies=[], caption=caption, headings=headings, rows=rows))


@cache
def _template() -> Any:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(PAGE)


PAGE: Final = """\
{% macro table(caption, headings, rows) %}
<table>
<caption>{{ caption }}</caption>
<thead><tr>{% for heading in headings %}<th scope="col">{{ heading }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in rows %}
<tr>{% for cell in row %}{% if loop.first %}<th scope="row">{{ cell }}</th>{% else %}<td>{{ cell }}</td>{% endif %}{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
{% endmacro %}
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
<title>{{ title }}</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; max-width: 80rem; margin: 2rem auto; padding: 0 1rem; color: #111; background: #fff; }
table { border-collapse: collapse; width: 100%; margin: 1rem 0; }
caption { text-align: left; font-weight: 600; padding: .25rem 0; }
th, td { border: 1px solid #767676; padding: .35rem .5rem; text-align: left; vertical-align: top; overflow-wrap: anywhere; }
thead th { background: #eee; }
tbody th { font-weight: 400; }
dt { font-weight: 600; float: left; clear: left; width: 6rem; }
dd { margin-left: 7rem; }
section { break-inside: avoid-page; }
@media print { body { margin: 0; max-width: none; } thead { display: table-header-group; } tr { break-inside: avoid; } }
</style>
</head>
<body>
<main>
<h1>{{ title }}</h1>
{% for policy in policies %}
<section aria-labelledby="policy-{{ loop.index }}">
<h2 id="policy-{{ loop.index }}">{{ policy.heading }}</h2>
{% if policy.title %}
<p>{{ policy.title }}</p>
{% endif %}
<dl>
{% for label, text in policy.facts %}
<dt>{{ label }}</dt><dd>{{ text }}</dd>
{% endfor %}
</dl>
{% for sentence in policy.sentences %}
<p>{{ sentence }}</p>
{% endfor %}
{% for note in policy.notes %}
<p>{{ note }}</p>
{% endfor %}
{{ table("Who may have what", headings, policy.rows) }}
{{ table("What each grant is", grant_headings, policy.grants) }}
</section>
{% else %}
{{ table(caption, headings, rows) }}
{% endfor %}
</main>
</body>
</html>
"""
