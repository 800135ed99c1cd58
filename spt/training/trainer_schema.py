"""The trainer settings of a run, under the names that transformers' Trainer gives them, each with its range.

Without torch, so that a wrong setting is told at once.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from spt.errors import SptError, nearest

EXPONENTIAL = "exponential"

GAMMA = 0.95  # of exponential: the factor after every epoch
SCHEDULES = (
    EXPONENTIAL,
    "linear",
    "cosine",
    "cosine_with_restarts",
    "polynomial",
    "constant",
    "constant_with_warmup",
    "inverse_sqrt",
    "reduce_lr_on_plateau",
    "cosine_with_min_lr",
    "cosine_warmup_with_min_lr",
    "warmup_stable_decay",
)
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")

FLOAT32_MAX = 3.4028234663852886e38
ABOVE_0 = "a finite number above 0 (in float32)"
Positive = Annotated[float, Field(gt=0, le=FLOAT32_MAX, description=ABOVE_0)]
NotNegative = Annotated[float, Field(ge=0, description="a finite number of at least 0")]
Beta = Annotated[float, Field(ge=0, lt=1, description="at least 0 and below 1")]
Count = Annotated[int, Field(ge=1, description="a whole number of at least 1")]
CountOr0 = Annotated[int, Field(ge=0, description="a whole number of at least 0")]
Options = Annotated[dict[str, Any] | None, Field(description="names with values, as {name: value}")]
NAMED_VALUES = r"^[^=,]+=[^=,]+(,[^=,]+=[^=,]+)*$"


class TrainerSettings(BaseModel):
    """What `conf/trainer` and `trainer.<name>=<value>` set. Names and meanings are transformers' Trainer's.

    `lr_scheduler_type` also takes "exponential": the learning rate times `gamma` (0.95) after every epoch.
    """

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    learning_rate: Positive
    num_train_epochs: Positive = 3.0
    max_steps: Annotated[int, Field(ge=-1, description="at least 1, or -1 for num_train_epochs")] = -1
    per_device_train_batch_size: Count = 8
    per_device_eval_batch_size: Count = 8
    gradient_accumulation_steps: Count = 1
    train_sampling_strategy: Literal["group_by_length", "random", "sequential"] = "group_by_length"

    lr_scheduler_type: Literal[SCHEDULES] = "linear"  # type: ignore[valid-type]
    lr_scheduler_kwargs: Options = None
    warmup_steps: NotNegative = 0  # below 1: a share of all steps
    optim: Literal["adamw_torch", "adamw_torch_fused", "adafactor", "adagrad", "rmsprop", "sgd"] = "adamw_torch"
    optim_args: Annotated[str | None, Field(pattern=NAMED_VALUES, description="name=value,name=value")] = None
    adam_beta1: Beta = 0.9
    adam_beta2: Beta = 0.999
    adam_epsilon: NotNegative = 1e-8
    weight_decay: NotNegative = 0.0
    max_grad_norm: NotNegative = 1.0  # 0: gradients are not clipped

    bf16: bool = False
    fp16: bool = False
    tf32: bool = False
    use_cpu: bool = False
    full_determinism: bool = False
    torch_compile: bool = False
    torch_compile_backend: Annotated[str | None, Field(description="the name of a backend")] = None
    torch_compile_mode: Literal[COMPILE_MODES] | None = None  # type: ignore[valid-type]
    gradient_checkpointing: bool = False

    dataloader_num_workers: CountOr0 = 0
    ddp_timeout: Count = 1800  # seconds

    @property
    def float32_products(self) -> str:
        """How precise products of float32 matrices are, in torch's words: "high" is TF32."""
        return "high" if self.tf32 else "highest"

    @property
    def compiles(self) -> bool:
        """Whether the model is compiled by torch.compile."""
        return self.torch_compile or self.torch_compile_backend is not None or self.torch_compile_mode is not None


def checked_settings(values: Mapping[str, Any]) -> TrainerSettings:
    """The settings in `values`, checked as far as that needs no device.

    Raises:
        SptError: where a name is not a setting, a value is outside its range, or two of them contradict each other.
    """
    try:
        settings = TrainerSettings(**values)
    except ValidationError as error:
        raise SptError(_explain(error)) from error
    if settings.max_steps == 0:
        raise SptError("trainer.max_steps must be at least 1, or -1 for num_train_epochs, not 0")
    options = settings.lr_scheduler_kwargs or {}
    if settings.lr_scheduler_type == EXPONENTIAL:
        if wrong := sorted(options.keys() - {"gamma"}):
            hint = nearest(wrong[0], ["gamma"])
            raise SptError(f"trainer.lr_scheduler_kwargs.{wrong[0]} is not an option of exponential: {hint}")
        gamma = options.get("gamma", GAMMA)
        if isinstance(gamma, bool) or not isinstance(gamma, int | float) or not 0 < gamma <= 1:
            raise SptError(f"trainer.lr_scheduler_kwargs.gamma must be above 0 and at most 1, not {gamma!r}")
    elif options and settings.lr_scheduler_type in ("constant", "constant_with_warmup"):
        raise SptError(f"trainer.lr_scheduler_kwargs has no effect on lr_scheduler_type={settings.lr_scheduler_type}")
    if settings.warmup_steps and settings.lr_scheduler_type in (EXPONENTIAL, "constant", "reduce_lr_on_plateau"):
        name = settings.lr_scheduler_type
        raise SptError(f"trainer.warmup_steps has no effect on lr_scheduler_type={name}: set it to 0")
    if "weight_decay" in (settings.optim_args or ""):
        raise SptError("trainer.optim_args: weight_decay has no effect there: set trainer.weight_decay")
    if not settings.optim.startswith("adamw"):
        for name in ("adam_beta1", "adam_beta2", "adam_epsilon"):
            if getattr(settings, name) != TrainerSettings.model_fields[name].default:
                raise SptError(f"trainer.{name} has no effect on optim={settings.optim}: leave it out")
    if settings.torch_compile_mode is not None and settings.torch_compile_backend not in (None, "inductor"):
        raise SptError(f"trainer.torch_compile_mode has no effect on the backend {settings.torch_compile_backend}")
    if settings.bf16 and settings.fp16:
        raise SptError("trainer.bf16 and trainer.fp16 are both true: choose one of them")
    return settings


def _explain(error: ValidationError) -> str:
    """The first of the model's complaints in one line that names the setting."""
    first, *_ = error.errors()
    name, value = str(first["loc"][0]), first["input"]
    fields = TrainerSettings.model_fields
    if first["type"] == "extra_forbidden":
        return f"trainer.{name} is not a setting of a run: {nearest(name, fields)}"
    if first["type"] == "missing":
        return f"trainer.{name} is missing: add trainer.{name}=..."
    if first["type"] == "literal_error":
        kinds = [fields[name].annotation, *get_args(fields[name].annotation)]
        known = next(args for kind in kinds if (args := [arg for arg in get_args(kind) if isinstance(arg, str)]))
        return f"unknown trainer.{name} {value!r}: {nearest(value, known)}"
    if first["type"] in ("int_type", "float_type", "bool_type", "int_from_float"):
        return f"trainer.{name} must be of type {first['type'].partition('_')[0]}, not {value!r}"
    return f"trainer.{name} must be {fields[name].description or first['msg']}, not {value!r}"
