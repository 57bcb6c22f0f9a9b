"""The command line: one module a command.

In: arguments. Out: words on the terminal, exit codes. Does not know: how anything is done. Commands import
what they need when they run, so that ``--help`` is quick and light.
"""

import sys
from typing import Annotated

import typer

from makima_tts import __version__
from makima_tts.cli import doctor, download, say, serve, voices
from makima_tts.errors import TtsError

app = typer.Typer(
    help="Streaming text-to-speech: speech in a cloned voice while it is still being generated.",
    add_completion=False,
    pretty_exceptions_enable=False,
)
for _command in (serve.serve, say.say, serve.wyoming, download.download, doctor.doctor):
    app.command()(_command)
app.add_typer(voices.voices_app, name="voices")


def main() -> None:
    """The console script: a failure with a message ends with it, not with a traceback."""
    from pydantic import ValidationError

    from makima_tts.client import ClientError
    from makima_tts.settings import UnknownSettings, explain

    try:
        app()
    except KeyboardInterrupt:
        sys.exit(130)
    except ValidationError as error:
        sys.exit(explain(error))
    except (TtsError, ClientError, UnknownSettings) as error:
        sys.exit(str(error))


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        typer.echo(__version__)
    elif context.invoked_subcommand is None:
        typer.echo(context.get_help())
