"""Entry point of all commands: `eg3d-jax invert` is `python -m experiments.invert`.

Only the chosen command is imported, so that the tables of names appear at once.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Sequence
from typing import NamedTuple, NoReturn

PROGRAM = "eg3d-jax"
EXIT_UNKNOWN = 2
COMPLETION_FLAGS = ("--tyro-write-completion", "--tyro-print-completion")


class Command(NamedTuple):
    """Module and summary of a command; the module has `Args`, `main` and `start`."""

    module: str
    summary: str


COMMANDS = {
    "invert": Command("experiments.invert.main", "several views of a head in, a 3D head out"),
    "prepare": Command("experiments.prepare.main", "video, photos, others' cameras to frames"),
    "render": Command("experiments.render", "a video of a head from any cameras"),
    "mesh": Command("experiments.mesh", "a head's closed, coloured surface"),
    "splat": Command("experiments.splat", "Gaussians of a head, for any viewer of splats"),
    "page": Command("experiments.page.main", "one HTML file in which anyone turns a head"),
    "view": Command("experiments.view.main", "turn a head in the browser"),
    "edit": Command("experiments.edit", "move a head along directions of its latents"),
    "evaluate": Command("experiments.evaluate.main", "how well finished runs show every frame"),
    "compare": Command("experiments.compare.main", "the paper's ways to invert, side by side"),
    "refine-cameras": Command("experiments.refine_cameras", "mend the camera labels of frames"),
    "cameras": Command("experiments.cameras", "cameras of frames for other programs"),
    "disturb": Command("experiments.disturb", "make camera labels wrong, to try the mending"),
    "convert": Command("convert_weights.main", "a PyTorch checkpoint to Flax, or to one file"),
    "import": Command("experiments.import_result", "a result of the authors' code, as a run"),
    "crosscheck": Command("experiments.crosscheck.main", "the same through NVIDIA's PyTorch code"),
    "benchmark": Command("experiments.benchmark.main", "time and memory of every part"),
    "benchmark bars": Command("experiments.benchmark.bars", "all that is promised of speed"),
    "benchmark gpu-plan": Command("experiments.benchmark.gpu_plan", "what a GPU would run"),
    "benchmark gpu-day": Command("experiments.benchmark.gpu_day", "all to measure on a lent GPU"),
    "benchmark scale": Command("experiments.benchmark.scale", "what runs would cost, estimated"),
    "benchmark workers": Command("experiments.benchmark.workers", "many videos on many workers"),
    "heads film": Command("experiments.heads.sequences", "short videos of synthetic heads"),
    "heads raw-videos": Command("experiments.heads.filming", "raw videos of synthetic heads"),
    "heads dataset": Command("experiments.heads.dataset", "pictures of heads to train with"),
    "heads train": Command("experiments.heads.pretrain", "train the embedded generator"),
    "heads deepen": Command("experiments.heads.deepen", "give a generator a deeper mapping"),
    "heads score": Command("experiments.heads.score", "measure a generator on unseen heads"),
    "heads directions": Command("experiments.heads.directions", "directions named smile, jaw, age"),
    "heads contact-sheet": Command("experiments.heads.contact_sheet", "heads drawn at random"),
    "heads held-out-frames": Command(
        "experiments.heads.held_out_frames", "unseen heads as folders of frames"
    ),
}
# First words that are no commands themselves.
GROUPS = {"heads": "synthetic heads, the training of the embedded generator"}


def main(args: Sequence[str] | None = None, *, program: str = PROGRAM) -> NoReturn:
    """Run the command that the first words name, with the words that follow.

    Args:
      args: all words; those of the command line if None.
      program: how the door itself was called, for usage lines.
    """
    name, rest = split(sys.argv[1:] if args is None else args)
    first = rest[0] if rest else "--help"
    if first.replace("_", "-") in COMPLETION_FLAGS:
        importlib.import_module("experiments.completion").complete(COMMANDS, program, rest)
    if name in COMMANDS:
        sys.argv[1:] = rest
        importlib.import_module(COMMANDS[name].module).start(f"{program} {name}")
    if first in ("-h", "--help"):
        print(table(name, program))
    elif first == "--version" and not name:
        metadata = importlib.import_module("importlib.metadata")  # slower than all the rest
        print(f"{PROGRAM} {metadata.version(PROGRAM)}")
    else:
        print(f"error: {unknown(name, first, program)}", file=sys.stderr)
        sys.exit(EXIT_UNKNOWN)
    sys.exit()


def split(words: Sequence[str]) -> tuple[str, list[str]]:
    """Split words into the name of a command or group, '' if none, and the other words."""
    for count in (2, 1):
        name = " ".join(words[:count]).replace("_", "-")
        if name in COMMANDS or name in GROUPS:
            return name, list(words[count:])
    return "", list(words)


def table(group: str, program: str) -> str:
    """Format the help: all commands, or those of a group, and what each does."""
    if group:
        rows = {name: about.summary for name, about in COMMANDS.items() if in_group(name, group)}
    else:
        rows = {name: c.summary for name, c in COMMANDS.items() if name.split()[0] not in GROUPS}
        rows |= {f"{name} ...": summary for name, summary in GROUPS.items()}
    width = max(map(len, rows))
    lines = [f"  {name:{width}}  {summary}" for name, summary in rows.items()]
    begun = f"{program} {group}".strip()
    return "\n".join(
        [
            f"usage: {begun} COMMAND [OPTIONS]",
            "",
            *lines,
            "",
            f"{begun} COMMAND --help: the options of a command",
            f"{program} --version: the version",
            f"{program} {COMPLETION_FLAGS[0]} bash FILE: tab completion; or zsh, fish",
        ]
    )


def in_group(name: str, group: str) -> bool:
    """Whether a command's name begins with a group's."""
    return name.startswith(f"{group} ")


def unknown(group: str, word: str, program: str) -> str:
    """Say that a word names no command, with the nearest that exists."""
    wanted = f"{group} {word}".strip()
    near = difflib.get_close_matches(wanted, [*COMMANDS, *GROUPS], n=1)
    nearest = f"the nearest is '{near[0]}', and " if near else ""
    return f"there is no command '{wanted}'; {nearest}`{program} --help` lists all"


if __name__ == "__main__":
    main(program="python -m experiments")
