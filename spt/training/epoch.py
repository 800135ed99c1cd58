"""An epoch of training, and its row in the history of a run."""

from dataclasses import dataclass
from typing import Any

from spt.modeling.slot_cosine_and_rank import Measures
from spt.training.evaluate_split import Evaluation


@dataclass(frozen=True)
class Epoch:
    """The result of an epoch: `learning_rate` is its last step's, `dev` the evaluation after it.

    `prefixes` tells how alike the prefix slots are (`slot_similarity`); None where the model carries none.
    """

    epoch: int
    step: int
    train_loss: float
    learning_rate: float
    dev: Evaluation
    seconds: float
    prefixes: Measures | None

    @classmethod
    def from_row(cls, row: dict[str, Any], outcomes: list) -> "Epoch":
        """An epoch from its row of the history and the outcomes of its dev examples."""
        kept = {name: row[name] for name in ("epoch", "step", "train_loss", "learning_rate", "seconds")}
        scores = {n.removeprefix("dev_"): value for n, value in row.items() if n.startswith("dev_") and n != "dev_loss"}
        dev = Evaluation(row["dev_loss"], row["penalty"], scores, outcomes, row["only_class"])
        return cls(**kept, dev=dev, prefixes=row.get("prefixes"))

    @property
    def row(self) -> dict[str, Any]:
        """The epoch as a row of the history."""
        return {
            "epoch": self.epoch,
            "step": self.step,
            "train_loss": self.train_loss,
            "learning_rate": self.learning_rate,
            "penalty": self.dev.penalty,
            "dev_loss": self.dev.loss,
            **{f"dev_{name}": value for name, value in self.dev.scores.items()},
            "only_class": self.dev.only_class,
            "seconds": self.seconds,
            **({} if self.prefixes is None else {"prefixes": self.prefixes}),
        }
