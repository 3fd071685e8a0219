"""The ledger of a sweep as a table, a line and a document: used, held, saved and lost, and what is free."""

from __future__ import annotations

from typing import Any

from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from scalerl_lab.decide import Hours, Ledger
from scalerl_lab.report.words import ABSENT, hours, num

_SHOWN = 0.005
"""GPU-hours: less is written as 0."""
_COLUMNS = ("granted", "used", "overhead", "lost", "held", "saved")


def budget_line(ledger: Ledger) -> str:
    """The ledger in one line."""
    total = ledger.total
    text = (
        f"{hours(total.used)} of {hours(ledger.cap)} GPU-hours used, {hours(total.promised)} promised, "
        f"{hours(max(ledger.free, 0.0))} free, {hours(total.saved)} saved; {hours(total.held)} held, "
        f"{hours(total.lost)} lost"
    )
    cost = ledger.money(total.held)
    return f"{text}, which cost {cost:,.2f}." if cost is not None else f"{text}."


def budget_table(ledger: Ledger, name: str) -> RenderableType:
    """Each run's account, arms with several seeds summed up, and the sweep's total."""
    priced = ledger.price_per_gpu_hour is not None
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    table.add_column("run", no_wrap=True, overflow="ellipsis", max_width=30)
    table.add_column("status", no_wrap=True)
    for column in (*_COLUMNS, "cost") if priced else _COLUMNS:
        table.add_column(column, no_wrap=True, justify="right")
    arms = ledger.by_arm()
    for arm, summed in arms.items():
        accounts = [account for account in ledger.accounts if account.arm == arm]
        for account in accounts:
            table.add_row(account.label, account.status.value, *_cells(account.hours, ledger))
        if len(accounts) > 1:
            of_all = f"{arm}, {num(len(accounts), 'seed')}"
            table.add_row(of_all, "", *_cells(summed, ledger), style="italic")
    table.add_section()
    table.add_row("sweep", "", *_cells(ledger.total, ledger), style="bold")
    return Group(Text(name), table, *(Text(line) for line in _notes(ledger)))


def _cells(spent: Hours, ledger: Ledger) -> list[str]:
    cells = [hours(getattr(spent, column)) for column in _COLUMNS]
    cost = ledger.money(spent.held)
    return cells if cost is None else [*cells, f"{cost:,.2f}"]


def _notes(ledger: Ledger) -> list[str]:
    lines = [
        "GPU-hours. held = used + overhead (evaluation, checkpoints, warm start, loading) + lost (training "
        "after the last checkpoint of an attempt that died); saved: granted to a run that was stopped, and "
        "not used.",
        f"Cap {hours(ledger.cap)}: {hours(ledger.total.used)} used, {hours(ledger.total.promised)} promised "
        f"to runs at work, {hours(ledger.waiting)} for runs that have not started, "
        f"{hours(max(ledger.free, 0.0))} free for extensions.",
    ]
    beyond = ledger.total.used - ledger.cap
    if not ledger.admits(ledger.waiting):
        lines.append(
            f"The cap does not cover every planned run to its budget: {hours(ledger.waiting)} are wanted for "
            f"runs that have not started, and {hours(max(ledger.left, 0.0))} are left for them."
        )
    if beyond >= _SHOWN:
        lines.append(f"{hours(beyond)} beyond the cap: each run ends with the step that reaches its grant.")
    if ledger.price_per_gpu_hour is not None:
        saved = ledger.money(ledger.total.saved)
        lines.append(
            f"At {ledger.price_per_gpu_hour:g} per GPU-hour held; what was saved comes to "
            f"{ABSENT if saved is None else f'{saved:,.2f}'}."
        )
    return lines


def budget_json(ledger: Ledger, sweep_id: str, name: str) -> dict[str, Any]:
    """The ledger for machines; keys are stable."""
    return {
        "sweep_id": sweep_id,
        "name": name,
        "cap_gpu_hours": ledger.cap,
        "free_gpu_hours": ledger.free,
        "waiting_gpu_hours": ledger.waiting,
        "overshoot_gpu_hours": ledger.overshoot,
        "price_per_gpu_hour": ledger.price_per_gpu_hour,
        "total": _hours_json(ledger.total, ledger),
        "arms": {arm: _hours_json(summed, ledger) for arm, summed in ledger.by_arm().items()},
        "runs": [
            {
                "run_id": account.run_id,
                "arm": account.arm,
                "seed": account.seed,
                "status": account.status.value,
                "budget_gpu_hours": account.budget,
                **_hours_json(account.hours, ledger),
            }
            for account in ledger.accounts
        ],
    }


def _hours_json(spent: Hours, ledger: Ledger) -> dict[str, float | None]:
    return {
        "granted_gpu_hours": spent.granted,
        "used_gpu_hours": spent.used,
        "held_gpu_hours": spent.held,
        "overhead_gpu_hours": spent.overhead,
        "lost_gpu_hours": spent.lost,
        "promised_gpu_hours": spent.promised,
        "saved_gpu_hours": spent.saved,
        "cost": ledger.money(spent.held),
    }
