"""From features of one to three time points to a probability: the original's recurrent and linear heads.

All arithmetic is the original's, but for its mask: see `Recurrent`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ainode.models.errors import CheckpointRefused

Table = Mapping[str, Tensor]

# What the original writes into every feature of an absent time point, after scaling.
ABSENT = -1.0


class GRUScratch(nn.Module):
    """The original's cell: one bias per gate, and the reset gate acts before the matrix product.

    torch.nn.GRU has two biases and resets after the product, so it cannot hold these weights.
    Source: z = s(W_z [x; h]), r = s(W_r [x; h]), h' = z h + (1 - z) tanh(W_h [x; r h]).
    """

    def __init__(self, inputs: int, hidden: int) -> None:
        super().__init__()
        self.W_z = nn.Linear(inputs + hidden, hidden)
        self.W_r = nn.Linear(inputs + hidden, hidden)
        self.W_h = nn.Linear(inputs + hidden, hidden)

    def forward(self, steps: Tensor, absent: Tensor) -> Tensor:
        """Return states (B, T, H) of steps (B, T, F); an absent step (B, T) keeps the state."""
        state = steps.new_zeros(len(steps), self.W_z.out_features)
        states = []
        for number in range(steps.shape[1]):
            both = torch.cat([steps[:, number], state], dim=1)
            keep = torch.sigmoid(self.W_z(both)).masked_fill(absent[:, number, None], 1.0)
            reset = torch.sigmoid(self.W_r(both))
            new = torch.tanh(self.W_h(torch.cat([steps[:, number], reset * state], dim=1)))
            state = keep * state + (1 - keep) * new
            states.append(state)
        return torch.stack(states, dim=1)


class Recurrent(nn.Module):
    """GRU, global attention, one logit. Corrected: the mask counts for a batch of one as well.

    The original drops the mask when as many steps are absent as the batch has rows: with one patient,
    exactly when one scan is missing; then -1 was read as if it were features, and given attention.
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
    def of(cls, table: Table) -> Recurrent:
        """Return the head whose sizes are those of a table of weights, with these weights.

        Raises: CheckpointRefused if the table is not one of this head.
        """
        try:
            hidden, both = table["rnn.W_z.weight"].shape
            attended = table["W_c.weight"].shape[0] if "W_c.weight" in table else None
            network = cls(both - hidden, hidden, attended)
            known = dict(table)
            for key, value in network.state_dict().items():
                if key.endswith("bias") and key not in known:
                    known[key] = torch.zeros_like(value)
            network.load_state_dict(known)
        except (KeyError, RuntimeError, ValueError) as error:
            what = "rnn.W_z, W_r, W_h, fc of one logit, and W_a and W_c for global attention"
            raise CheckpointRefused(f"not the weights of a recurrent head ({what} are read): {error}") from error
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
class Said:
    """A head's answer.

    Shapes: attention (T,), sums to 1, 0 where the scan is absent; gradient (T, F) of the probability by the
    features before scaling, 0 where absent.
    """

    probability: float
    attention: NDArray[np.float64]
    gradient: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RecurrentHead:
    """An ensemble for two and three time points: probabilities are averaged, and so is the attention."""

    scaler: Scaler
    members: tuple[Recurrent, ...]

    def __call__(self, features: Sequence[NDArray[np.float32] | None]) -> Said:
        """Return the answer to features (F,) of each time point, oldest first, None where absent."""
        leaves = {
            i: torch.from_numpy(one).clone().requires_grad_() for i, one in enumerate(features) if one is not None
        }
        absent = torch.full_like(self.scaler.mean, ABSENT)
        steps = torch.stack([self.scaler(leaves[i]) if i in leaves else absent for i in range(len(features))])
        with torch.enable_grad():
            said = [member(steps[None]) for member in self.members]
            probability = torch.stack([torch.sigmoid(logit[0]) for logit, _ in said]).mean()
            attention = torch.stack([weights[0] for _, weights in said]).mean(dim=0)
            gradients = torch.autograd.grad(probability, list(leaves.values()))
        gradient = np.zeros((len(features), len(absent)), np.float32)
        for index, found in zip(leaves, gradients, strict=True):
            gradient[index] = found.numpy()
        return Said(float(probability.detach()), attention.detach().numpy().astype(np.float64), gradient)


@dataclass(frozen=True, slots=True)
class LinearHead:
    """The original's model for one time point: logistic regression on scaled features."""

    scaler: Scaler
    weight: Tensor
    bias: float

    def __call__(self, features: NDArray[np.float32]) -> Said:
        """Return the answer to the features (F,) of one scan."""
        scaled = self.scaler(torch.from_numpy(features))
        probability = float(torch.sigmoid(scaled @ self.weight + self.bias))
        gradient = (probability * (1 - probability) * self.weight / self.scaler.scale).numpy()
        return Said(probability, np.ones(1), gradient[None].astype(np.float32))


def recurrent_head(table: Table) -> RecurrentHead:
    """Return the ensemble in a table: `scaler.mean`, `scaler.scale`, and `0.rnn.W_z.weight`, ... per member."""
    numbers = sorted({int(key.split(".")[0]) for key in table if key.split(".")[0].isdigit()})
    members = [
        Recurrent.of({key.removeprefix(f"{n}."): value for key, value in table.items() if key.startswith(f"{n}.")})
        for n in numbers
    ]
    if not members:
        raise CheckpointRefused(
            "no recurrent head in the table: keys begin with the member's number, `0.rnn.W_z.weight`"
        )
    return RecurrentHead(_scaler(table), tuple(members))


def linear_head(table: Table) -> LinearHead:
    """Return the linear model in a table: `scaler.mean`, `scaler.scale`, `linear.weight`, `linear.bias`."""
    try:
        return LinearHead(_scaler(table), table["linear.weight"].reshape(-1), float(table["linear.bias"]))
    except KeyError as error:
        raise CheckpointRefused(f"no linear model in the table: {error} is missing") from error


def _scaler(table: Table) -> Scaler:
    try:
        return Scaler(table["scaler.mean"], table["scaler.scale"])
    except KeyError as error:
        raise CheckpointRefused(f"no scaler in the table: {error} is missing") from error
