"""The original's recurrent and linear heads: from features of one to three time points to a probability.

The arithmetic is the original's, except for the mask of absent time points: see `Recurrent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ainode.models.errors import CheckpointRefused

WeightTable = Mapping[str, Tensor]

# The original writes this value into every feature of an absent time point, after scaling.
ABSENT = -1.0


class GRUScratch(nn.Module):
    """The original's recurrent cell: one bias per gate, and the reset gate acts before the matrix product.

    torch.nn.GRU has two biases and resets after the product, so these weights do not fit it.
    Source: z = s(W_z [x; h]), r = s(W_r [x; h]), h' = z h + (1 - z) tanh(W_h [x; r h]).
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.W_z = nn.Linear(inputs + hidden, hidden)
        self.W_r = nn.Linear(inputs + hidden, hidden)
        self.W_h = nn.Linear(inputs + hidden, hidden)

    def forward(self, steps: Tensor, absent: Tensor) -> Tensor:
        """Return states (B, T, H) of steps (B, T, F); an absent step (True in (B, T)) leaves the state unchanged."""
        state = steps.new_zeros(len(steps), self.W_z.out_features)
        states = []
        for number in range(steps.shape[1]):
            inputs_and_state = torch.cat([steps[:, number], state], dim=1)
            keep = torch.sigmoid(self.W_z(inputs_and_state)).masked_fill(absent[:, number, None], 1.0)
            reset = torch.sigmoid(self.W_r(inputs_and_state))
            candidate = torch.tanh(self.W_h(torch.cat([steps[:, number], reset * state], dim=1)))
            state = keep * state + (1 - keep) * candidate
            states.append(state)
        return torch.stack(states, dim=1)


