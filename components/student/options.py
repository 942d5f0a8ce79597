"""Options that the stages handling the student share: where to compute, how to generate, how to train, which base model."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, ClassVar, Literal

import msgspec

from components.core.errors import ParameterError
from components.core.options import Options
from components.core.redaction import without_credentials
from components.word_problems.names import FAMILY_NAMES

Positive = Annotated[int, msgspec.Meta(ge=1)]
NonNegative = Annotated[int, msgspec.Meta(ge=0)]
Rate = Annotated[float, msgspec.Meta(gt=0.0)]
NonNegativeFloat = Annotated[float, msgspec.Meta(ge=0.0)]
Share = Annotated[float, msgspec.Meta(ge=0.0, le=1.0)]

PrecisionName = Literal["auto", "float32", "bfloat16", "float16"]
ChatFormat = Literal["paper", "template", "plain"]

MOST_ROWS = 1_000_000
"""Problems of the tiny model's pretraining: they are made in memory, at about a kilobyte each."""
MOST_EPOCHS = 1_000
"""The rows of all epochs are laid out in memory, in the order of training, before it begins."""


PACKAGE_FILE = re.compile(r"[A-Za-z_]\w*/.+")
"""A file inside an installed Python package."""


class ComputeOptions(Options, frozen=True, kw_only=True):
    """Where and how wide a stage computes.

    Attributes:
        device: ``auto`` takes the GPU when there is one.
        threads: CPU threads of this process (our choice: 1; several stages or workers then share a machine without fighting
            for its cores, and results are bit-identical on repetition).
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: Positive = 1


class GenerationOptions(ComputeOptions, frozen=True, kw_only=True):
    """How responses are generated.

    Attributes:
        engine: ``transformers`` anywhere, ``vllm`` in an image that has it.
        dtype: Precision of the weights; ``auto`` is bfloat16 on a GPU and float32 on a CPU, where bfloat16 pays only
            with AMX or AVX-512 BF16 and is several times slower without.
        batch_size: Sequences decoded together (our choice); halved by itself when memory runs out.
        workers: Processes that share the work on a CPU, one copy of the model in memory for all.
        chunk_size: Most problems per resumable chunk (our choice): a killed task loses at most one chunk. A slow model gets
            smaller ones, so that one is finished about every 20 seconds, or with every batch where a batch takes longer.
        max_new_tokens: Longest response in tokens (our choice; the papers do not state it).
    """

    engine: Literal["transformers", "vllm"] = "transformers"
    dtype: PrecisionName = "auto"
    batch_size: Positive = 128
    workers: Positive = 1
    chunk_size: Positive = 512
    max_new_tokens: Positive = 512


class ClusterOptions(Options, frozen=True, kw_only=True):
    """The nodes of a Kubeflow Trainer job (all values are our choice).

    Image, environment with its Secrets, labels and pull secrets are those of the task's own pod.

    Attributes:
        runtime: Name of the ClusterTrainingRuntime.
        cpu: CPUs of a node, as Kubernetes writes them.
        memory: Memory of a node; every process loads the model, and for preference tuning its reference, in 32 bits before they
            are sharded. The default is for a 7B model on eight GPUs.
        gpus: GPUs of a node.
        gpu_type: Resource name of the GPUs.
        shared_memory: Size of ``/dev/shm``, through which the processes of a node talk; counts as memory.
        scratch: Size of ``/tmp``, where the model and its checkpoints lie.
        node_selector: Labels that the nodes must have.
        tolerations: Kubernetes tolerations of the pods.
        queue: Name of the Kueue queue; empty for that of the task's own pod.
        service_account: Service account of the pods; they need no rights.
        deadline_hours: The job is ended after so long; 0 never.
        poll_seconds: How often the job is looked at.
    """

    runtime: str = "torch-distributed"
    cpu: str = "8"
    memory: str = "640Gi"
    gpus: NonNegative = 8
    gpu_type: str = "nvidia.com/gpu"
    shared_memory: str = "16Gi"
    scratch: str = "300Gi"
    node_selector: dict[str, str] = msgspec.field(default_factory=dict)
    tolerations: list[dict[str, Any]] = msgspec.field(default_factory=list)
    queue: str = ""
    service_account: str = ""
    deadline_hours: NonNegativeFloat = 0.0
    poll_seconds: Rate = 10.0


class TrainingOptions(ComputeOptions, frozen=True, kw_only=True):
    """What every training stage shares. Where Orca-Math states no value the default is our choice.

    An update is made from ``batch_size`` x ``gradient_accumulation`` rows, however many processes compute it: they share the
    accumulation first, then the batch.

    Attributes:
        processes: Processes that train together on this machine, or on each of several nodes; 0 is one for every GPU.
        nodes: Machines that train together (Kubeflow Trainer); 1 trains in the task itself.
        cluster: The nodes, when there are several.
        epochs: Passes over the rows.
        batch_size: Rows per step.
        gradient_accumulation: Steps gathered into one update.
        scheduler: Learning-rate schedule, by its transformers name.
        warmup: Share of the steps over which the learning rate rises.
        max_length: Longest prompt with response, in tokens; longer ones are cut at the end.
        weight_decay: Of AdamW.
        adam_beta2: Decay of AdamW's second moment.
        max_grad_norm: Gradients are scaled down to this norm.
        bf16: bfloat16 autocast; ``auto`` is on for a GPU and off for a CPU (see ``dtype``).
        activation_checkpointing: Recompute activations to save memory; ``auto`` is on from one billion parameters.
        lora_rank: Rank of LoRA adapters, merged before the model is saved; 0 trains all weights.
        lora_alpha: Scale of the adapters.
        lora_dropout: Dropout of the adapters.
        lora_targets: Which layers get adapters, by their PEFT name.
        save_dtype: Precision of the saved weights; ``auto`` keeps float32 below one billion parameters, else bfloat16.
        checkpoint_seconds: A checkpoint is written when this much time has passed since the last; 0 writes none.
        log_points: About how many points the training curve gets.
    """

    processes: NonNegative = 0
    nodes: Positive = 1
    cluster: ClusterOptions = ClusterOptions()
    epochs: Annotated[int, msgspec.Meta(ge=1, le=MOST_EPOCHS)] = 1
    batch_size: Positive = 3
    gradient_accumulation: Positive = 1
    scheduler: Literal["constant", "constant_with_warmup", "linear", "cosine"] = "constant"
    warmup: Share = 0.0
    max_length: Positive = 1024
    weight_decay: NonNegativeFloat = 0.0
    adam_beta2: Share = 0.999
    max_grad_norm: Rate = 1.0
    bf16: Literal["auto", "on", "off"] = "auto"
    activation_checkpointing: Literal["auto", "on", "off"] = "auto"
    lora_rank: NonNegative = 0
    lora_alpha: Positive = 128
    lora_dropout: Share = 0.0
    lora_targets: str = "all-linear"
    save_dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    checkpoint_seconds: NonNegativeFloat = 600.0
    log_points: Positive = 50

    @property
    def fewest_rows(self) -> int:
        """Rows that each process needs at every step."""
        return 1

    def check(self, section: str) -> None:
        """Refuse rows that processes cannot share, as far as their number is known, and layers that cannot be looked for.

        Raises:
            ParameterError: They contradict one another.
        """
        if self.processes or self.nodes > 1:
            self.share((self.processes or max(self.cluster.gpus, 1)) * self.nodes, self.fewest_rows, section)
        if self.lora_rank:
            try:
                re.compile(self.lora_targets)
            except re.error as error:
                raise ParameterError(f"{section}.lora_targets", self.lora_targets, f"a regular expression ({error})") from error
            if not self.lora_targets:
                raise ParameterError(f"{section}.lora_targets", "", "all-linear, or a regular expression of layers' names")

    def share(self, processes: int, fewest: int, section: str) -> tuple[int, int]:
        """Divide an update's rows among processes: the accumulation first, then what is left of their number divides the batch.

        Args:
            processes: In all.
            fewest: Rows that each of them needs at every step.
            section: Where the options stand, for the error.

        Returns:
            Rows of each process and step, and steps gathered into one update.

        Raises:
            ParameterError: The rows cannot be divided equally.
        """
        shared = math.gcd(self.gradient_accumulation, processes)
        left = processes // shared
        if self.batch_size % left or self.batch_size // left < fewest:
            few = f", with at least {fewest} rows per process" if fewest > 1 else ""
            raise ParameterError(
                f"{section}.batch_size" if section else "batch_size",
                self.batch_size,
                f"with gradient_accumulation = {self.gradient_accumulation}, a number whose rows {processes} processes can share "
                f"equally{few} (gradient_accumulation is divided first, then batch_size); or set processes and nodes to other numbers",
            )
        return self.batch_size // left, self.gradient_accumulation // shared


class TinyOptions(Options, frozen=True, kw_only=True):
    """The tiny model: its size and its brief pretraining on noisy word problems (all values are our choice).

    Attributes:
        vocabulary: Entries asked of the byte-level BPE tokenizer.
        hidden: Width of the residual stream.
        layers: Transformer blocks.
        heads: Attention heads.
        intermediate: Width of the feed-forward layers; wide, since a small model's arithmetic is memory and lives there.
        positions: Longest sequence in tokens.
        rows: Generated problems to pretrain on.
        batch_size: Rows per step.
        learning_rate: Peak of AdamW's cosine schedule.
        beta2: Decay of AdamW's second moment: a brief training needs a shorter memory than the usual 0.999.
        initializer_range: Standard deviation of the initial weights: so narrow a model learns sums faster from larger ones.
        max_steps: Reasoning steps of the longest generated problem.
        max_number: Largest number in a generated problem.
        families: Families of problems, by their names in ``word_problems``; empty is the generator's own choice.
        retargeted: Share of problems that ask for another quantity than the last one.
        hardened: Share of problems that were made harder.
        wordings: Paraphrases of each sentence that are used.
        wrong_step: Share of solution steps that use a wrong operation or operand.
        wrong_result: Share of solution steps whose result is miscalculated.
    """

    vocabulary: Annotated[int, msgspec.Meta(ge=300)] = 900
    hidden: Positive = 128
    layers: Positive = 2
    heads: Positive = 4
    intermediate: Positive = 1024
    positions: Positive = 256
    rows: Annotated[int, msgspec.Meta(ge=1, le=MOST_ROWS)] = 6_000
    batch_size: Positive = 8
    learning_rate: Rate = 2e-3
    beta2: Annotated[float, msgspec.Meta(gt=0.0, lt=1.0)] = 0.98
    initializer_range: Rate = 0.08
    max_steps: Annotated[int, msgspec.Meta(ge=1, le=4)] = 3
    max_number: Annotated[int, msgspec.Meta(ge=10)] = 30
    families: list[str] = msgspec.field(default_factory=list)
    retargeted: Share = 0.15
    hardened: Share = 0.15
    wordings: Annotated[int, msgspec.Meta(ge=1, le=3)] = 3
    wrong_step: Share = 0.25
    wrong_result: Share = 0.0

    def check(self, section: str) -> None:
        """Refuse families that do not exist, and heads that the width cannot be divided among.

        Raises:
            ParameterError: They are asked for.
        """
        if unknown := [name for name in self.families if name not in FAMILY_NAMES]:
            raise ParameterError(f"{section}.families", unknown, "some of " + ", ".join(FAMILY_NAMES))
        if self.hidden % (2 * self.heads):
            # Rotary position embeddings turn the numbers of a head in pairs.
            raise ParameterError(f"{section}.hidden", self.hidden, f"a multiple of {2 * self.heads}, twice the number of heads")


class StudentOptions(ComputeOptions, frozen=True, kw_only=True):
    """Which model is taught.

    Attributes:
        base_model: ``tiny`` (built on the spot), a folder, an ``s3://`` URI, a hub id, ``gguf:<file>``, or
            ``package:<folder>/<file>.gguf`` for weights inside an installed Python package. The default is the paper's.
        start_from: ``base`` trains every run from ``base_model``, as the paper does; ``champion`` from the model store's champion,
            and from ``base_model`` as long as there is none (our choice, for recurring runs).
        revision: Branch, tag or commit of a hub id.
        chat_format: ``paper`` (USER/ASSISTANT), ``template`` (the tokenizer's own chat template) or ``plain``
            (Question/Answer).
        dtype: Precision in which the base model is kept; ``auto`` keeps what its files have.
        tiny: Size and pretraining of the tiny model.
    """

    base_model: str = "mistralai/Mistral-7B-v0.1"
    start_from: Literal["base", "champion"] = "base"
    revision: str = "main"
    chat_format: ChatFormat = "paper"
    dtype: PrecisionName = "auto"
    tiny: TinyOptions = TinyOptions()

    SECTION: ClassVar[str] = "student"

    def check(self, section: str) -> None:
        """Refuse a base model whose name no way of fetching takes, or that cannot have the chat format.

        Raises:
            ParameterError: Such a model is named.
        """
        name = f"{section}.base_model"
        kind, separator, place = self.base_model.partition(":")
        clean = without_credentials(self.base_model)
        if not self.base_model.strip() or (kind == "gguf" and not place):
            raise ParameterError(
                name, self.base_model, "tiny, a folder, an s3:// URI, a hub id, gguf:<file> or package:<folder>/<file>.gguf"
            )
        if clean != self.base_model:
            raise ParameterError(name, clean, "an address without credentials: it is written into records and reports")
        if self.base_model.startswith(("http://", "https://")):
            raise ParameterError(name, clean, "a folder, an s3:// URI or a hub id; download other addresses first")
        if kind == "package" and separator and not PACKAGE_FILE.fullmatch(place):
            raise ParameterError(name, self.base_model, "package:<package>/<file>")
        # Whether there is a champion, which has a format of its own, is known in the run alone.
        if self.base_model == "tiny" and self.start_from == "base":
            self.check_tiny(section)

    def check_tiny(self, section: str) -> None:
        """Refuse a chat format that the tiny model cannot have.

        Args:
            section: Where the options stand, for the error.

        Raises:
            ParameterError: The template of a tokenizer is asked for, and the tiny model's tokenizer has none.
        """
        if self.chat_format == "template":
            raise ParameterError(f"{section}.chat_format", "template", "plain or paper, since the tiny model has no chat template")
