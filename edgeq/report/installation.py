"""What is installed and what works here, in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.markup import escape

from edgeq.measure.installation import Installation

if TYPE_CHECKING:
    from rich.console import Console


def render(here: Installation, console: Console) -> None:
    """Prints it."""
    console.print(f"[bold]edgeq {here.edgeq}[/bold]  Python {here.python}, {here.system}, {here.cores} cores\n")
    for extra, packages in here.packages.items():
        listed = [f"{name} {version}" if version else f"[yellow]{name} missing[/yellow]" for name, version in packages.items()]
        console.print(f"[bold]{extra:<7}[/bold]" + ", ".join(listed))
    console.print()
    for name, reason in here.runtimes.items():
        console.print(f"{'[yellow]✗' if reason else '[green]✓'} {name}[/] {escape(reason or '')}")
    console.print(f"\n[bold]processor[/bold] {', '.join(here.cpu_flags) or 'flags unknown'}")
    for note in here.notes:
        console.print(f"  {escape(note)}")
    if here.advice:
        console.print("\n[bold]to install[/bold]")
    for advice in here.advice:
        console.print(f"  {escape(advice)}")
