"""The training loop: batches, steps, judging, checkpoints, and the best of what was seen."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from qcompiler.data import Dataset
from qcompiler.errors import TrainingError, UsageError
from qcompiler.ir import Model, Value
from qcompiler.onnx_io import without_weights
from qcompiler.training.batches import Batch, Samples, hold_out
from qcompiler.training.checkpoint import Checkpoint
from qcompiler.training.features import match_features
from qcompiler.training.losses import Losses
from qcompiler.training.module import GraphModule
from qcompiler.training.normalization import fold_normalization, has_normalization, restore_normalization
from qcompiler.training.penalties import Penalties
from qcompiler.training.settings import Settings
from qcompiler.training.teacher import Teacher, check_alike
from qcompiler.training.workers import Workers, workers

__all__ = ["Epoch", "Trained", "train"]

_WARM_UP = 0.05  # of the steps, in which the rate rises
_DIVERGED = 10.0  # times the first loss is no progress
_CLIPPED = 5.0  # norm of the gradients above which they are scaled down
_LOOKED_AT = 32  # samples that tell one set of data from another
_STATISTICS = 8  # samples in a batch from which its statistics say something


@dataclass
class Epoch:
    """Losses of one epoch, held-out ones before it where ``number`` is 0; ``right`` is the share of right answers."""

    number: int
    loss: float | None
    held_out: float
    right: float | None = None
    seconds: float = 0.0

    def record(self) -> dict[str, Any]:
        """For reports and checkpoints."""
        return {"epoch": self.number, "loss": self.loss, "held_out": self.held_out, "right": self.right,
                "seconds": self.seconds}  # fmt: skip


@dataclass
class Trained:
    """What came of it. ``kept`` is the epoch whose constants the model has now; 0: those that it had.

    ``learned`` counts constants by kind, ``frozen`` and ``elsewhere`` say why a constant or a node had no part.
    """

    kept: int
    reason: str
    history: list[Epoch] = field(default_factory=list)
    changed: int = 0
    learned: dict[str, int] = field(default_factory=dict)
    frozen: dict[str, str] = field(default_factory=dict)
    elsewhere: dict[str, str] = field(default_factory=dict)
    features: list[tuple[str, str]] = field(default_factory=list)


def train(
    student: Model,
    teacher: Model | None,
    data: Dataset,
    settings: Settings,
    *,
    judge: Dataset | None = None,
    seed: int = 0,
    folder: Path | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Trained:
    """Train the constants of ``student``, in place, to answer as ``teacher`` does, or as the labels say.

    ``judge`` are samples that nothing learned from; without it they are held out of ``data``.
    Shapes, zeros and assignments to clusters stay. What is kept is the epoch with the least held-out loss (with labels:
    the most right answers), the last one where penalties want zeros; where none is better than the start, nothing
    changes. With ``folder`` the state is kept there after each epoch, and a run that was killed goes on to the same
    result. Raises UsageError for settings that the models cannot follow, TrainingError when the student does not run.
    """
    if not len(data):
        raise TrainingError("there are no samples to learn from")
    if teacher is not None:
        check_alike(teacher, student)
    with workers(settings.device) as team, _threads(settings.threads):
        key = _fingerprint(student, teacher, (data, judge), settings, seed, team)
        if settings.batch_norm == "restore":
            restore_normalization(student, data, threads=settings.threads, progress=progress)
        kept = 0
        try:
            found = _Run(student, teacher, data, judge, settings, seed, Checkpoint(folder, key), team, progress).run()
            kept = found.kept
        finally:
            fold_normalization(student, undo=not kept)
        return found


class _Run:
    """One training, with everything it works with."""

    def __init__(
        self,
        student: Model,
        teacher: Model | None,
        data: Dataset,
        judge: Dataset | None,
        settings: Settings,
        seed: int,
        checkpoint: Checkpoint,
        team: Workers,
        progress: Callable[[str], None],
    ) -> None:
        self.settings, self.seed, self.team, self.checkpoint = settings, seed, team, checkpoint
        self.progress = progress if team.first else lambda _: None
        self.samples = Samples(data, settings)
        self.learn, self.judge = hold_out(len(data), settings.hold_out)
        self.judges = self.samples
        if judge is not None and len(judge):
            self.learn, self.judge = list(range(len(data))), list(range(len(judge)))
            self.judges = Samples(judge, settings)
        pairs = match_features(teacher, student, settings.features) if teacher is not None else []
        self.wanted: list[Value] = [ours for _, ours in pairs]
        self.pairs = [(theirs.name, ours.name) for theirs, ours in pairs]
        self.losses = Losses(settings, teacher, student, data.labels, pairs)
        self.teacher = None
        if teacher is not None and (self.losses.share < 1 or pairs):
            self.teacher = Teacher(teacher, [theirs for theirs, _ in pairs], torch.get_num_threads())
        exclude = re.compile(settings.exclude) if settings.exclude else None
        if team.count > min(settings.batch, len(self.learn)):
            raise UsageError(f"{team.count} processes share batches of {min(settings.batch, len(self.learn))} samples")
        wants = settings.batch_norm in ("train", "restore") or (
            settings.batch_norm == "auto" and settings.batch // team.count >= _STATISTICS and has_normalization(student)
        )
        torch.manual_seed(seed)
        self.module = GraphModule(student, exclude=exclude)
        self.device = team.device(settings.device)
        self.module.to_device(self.device)
        self.parameters = [item for item in self.module.parameters() if item.requires_grad]
        self.at_once = self._runs_stacked()
        self.normalizes = wants and self.at_once

    def run(self) -> Trained:
        """Train; the model holds what is kept when this returns."""
        settings, module = self.settings, self.module
        history = [Epoch(0, None, *self._judged())]
        done = Trained(0, "", history)
        self._tell(done)
        if not self.parameters:
            done.reason = "nothing in the model learns"
            return done
        steps = settings.epochs * self.samples.steps(len(self.learn))
        optimizer = self._optimizer()
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, steps, settings.schedule))
        penalties = Penalties(module, settings, steps)
        best, first_loss = self._state(), None
        found = self.checkpoint.load()
        started = time.perf_counter()
        if found is not None:
            module.load_state_dict(found["module"])
            optimizer.load_state_dict(found["optimizer"])
            schedule.load_state_dict(found["schedule"])
            penalties.restore(found["penalties"])
            best, first_loss, done.kept = found["best"], found["first_loss"], found["kept"]
            done.history[:] = [_epoch(record) for record in found["history"]]
            started -= done.history[-1].seconds
            self.progress(f"going on behind epoch {len(done.history) - 1}")
        averaged = self.team.wrapped(module)
        done.reason = f"all {settings.epochs} epochs"
        over = "" if found is None else found["over"]
        last = len(done.history) - 1 if over else settings.epochs
        for number in range(len(done.history), last + 1):
            loss = self._epoch(averaged, number, optimizer, schedule, penalties)
            if first_loss is None:
                first_loss = loss
            far = loss > _DIVERGED * first_loss and not settings.reshapes_weights
            if not math.isfinite(loss) or far:
                done.reason = f"the loss diverged in epoch {number}: {loss:.3g}; what was best before it is kept"
                break
            held_out, right = self._judged()
            epoch = Epoch(number, loss, held_out, right, time.perf_counter() - started)
            done.history.append(epoch)
            if self._is_better(epoch, done):
                done.kept, best = number, self._state()
            self.progress(_told(epoch, settings.epochs))
            if settings.patience and number - done.kept >= settings.patience and not settings.reshapes_weights:
                over = f"nothing better in {settings.patience} epochs"
            elif settings.seconds is not None and self.team.mean(epoch.seconds) > settings.seconds:
                over = f"{settings.seconds:g} seconds were over"
            if self.team.first:
                self.checkpoint.save({
                    "module": module.state_dict(), "optimizer": optimizer.state_dict(), "penalties": penalties.state(),
                    "schedule": schedule.state_dict(), "best": best, "first_loss": first_loss, "kept": done.kept,
                    "history": [item.record() for item in done.history], "over": over,
                })  # fmt: skip
            if over:
                break
        done.reason = over or done.reason
        self.team.agree(best)
        module.load_state_dict(best)
        self._tell_unreached(done, penalties)
        done.changed = module.write() if done.kept else 0
        return done

    def _epoch(self, module: Any, number: int, optimizer: Any, schedule: Any, penalties: Penalties) -> float:
        """One walk over the samples; the mean loss."""
        self.module.train()
        total, count = 0.0, 0
        batches = self.samples.shuffled(self.learn, self.seed, number, self.team.rank, self.team.count)
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            loss = self._gradients(module, batch)
            total, count = total + loss, count + 1
            if not math.isfinite(loss) and self.team.count == 1:  # several processes have to walk in step
                break
            torch.nn.utils.clip_grad_norm_(self.parameters, _CLIPPED)
            rate = schedule.get_last_lr()[0]
            optimizer.step()
            schedule.step()
            penalties.apply(schedule.last_epoch, rate)
        return self.team.mean(total / max(1, count))

    def _gradients(self, module: Any, batch: Batch) -> float:
        """Gradients of one batch, at once or sample by sample; its loss."""
        at_once, parts = self._parts(batch)
        answers = self.teacher.answers(batch, at_once=at_once) if self.teacher is not None else None
        self.module.batch_statistics = self.normalizes and at_once
        total = 0.0
        for place, feeds in enumerate(parts):
            last = place == len(parts) - 1
            with contextlib.nullcontext() if last or self.team.count == 1 else module.no_sync():
                with self._precision():
                    outputs, inner = module(feeds, self.wanted)
                labels, mixed = self._labels(batch, None if at_once else place)
                expected, theirs = answers[place] if answers is not None else ({}, [])
                loss = self.losses.of(
                    {name: _real(item) for name, item in outputs.items()}, self._there(expected),
                    [_real(item) for item in inner], [_tensor(item, self.device) for item in theirs], labels, mixed,
                ) / len(parts)  # fmt: skip
                if not loss.requires_grad:
                    raise TrainingError("nothing that learns has a gradient: see the nodes that run elsewhere")
                loss.backward()
            total += float(loss.detach())
        return total

    def _parts(self, batch: Batch) -> tuple[bool, list[Any]]:
        """Whether the batch is run at once, and what is fed run by run."""
        at_once = self.at_once and batch.is_even
        return at_once, [batch.stacked()] if at_once else list(batch.samples)

    def _labels(self, batch: Batch, place: int | None) -> tuple[Any, Any]:
        """Labels and shares of the sample at ``place``, or of all."""
        if batch.labels is None or not self.losses.share:
            return None, None
        chosen = slice(None) if place is None else slice(place, place + 1)
        made = torch.as_tensor(np.concatenate(batch.labels[chosen])).to(self.device)
        made = made.long() if not made.is_floating_point() else made
        if batch.mixed is None:
            return made, None
        return made, torch.as_tensor(np.concatenate(batch.mixed[chosen])).to(self.device)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _judged(self) -> tuple[float, float | None]:
        """Loss on the samples that are held out, and with labels the share of right answers."""
        self.module.eval()
        total, right, rows, count = 0.0, 0, 0, 0
        for batch in self.judges.plain(self.judge):
            at_once, parts = self._parts(batch)
            answers = self.teacher.answers(batch, at_once=at_once) if self.teacher is not None else None
            for place, feeds in enumerate(parts):
                outputs, _ = self.module(feeds)
                labels, _ = self._labels(batch, None if at_once else place)
                expected = answers[place][0] if answers is not None else {}
                size = len(batch.samples) if at_once else 1
                total += size * float(self.losses.of(outputs, self._there(expected), labels=labels))
                count += size
                if self.losses.share and labels is not None:
                    right, rows = right + self.losses.right(outputs, labels), rows + len(labels)
        share = self.team.mean(right / rows) if rows else None  # the same in each process, which decide by it
        return self.team.mean(total / max(1, count)), share

    def _is_better(self, epoch: Epoch, done: Trained) -> bool:
        if self.settings.reshapes_weights:
            return True
        before = done.history[done.kept]
        if epoch.right is not None and before.right is not None and epoch.right != before.right:
            return epoch.right > before.right
        return math.isfinite(epoch.held_out) and not epoch.held_out >= before.held_out

    def _optimizer(self) -> Any:
        settings = self.settings
        if settings.optimizer == "sgd":
            return torch.optim.SGD(
                self.parameters, settings.learning_rate, 0.9, weight_decay=settings.weight_decay, nesterov=True
            )
        return torch.optim.AdamW(self.parameters, settings.learning_rate, weight_decay=settings.weight_decay)

    def _state(self) -> dict[str, Any]:
        return {name: item.detach().clone() for name, item in self.module.state_dict().items()}

    def _there(self, arrays: Any) -> dict[str, Any]:
        """The teacher's outputs that count, where the student is."""
        return {name: _tensor(arrays[name], self.device) for name in self.losses.kinds if name in arrays}

    def _precision(self) -> Any:
        if self.settings.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def _runs_stacked(self) -> bool:
        """Whether several samples at once give what they give one by one. Raises TrainingError where none runs."""
        batch = Batch([self.samples.at(index) for index in self.learn[:2]])
        self.module.eval()
        alone = [self.module(sample)[0] for sample in batch.samples]
        self.module.forgiving = False
        before = dict(self.module.elsewhere), dict(self.module._sessions)
        if len(batch.samples) == 1 or not batch.is_even:
            return len(batch.samples) == 1
        try:
            joined = self.module(batch.stacked())[0]
            alike = all(_alike(joined[name], [item[name] for item in alone]) for name in self.losses.kinds)
        except (TrainingError, ValueError, RuntimeError):
            alike = False
        if not alike:  # what torch refused of both together it may take of each
            self.module.elsewhere, self.module._sessions = before
        return alike

    def _tell_unreached(self, done: Trained, penalties: Penalties) -> None:
        """Constants that had no gradient in any step did not learn, whatever the plan was."""
        module = self.module
        for entry in module.parameters_of.entries:
            key = module.parameters_of.place[entry.value]
            if key in module.parameters_of.learned and id(module.parameters_of.learned[key]) not in penalties.reached:
                done.learned[entry.kind] -= 1
                done.frozen[entry.value.name] = "no gradient reached it"
        done.learned = {kind: count for kind, count in done.learned.items() if count}
        done.elsewhere = dict(module.elsewhere)

    def _tell(self, done: Trained) -> None:
        module = self.module
        for entry in module.plan.learnable.values():
            done.learned[entry.kind] = done.learned.get(entry.kind, 0) + 1
        done.frozen, done.elsewhere = dict(module.plan.frozen), module.elsewhere
        done.features = self.pairs