class Recurrent(nn.Module):
    """GRU, global attention, one logit. Corrected: the mask also counts for a batch of one.

    The original drops the mask when as many steps are absent as the batch has rows. With one patient this is the
    case of one missing scan: the original then reads -1 as features and gives the missing scan attention.
    """

    def __init__(self, inputs: int, hidden: int, attended: int | None) -> None:
        super().__init__()
        self.rnn = GRUScratch(inputs, hidden)
        self.attended = attended
        if attended is not None:
            self.W_a = nn.Linear(hidden, hidden)
            self.W_c = nn.Linear(2 * hidden, attended)
        self.dropout = nn.Dropout(0.3)
        self.fc = nn.Linear(hidden if attended is None else attended, 1)

    @classmethod
    def of(cls, table: WeightTable) -> Recurrent:
        """Return the head of a table of weights, with the table's sizes and weights.

        Raises: CheckpointRefused if the table holds no such head.
        """
        try:
            hidden, inputs_and_hidden = table["rnn.W_z.weight"].shape
            attended = table["W_c.weight"].shape[0] if "W_c.weight" in table else None
            network = cls(inputs_and_hidden - hidden, hidden, attended)
            weights = dict(table)
            for key, value in network.state_dict().items():
                if key.endswith("bias") and key not in weights:
                    weights[key] = torch.zeros_like(value)
            network.load_state_dict(weights)
        except (KeyError, RuntimeError, ValueError) as error:
            layers = "rnn.W_z, W_r, W_h, fc of one logit, and W_a and W_c for global attention"
            raise CheckpointRefused(f"not the weights of a recurrent head ({layers} are read): {error}") from error
        return network.eval()

    def forward(self, steps: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B,) and attention (B, T) of scaled steps (B, T, F), oldest first."""
        absent = (steps == ABSENT).any(dim=2)
        states = self.rnn(steps, absent)
        last = states[:, -1]
        if self.attended is None:
            only_last = torch.zeros_like(absent, dtype=steps.dtype)
            only_last[:, -1] = 1
            return self.fc(self.dropout(last))[:, 0], only_last
        scores = (self.W_a(states) * last[:, None]).sum(dim=2).masked_fill(absent, -torch.inf)
        attention = torch.softmax(scores, dim=1)
        context = (attention[:, :, None] * states).sum(dim=1)
        attended = torch.tanh(self.W_c(torch.cat([last, context], dim=1)))
        return self.fc(self.dropout(attended))[:, 0], attention


@dataclass(frozen=True, slots=True)
class Scaler:
    """Each feature minus its mean, over its scale."""

    mean: Tensor
    scale: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """Return scaled features, of the same shape."""
        return (features - self.mean) / self.scale


@dataclass(frozen=True, slots=True)
class HeadAnswer:
    """A head's probability, with its attention and its gradient.

    Shapes: attention (T,) sums to 1; gradient (T, F) is of the probability by the features before scaling. An absent
    scan has 0 in both.
    """

    probability: float
    attention: NDArray[np.float64]
    gradient: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RecurrentHead:
    """An ensemble for two and three time points: the means of the members' probabilities and attention."""

    scaler: Scaler
    members: tuple[Recurrent, ...]

    def __call__(self, features: Sequence[NDArray[np.float32] | None]) -> HeadAnswer:
        """Return the answer to the features (F,) of each time point, oldest first, None for an absent time point."""
        leaves = {
            index: torch.from_numpy(features_of_scan).clone().requires_grad_()
            for index, features_of_scan in enumerate(features)
            if features_of_scan is not None
        }
        absent = torch.full_like(self.scaler.mean, ABSENT)
        steps = torch.stack(
            [self.scaler(leaves[index]) if index in leaves else absent for index in range(len(features))]
        )
        with torch.enable_grad():
            answers = [member(steps[None]) for member in self.members]
            probability = torch.stack([torch.sigmoid(logit[0]) for logit, _ in answers]).mean()
            attention = torch.stack([weights[0] for _, weights in answers]).mean(dim=0)
            gradients = torch.autograd.grad(probability, list(leaves.values()))
        gradient = np.zeros((len(features), len(absent)), np.float32)
        for index, gradient_of_scan in zip(leaves, gradients, strict=True):
            gradient[index] = gradient_of_scan.numpy()
        return HeadAnswer(float(probability.detach()), attention.detach().numpy().astype(np.float64), gradient)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """The original's model for one time point: logistic regression on scaled features."""

    scaler: Scaler
    weight: Tensor
    bias: float

    def __call__(self, features: NDArray[np.float32]) -> HeadAnswer:
        """Return the answer to the features (F,) of one scan."""
        scaled = self.scaler(torch.from_numpy(features))
        probability = float(torch.sigmoid(scaled @ self.weight + self.bias))
        gradient = (probability * (1 - probability) * self.weight / self.scaler.scale).numpy()
        return HeadAnswer(probability, np.ones(1), gradient[None].astype(np.float32))


def recurrent_head(table: WeightTable) -> RecurrentHead:
    """Return the ensemble in a table: `scaler.mean`, `scaler.scale`, and `0.rnn.W_z.weight`, ... per member."""
    numbers = sorted({int(key.split(".")[0]) for key in table if key.split(".")[0].isdigit()})
    members = [
        Recurrent.of(
            {key.removeprefix(f"{number}."): value for key, value in table.items() if key.startswith(f"{number}.")}
        )
        for number in numbers
    ]
    if not members:
        raise CheckpointRefused(
            "no recurrent head in the table: keys begin with the member's number, `0.rnn.W_z.weight`"
        )
    return RecurrentHead(_scaler(table), tuple(members))


def linear_head(table: WeightTable) -> LinearHead:
    """Return the linear model in a table: `scaler.mean`, `scaler.scale`, `linear.weight`, `linear.bias`."""
    try:
        return LinearHead(_scaler(table), table["linear.weight"].reshape(-1), float(table["linear.bias"]))
    except KeyError as error:
        raise CheckpointRefused(f"no linear model in the table: {error} is missing") from error


def _scaler(table: WeightTable) -> Scaler:
    try:
        return Scaler(table["scaler.mean"], table["scaler.scale"])
    except KeyError as error:
        raise CheckpointRefused(f"no scaler in the table: {error} is missing") from error
