"""The thin client of the Jobkey broker: a CI job shows its identity token and gets credentials that live as long as it.

* Standard library only, Python 3.9 and newer, POSIX. Importing this package imports nothing else.
* Nothing secret is put on a command line, in an error, in a repr or in verbose output.
* Modules are imported when they are needed: a job pays for what it uses (see docs of `jobkey.cli`).

Way of one command: `cli -> commands -> acquire -> exchange -> wire`, with `ambient` for the CI's own identity token,
`emit` for what leaves us (masks, formats), `session` for what later steps of the job need, `run` for the child.
"""

__version__ = "0.1.0"
