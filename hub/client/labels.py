"""The client's side of labelling."""

from __future__ import annotations

from urllib.parse import quote

from hub.client.calls import Calls
from hub.schemas import labels as s


class LabelCalls(Calls):
    """These calls, as part of `HubClient`."""

    def label_cells(self) -> list[s.LabelCell]:
        """The cells that the caller works in."""
        return self._call("GET", "/labels", list[s.LabelCell])

    def label_cell(self, cell: str) -> s.LabelCell:
        """A cell's queue: its settings and how much waits."""
        return self._call("GET", _cell(cell), s.LabelCell)

    def set_label_cell(self, cell: str, settings: s.LabelSettings) -> s.LabelCell:
        """Change how a cell is labelled; None leaves a value as it is."""
        return self._call("PUT", _cell(cell), s.LabelCell, settings)

    def label_tasks(self, cell: str, **wanted: str) -> list[s.Task]:
        """What is asked first before; `wanted`: `state`, `after` (a task's id), `limit`."""
        return self._call("GET", _cell(cell) + "/tasks", list[s.Task], params=wanted)

    def label_stats(self, cell: str) -> s.LabelStats:
        """What labelling cost, and what became of proposals."""
        return self._call("GET", _cell(cell) + "/stats", s.LabelStats)

    def fill_labels(self, cell: str, asked: s.FillIn) -> int:
        """How many tasks were made."""
        return self._call("POST", _cell(cell) + "/fill", dict[str, int], asked)["made"]

    def next_label_task(self, cell: str) -> s.TaskWork | None:
        """The next picture, held for the caller; None where none waits."""
        return self._call("POST", _cell(cell) + "/next", s.TaskWork | None)  # type: ignore[arg-type]

    def label_task(self, task_id: str) -> s.TaskWork:
        """One picture with its regions."""
        return self._call("GET", _task(task_id), s.TaskWork)

    def label_image(self, task_id: str) -> bytes:
        """The picture as it came, JPEG or PNG."""
        return self._send("GET", _task(task_id) + "/image").content

    def accept_labels(self, task_id: str, answer: s.Accept) -> s.Task:
        """Hand in the labels of a picture that the caller holds."""
        return self._call("POST", _task(task_id) + "/accept", s.Task, answer)

    def move_label_task(self, task_id: str, what: str, version: int) -> s.TaskWork:
        """`what`: skip, remove, release, renew, take or reopen."""
        return self._call("POST", _task(task_id) + "/move", s.TaskWork, {"what": what, "version": version})

    def propose_labels(self, task_id: str, proposal: s.ProposalIn) -> s.TaskWork:
        """Say what a model finds in a picture."""
        return self._call("PUT", _task(task_id) + "/proposal", s.TaskWork, proposal)

    def propagate_labels(self, cell: str, look_alike: str) -> s.Propagated:
        """Propose for pictures that look alike what their labelled ones agree on."""
        return self._call("POST", _cell(cell) + "/propagate", s.Propagated, {"look_alike": look_alike})

    def label_batches(self, cell: str, **wanted: str) -> list[s.Batch]:
        """Newest first; `wanted`: `after` (a batch's id), `limit`."""
        return self._call("GET", _cell(cell) + "/batches", list[s.Batch], params=wanted)

    def export_labels(self, cell: str) -> s.Batch | None:
        """None where nothing waits."""
        return self._call("POST", _cell(cell) + "/batches", s.Batch | None)  # type: ignore[arg-type]

    def undo_labels(self, cell: str, batch_id: str) -> s.Batch:
        """Take a batch out of its dataset by another commit."""
        return self._call("DELETE", f"{_cell(cell)}/batches/{quote(batch_id, safe='')}", s.Batch)


def _cell(cell: str) -> str:
    return f"/labels/cells/{quote(cell, safe='')}"


def _task(task_id: str) -> str:
    return f"/labels/tasks/{quote(task_id, safe='')}"
