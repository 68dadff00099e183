"""Saving checkpoints while training goes on: a copy is taken at once, a thread of every rank writes it."""

import shutil
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm import tqdm

from data_prep.durable import fsync_folder, fsync_path, sha256_file
from data_prep.errors import one_line
from pipeline.config import CheckpointConfig
from pipeline.engine.checkpoint import MODEL, STATE, CheckpointManifest
from pipeline.engine.launch import Place
from pipeline.engine.optimizer_state import HostCopy, Pieces, Share, shares, write_pieces
from pipeline.engine.ranks import gather
from pipeline.engine.run_folder import MANIFEST, checkpoint_folder, complete_checkpoints, step_of

_PARAMETERS = "parameters"
"""Folder for the ranks' pieces of the parameters, gone when rank 0 has put them together."""
_LONGEST_S = 3_600.0
"""For which ranks wait for each other's files: longer than for gradients, since a slow disk is no loss."""
_LONG_WAIT_S = 1.0


class NotSavedError(Exception):
    """Why a checkpoint could not be written, the same on all ranks."""


class NeverWrittenError(Exception):
    """A rank is still writing when it should have ended long ago."""


class CheckpointSaver:
    """Writes a run's checkpoints, with all ranks, one at a time.

    A failure to write costs that checkpoint alone: it is told at once, training goes on, older checkpoints
    stay, and `failure` keeps the reason until a later one succeeds.

    Args:
        engine: DeepSpeed's, of a network with parameters `network`.
        network: where they have their names.
        frozen: fp32 values of parameters that are not trained; needed on rank 0.
        run_dir: the run's folder.
        config: how many to keep, and whether to write while training goes on.
        companions: further files of every checkpoint.
        place: this process.
    """

    def __init__(
        self,
        engine: Any,
        network: nn.Module,
        frozen: dict[str, Tensor],
        run_dir: Path,
        config: CheckpointConfig,
        companions: dict[str, bytes],
        place: Place,
    ) -> None:
        self._engine, self._network, self._frozen = engine, network, frozen
        self._run_dir, self._config = run_dir, config
        self._companions = companions
        self._place = place
        # Of its own: what the writing threads say to each other must not mix with the training's words.
        self._group = dist.new_group(backend="gloo", timeout=timedelta(seconds=_LONGEST_S))
        self._copy = HostCopy()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="save")
        self._writing: Future[None] | None = None
        self.failure: str | None = None
        list(shares(engine, network))  # a layout of DeepSpeed's that has none fails now, not after a week

    def save(self, manifest: CheckpointManifest) -> None:
        """Save the present state; all ranks call it after the same step."""
        started = time.perf_counter()
        self.wait()
        waited_s = time.perf_counter() - started
        if waited_s > _LONG_WAIT_S and self._place.rank == 0:
            self._say(f"waited {waited_s:.0f} s until the checkpoint before was written")
        held = self._held()
        if self._config.asynchronous:
            self._writing = self._thread.submit(self._write, held, manifest)
        else:
            self._write(held, manifest)

    def wait(self) -> None:
        """Wait until what is being saved is on disk, or has failed.

        Raises:
            NeverWrittenError: a rank does not come to an end.
        """
        if self._writing is not None:
            writing, self._writing = self._writing, None
            writing.result()

    def _held(self) -> list[Share] | Exception:
        """What this rank has to write, or why it has not. At stage 0 all ranks hold all: rank 0 writes."""
        if self._engine.zero_optimization_stage() == 0 and self._place.rank > 0:
            return []
        if not self._config.asynchronous:
            return list(shares(self._engine, self._network))
        try:
            return self._copy.take(self._engine, self._network)
        except Exception as error:  # no room in host memory
            return error

    def _write(self, held: list[Share] | Exception, manifest: CheckpointManifest) -> None:
        final = checkpoint_folder(self._run_dir, manifest.step)
        partial = final.with_name(f".{final.name}.partial")
        started = time.monotonic()
        try:
            self._together(lambda: self._prepare(held, partial))
            assert not isinstance(held, Exception)
            hashes = self._together(lambda: self._write_own(held, partial))
            files = {name: digest for of_rank in hashes for name, digest in of_rank.items()}
            self._together(lambda: self._complete(held, manifest, files, partial, final))
            self.failure = None
        except NotSavedError as error:
            self.failure = f"step {manifest.step} was not saved: {error}"
            if self._place.rank == 0:
                self._say(f"error: {self.failure}; older checkpoints are kept")
        except RuntimeError as error:
            if time.monotonic() - started < _LONGEST_S:
                raise
            raise NeverWrittenError(
                f"step {manifest.step}: not all ranks have written their files after {_LONGEST_S:,.0f} s"
            ) from error
        if self._place.rank == 0:
            self._clean_up()

    def _together(self, action: Callable[[], Any]) -> list[Any]:
        """What `action` returned on each rank; raises NotSavedError on all where it failed on one."""
        outcome: tuple[Any, str | None]
        try:
            outcome = (action(), None)
        except Exception as error:  # whatever it is, the others wait for an answer
            outcome = (None, f"rank {self._place.rank}: {one_line(error) or type(error).__name__}")
        outcomes = gather(outcome, self._place, self._group)
        for _, failure in outcomes:
            if failure is not None:
                raise NotSavedError(failure)
        return [result for result, _ in outcomes]

    def _prepare(self, held: list[Share] | Exception, partial: Path) -> None:
        if isinstance(held, Exception):
            raise held
        if not all(bool(torch.isfinite(share.master).all()) for share in held):
            raise ValueError("its parameters are not finite numbers")
        if self._place.rank == 0:
            if partial.exists():  # of a save that was killed
                shutil.rmtree(partial)
            (partial / STATE).mkdir(parents=True)
            (partial / _PARAMETERS).mkdir()

    def _write_own(self, held: list[Share], partial: Path) -> dict[str, str]:
        """Write this rank's part of the optimizer's state; returns its file's hash, by relative path."""
        name = _file_of(self._place.rank)
        if self._place.rank > 0:
            write_pieces(
                partial / _PARAMETERS / name,
                {share.name: (share.start, share.master.cpu()) for share in held},
            )
        path = partial / STATE / name
        write_pieces(
            path,
            {
                f"{key}/{share.name}": (share.start, value.cpu())
                for share in held
                for key, value in share.state.items()
            },
        )
        _readable_as_its_folder(path)
        fsync_path(path)
        return {path.relative_to(partial).as_posix(): sha256_file(path)}

    def _complete(
        self,
        held: list[Share],
        manifest: CheckpointManifest,
        files: dict[str, str],
        partial: Path,
        final: Path,
    ) -> None:
        """On rank 0, when the files of all ranks are there: the rest, and the final name."""
        if self._place.rank > 0:
            return
        save_file(self._whole_parameters(held, partial), partial / MODEL, metadata={"format": "pt"})
        _readable_as_its_folder(partial / MODEL)
        shutil.rmtree(partial / _PARAMETERS)
        for name, content in self._companions.items():
            (partial / name).write_bytes(content)
        files = {name: sha256_file(partial / name) for name in (MODEL, *self._companions)} | files
        complete = manifest.model_copy(update={"files": files})
        (partial / MANIFEST).write_text(complete.model_dump_json(indent=2) + "\n")
        fsync_folder(partial)
        for records in self._run_dir.glob("*.jsonl"):  # which must not end before the checkpoint
            fsync_path(records)
        partial.replace(final)
        fsync_path(final.parent)

    def _clean_up(self) -> None:
        """Drop checkpoints that are not to be kept, and what killed saves have left."""
        try:
            for old in complete_checkpoints(self._run_dir)[: -self._config.keep_last]:
                if not self._config.keep_every or step_of(old) % self._config.keep_every:
                    old.replace(old.with_name(f".{old.name}.removed"))
            for stale in (self._run_dir / "checkpoints").glob(".step-*"):
                shutil.rmtree(stale)
        except OSError as error:
            self._say(f"warning: an old checkpoint cannot be removed ({one_line(error)})")

    def _whole_parameters(self, held: list[Share], partial: Path) -> dict[str, Tensor]:
        """All parameters in fp32, from this rank's memory and the other ranks' files."""
        others = range(1, self._place.world_size)
        pieces = Pieces([partial / _PARAMETERS / _file_of(rank) for rank in others])
        for share in held:
            pieces.add(share.name, share.start, share.master.cpu())
        parameters = dict(self._frozen)
        for name, parameter in self._network.named_parameters():
            if name not in parameters:
                shape = getattr(parameter, "ds_shape", parameter.shape)  # at stage 3 the tensor is empty
                parameters[name] = torch.empty(shape)
                pieces.fill(parameters[name].view(-1), name, 0)
        return parameters

    def _say(self, message: str) -> None:
        tqdm.write(f"{self._run_dir.name}: {message}", file=sys.stderr)


def _file_of(rank: int) -> str:
    return f"rank-{rank:05d}.safetensors"


def _readable_as_its_folder(path: Path) -> None:
    """Let others read what safetensors wrote for its owner alone."""
    path.chmod(path.parent.stat().st_mode & 0o666)
