"""Events for TensorBoard."""

import time
from pathlib import Path

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter

# What protobuf makes of its files is there at run time only.
from tensorboardX.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboardX.proto.summary_pb2 import Summary  # pyright: ignore[reportAttributeAccessIssue]


class Board:
    """Writes events where it is called, so that a full disk is an `OSError` there.

    tensorboardX's own `SummaryWriter` leaves writing to a thread, behind a short queue. Once an
    error has ended that thread the queue fills up, and whoever adds to it waits for ever.
    """

    def __init__(self, folder: Path, step: int):
        """Has TensorBoard hide what it has of this step and later ones, which come again."""
        folder.mkdir(parents=True, exist_ok=True)
        self.writer = EventsWriter(str(folder / "events"))
        self.write(Event(step=step, session_log=SessionLog(status=SessionLog.START)))

    def scalar(self, name: str, value: float, step: int) -> None:
        self.add(summary.scalar(name, value), step)

    def image(self, name: str, pixels: np.ndarray, step: int) -> None:
        """Of uint8 ``[H, W, 3]``."""
        self.add(summary.image(name, pixels, dataformats="HWC"), step)

    def add(self, values: Summary, step: int) -> None:
        self.write(Event(step=step, summary=values))

    def write(self, event: Event) -> None:
        event.wall_time = time.time()
        self.writer.write_event(event)

    def flush(self) -> None:
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()
