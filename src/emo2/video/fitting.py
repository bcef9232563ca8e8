"""What of stage 2 is fitted in one go rather than trained."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from emo2.video.examples import Examples
from emo2.video.face_table import TableFit
from emo2.video.stage import VideoStage


@torch.no_grad()
def fit_table(stage: VideoStage, batches: Iterable[Examples]) -> int:
    """Fit the basis's table of face actions to what the expectation leaves over; the frames it was fitted to.

    Frames count whose head and torso are where the reference has them.
    """
    fit, used = TableFit(), 0
    for batch in batches:
        seen = stage.see(batch.reference[:, None], batch.view, batch.marks)
        expected = stage.basis(seen.output, batch.marks, batch.conditions)
        frames = batch.frames, batch.reference, batch.flow, batch.visibility
        wanted, found = map(stage.codec.cells, (stage.codec.encode(*frames), expected.mean))
        used += fit.learn(batch, wanted, found)
    if used:
        stage.basis.table.values += fit.solve()
    return used
