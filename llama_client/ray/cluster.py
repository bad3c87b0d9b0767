"""Ray as a job finds it, or starts it; and the Ray Data pipeline that runs the job's workers."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from llama_client.config.provider_tables import GgufConfig
from llama_client.errors import JobError, LocalOnlyError, MissingExtraError
from llama_client.ray.mailbox import Mailbox
from llama_client.ray.this_machine import require_address_here, require_cluster_here
from llama_client.ray.worker import Shard, ShardJob
from llama_client.redaction import MASK, without_credentials

if TYPE_CHECKING:
    from llama_client.config.schema import Config

# A few questions of each worker wait at once; more workers than a cluster has.
_MAX_WAITING = 10_000
# On one machine: each has an event loop of its own, which hundreds of calls at once keep busy.
_WORKERS_ALONE = 2
# A step of Ray Data takes less.
_ENDING_S = 5.0


def _is_of_ray(variable: str) -> bool:
    return variable.startswith("RAY_") or variable == "PYTHONBREAKPOINT"


class _Ending:
    """Whether a pipeline is to end. One object in this process, whoever copies the context that it is in."""

    is_wanted = False

    def __deepcopy__(self, memo: object) -> _Ending:
        return self


class _EndsWhere:
    """What Ray Data calls at each step of a pipeline (its `ExecutionCallback`)."""

    def __init__(self, ending: _Ending) -> None:
        self._ending = ending

    def on_execution_step(self, executor: object) -> None:
        if self._ending.is_wanted:
            # Handed to who iterates, for whom it is the end; any other error would be logged with its frames.
            raise StopIteration

    def before_execution_starts(self, executor: object) -> None: ...

    def after_execution_succeeds(self, executor: object) -> None: ...

    def after_execution_fails(self, executor: object, error: Exception) -> None: ...


class Cluster:
    """Ray, connected to. Close it: what was started here ends.

    Args:
        address: Of a cluster; None: that of the environment (`RAY_ADDRESS`, as in a pod or job of a cluster), else one
            that is started on this machine.
        config: The client's: with `local_only` nothing leaves this machine.

    Raises:
        MissingExtraError: Ray is not installed.
        LocalOnlyError: The cluster is on other machines.
        JobError: There is no cluster at the address.
    """

    def __init__(self, address: str | None, config: Config) -> None:
        try:
            import ray
            import ray.data
        except ImportError as error:
            message = 'engine="ray" needs Ray with its data library: pip install "llama-client[ray]"'
            raise MissingExtraError(message, extra="ray") from error
        self._ray: Any = ray
        self._config = config
        self._ending = _Ending()
        self._thread: threading.Thread | None = None
        self._is_ours = not ray.is_initialized()
        self._environ = {name: value for name, value in os.environ.items() if _is_of_ray(name)}
        if self._is_ours:
            self._start(address)
            # Where the user has not said what to log.
            logging.getLogger("ray.data").setLevel(logging.ERROR)
        try:
            require_cluster_here(ray, config)
        except LocalOnlyError:
            self.close()
            raise

    def _start(self, address: str | None) -> None:
        address = address or os.environ.get("RAY_ADDRESS")
        if address:
            require_address_here(address, self._config)
        options: dict[str, Any] = {"address": address}
        if not address:
            # Ray would report its use to its makers.
            os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
            options = {"include_dashboard": False}
        try:
            self._ray.init(log_to_driver=False, logging_level=logging.ERROR, **options)
        except Exception as error:
            shown = without_credentials(address, mark=MASK) if address else "this machine"
            raise JobError(
                f"ray_address: cannot connect to a cluster at {shown}: {str(error).replace(address or shown, shown)}"
            ) from error

    def workers(self, model: str, most: int | None, asked: int | None) -> int:
        """How many workers a job has: as asked; else one for each node, or each GPU of a model in the process."""
        nodes = [each for each in self._ray.nodes() if each["Alive"]]
        count = asked
        if count is None:
            count = self._gpus() if self._wants_gpu(model) else max(len(nodes), self._alone(model))
        return max(min(count, most or count), 1)

    def mailbox(self) -> Any:
        """The job's actor. It is where the driver is, and is started again where it dies."""
        actor = self._ray.remote(Mailbox)
        return actor.options(
            num_cpus=0,
            max_concurrency=_MAX_WAITING,
            max_restarts=-1,
            max_task_retries=-1,
            scheduling_strategy=self._here(),
        ).remote()

    def pipeline(
        self, job: ShardJob, shards: int, model: str, on_end: Callable[[BaseException | None], object]
    ) -> None:
        """Runs the workers in Ray Data, and tells when all have ended."""
        ray = self._ray
        compute = ray.data.ActorPoolStrategy(size=shards, max_tasks_in_flight_per_actor=1)
        options: dict[str, Any] = {"num_gpus": 1} if self._wants_gpu(model) else {"num_cpus": self._cpus(shards)}
        # Made here: tasks that read would want a core beside the workers, which nodes of one core do not have.
        numbers = ray.data.from_items([{"id": number} for number in range(shards)], override_num_blocks=shards)
        data = numbers.map_batches(
            Shard,
            fn_constructor_args=(job,),
            batch_size=1,
            compute=compute,
            # Ray Data itself spreads actors over the nodes.
            label_selector={"ray.io/node-id": self._node()} if self._config.local_only else None,
            **options,
        )
        # Progress is the job's to tell.
        data.context.enable_progress_bars = False
        data.context.print_on_execution_start = False
        # Where a node is lost, or an actor never gets its place, Ray Data itself would wait without an end.
        data.context.custom_execution_callback_classes = [partial(_EndsWhere, self._ending)]

        def run() -> None:
            error: BaseException | None = None
            try:
                for _ in data.iter_internal_ref_bundles():
                    pass
            except BaseException as raised:  # noqa: BLE001 - handed to the driver's thread
                error = raised
            on_end(error)

        self._thread = threading.Thread(target=run, name="llama-client-bulk-ray-data", daemon=True)
        self._thread.start()

    def get(self, reference: Any) -> Any:
        """What a call gives.

        Raises:
            JobError: The cluster is gone.
        """
        try:
            return self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            raise JobError(f"the Ray cluster is gone ({type(error).__name__}); the same call goes on") from error

    def end(self, mailbox: Any) -> None:
        """Ends what still runs in Ray Data, and the mailbox."""
        self._ending.is_wanted = True
        if self._thread is not None:
            self._thread.join(_ENDING_S)
        self._ray.kill(mailbox)

    def close(self) -> None:
        if self._is_ours:
            self._ray.shutdown()
            # Ray leaves its own there: `breakpoint()` would not stop this program any more, nor what it starts.
            for name in [name for name in os.environ if _is_of_ray(name) and name not in self._environ]:
                del os.environ[name]
            os.environ.update(self._environ)

    def _here(self) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        # With `local_only` the mailbox, which has prompts, is on no other node even where this one has no place for it.
        return NodeAffinitySchedulingStrategy(self._node(), soft=not self._config.local_only)

    def _node(self) -> str:
        """The driver's."""
        name: str = self._ray.get_runtime_context().get_node_id()
        return name

    def _is_gguf(self, model: str) -> bool:
        return isinstance(self._config.providers.get(model.partition("/")[0]), GgufConfig) or model.startswith("gguf/")

    def _gpus(self) -> int:
        return int(self._ray.cluster_resources().get("GPU", 0))

    def _wants_gpu(self, model: str) -> bool:
        return self._is_gguf(model) and self._gpus() > 0

    def _alone(self, model: str) -> int:
        # One engine uses all cores.
        return 1 if self._is_gguf(model) else _WORKERS_ALONE

    def _cpus(self, shards: int) -> float:
        """Of a worker: a whole core where there are enough, as all of them have to run at once."""
        cores = self._ray.cluster_resources().get("CPU", 1.0)
        return 1.0 if cores > shards else max(cores / (2 * shards), 0.01)
