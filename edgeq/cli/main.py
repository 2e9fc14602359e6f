"""``edgeq``: finds the command and calls it."""

from __future__ import annotations

import importlib
import sys

import click

from edgeq import __version__
from edgeq.cli import exits, streams

COMMANDS = {
    "train": "Train a small network, float or quantisation-aware.",
    "export": "Turn a Keras network into int8 .tflite and .onnx, and measure how faithful they are.",
    "attack": "Attack a deployed file on the runtimes that run it.",
    "compare": "Compare two runtimes of a file, or two files.",
    "align": "Compare gradients of a file, and see which changes its rounding swallows.",
    "resume": "Go on with a run that was stopped.",
    "runs": "List run files.",
    "report": "Write a run's report as one HTML page.",
    "export-run": "Write a run's rows as CSV to stdout.",
    "pack": "Write a run's inputs as a board takes them.",
    "score": "Take back what a board answered to a pack.",
    "inspect": "Say what is in a .tflite or .onnx file and where it fits.",
    "doctor": "Say what is installed and which runtimes work here.",
    "demo": "Train, export, attack and report on digits, in about two minutes.",
}


class Lazy(click.Group):
    """Knows its commands by name; imports one when it is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"edgeq.cli.{name.replace('-', '_')}").command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from edgeq.core.plugins import choose

            choose("command", args[0], list(COMMANDS))
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:  # the reader of our stdout left: no error, and not click's exit code 1, which is a gate's
            streams.abandon(sys.stdout)
            raise SystemExit(0) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="edgeq")
def cli() -> None:
    """How easily the quantised network that ships is fooled, measured on the file and the kernels that ship.

    \b
    Example: edgeq attack --target model.tflite --data folder:photos --attack spsa --eps 4/255

    Every command takes --debug, which shows the traceback of an error.
    """


def main() -> None:
    """The entry point of the ``edgeq`` script."""
    streams.settle()
    arguments = sys.argv[1:]
    with exits.sentences("--debug" in arguments):
        code = cli.main([a for a in arguments if a != "--debug"], prog_name="edgeq", standalone_mode=False)
        sys.stdout.flush()
        sys.exit(code if isinstance(code, int) else 0)
