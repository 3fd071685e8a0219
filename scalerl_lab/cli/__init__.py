"""The command ``lab``: parse, call one function, print.

Files: ``group`` how failures become messages and exit codes; ``places`` the store that commands read;
``sweep``, ``run``, ``decisions``, ``why``, ``report``, ``fit``, ``replay``, ``bench`` (with
``bench_sweeps`` and ``bench_decide``), ``doctor``, ``sandbox``, ``tasks`` and ``ui`` a command or a group
of them each; ``rules`` how rules of stopping are named.

Exit codes: 0 done, 1 a run failed for good, 2 what was asked for is wrong (nothing was created), 3 compute
is lacking, 4 the store or a lock, 130 interrupted. Output goes to stdout, failures to stderr; nothing ever
asks a question. ``--json`` prints one document whose keys are stable.

To add a command: a file with a click command, and a line below. Modules are imported inside commands, so
that ``lab --help`` stays immediate; this room computes nothing.
"""

from __future__ import annotations

import click

from scalerl_lab.cli.bench import bench_commands
from scalerl_lab.cli.bench_decide import decide_command
from scalerl_lab.cli.bench_sweeps import published_command, speed_command, sweeps_command
from scalerl_lab.cli.decisions import decisions_command
from scalerl_lab.cli.doctor import doctor_command
from scalerl_lab.cli.fit import fit_command
from scalerl_lab.cli.group import LabGroup
from scalerl_lab.cli.replay import replay_command, simulate_command
from scalerl_lab.cli.report import report_commands
from scalerl_lab.cli.run import run_commands
from scalerl_lab.cli.sandbox import sandbox_commands
from scalerl_lab.cli.sweep import sweep_commands
from scalerl_lab.cli.tasks import tasks_commands
from scalerl_lab.cli.ui import ui_command
from scalerl_lab.cli.why import why_command


@click.group(cls=LabGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="scalerl-lab", prog_name="lab")
def lab() -> None:
    """Ablation sweeps for RL post-training: what raises the ceiling, what is only faster.

    \b
    lab sweep plan sweeps/loo_16k.yaml     what would run, and what it costs
    lab sweep run sweeps/loo_16k.yaml      run it, or go on with it
    lab report ceilings                    what was found
    lab decisions                          every decision that changed something
    lab why dapo_loss:0                    why a run was stopped or extended
    lab run kill dapo_loss:0 --why TEXT    an order to a run while its sweep goes on
    lab fit points.csv                     learning curves of any CSV file, fitted and forecast
    lab replay points.csv --rule asha      what a rule would have saved, and killed, on runs on record
    lab simulate --kind worse_arms         the same where the truth is known
    lab doctor                             what this machine has of what the lab needs, and how to mend it
    lab sandbox check                      whether model-written code can be run safely here
    lab bench forecast DIR                 how good the forecasts are on curves whose end is known
    lab tasks check prompts.jsonl          whether files of prompts can be trained on

    Where a sweep is optional, the newest is meant; SWEEP is an id, the start of one, or a name.
    LAB_HOME says where everything is kept (default: .lab in the current folder).

    Completion: eval "$(_LAB_COMPLETE=bash_source lab)", or zsh_source, fish_source.
    """


for measure in (sweeps_command, published_command, speed_command, decide_command):
    bench_commands.add_command(measure)
for command in (
    sweep_commands,
    run_commands,
    decisions_command,
    why_command,
    report_commands,
    fit_command,
    bench_commands,
    replay_command,
    simulate_command,
    doctor_command,
    sandbox_commands,
    tasks_commands,
    ui_command,
):
    lab.add_command(command)


def main() -> None:
    """Entry point of the command."""
    lab(prog_name="lab")