def _tensor(array: Any, device: Any) -> Any:
    made = torch.from_numpy(np.array(array)).to(device)
    return made.float() if made.dtype is torch.float16 else made


def _real(item: Any) -> Any:
    return item.float() if isinstance(item, torch.Tensor) and item.is_floating_point() else item


def _alike(joined: Any, alone: list[Any]) -> bool:
    whole = torch.cat(alone)
    return bool(joined.shape == whole.shape and torch.allclose(joined.float(), whole.float(), rtol=1e-3, atol=1e-4))


def _rate(step: int, steps: int, schedule: str) -> float:
    """The part of the learning rate that step number ``step`` takes, from 0."""
    warm = max(1, int(_WARM_UP * steps))
    if step < warm:
        return (step + 1) / warm
    left = 1 - (step - warm) / max(1, steps - warm)
    if schedule == "constant":
        return 1.0
    return left if schedule == "linear" else 0.5 * (1 - math.cos(math.pi * left))


def _epoch(record: dict[str, Any]) -> Epoch:
    return Epoch(record["epoch"], record["loss"], record["held_out"], record["right"], record["seconds"])


def _told(epoch: Epoch, epochs: int) -> str:
    right = "" if epoch.right is None else f", {100 * epoch.right:.1f} % right"
    return f"training: epoch {epoch.number}/{epochs}, loss {epoch.loss:.4g}, held out {epoch.held_out:.4g}{right}"


@contextlib.contextmanager
def _threads(asked: int) -> Iterator[None]:
    before = torch.get_num_threads()
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(asked or max(1, there // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _fingerprint(
    student: Model,
    teacher: Model | None,
    datasets: tuple[Dataset | None, ...],
    settings: Settings,
    seed: int,
    team: Workers,
) -> str:
    """What tells one training from another: models, some of the data with all labels, and how it was asked for."""
    state = hashlib.sha256(repr((settings, seed, team.count, torch.__version__)).encode())
    for model in (student, teacher):
        if model is None:
            continue
        state.update(without_weights(model).SerializeToString())
        for graph in model.graphs():
            for value in graph.constants:
                if value.constant is not None:
                    state.update(value.constant.digest())
    for data in datasets:
        if data is None:
            continue
        state.update(f"{len(data)} {None if data.labels is None else data.labels.tolist()}".encode())
        for sample in data.walk(range(0, len(data), -(-len(data) // _LOOKED_AT))):
            for name, array in sample.items():
                state.update(name.encode() + np.asarray(array).tobytes())
    return state.hexdigest()
